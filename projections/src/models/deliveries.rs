//! Deliveries, their attempts and the dead letters among them, folded from the delivery log.
//!
//! Facts come late or twice. Of the facts about a delivery the greatest by [`DeliveryRecord::order`] tells its
//! status; every attempt is kept as a row of its own; how many deliveries are in each status is counted along.

mod queries;
pub(crate) mod retention;
mod state;

use async_trait::async_trait;
use domain::{DeliveryFact, DeliveryRecord, ResponseHead, Source};

use crate::projection::{ApplyError, Fact, Incoming, Projection};
use crate::rows::Rows;
use crate::table::{Column, Growth, Key, Row, Table};

pub(super) use queries::counts;
pub use queries::{
    AttemptRow, DeadLetterEndpoint, DeadLetterFilter, Deliveries, DeliveryFilter, DeliveryRow,
};
pub use state::{DeliveryStatus, InvalidStatus};
use state::{State, TABLE};

pub(super) const NAME: &str = "deliveries";
static ATTEMPTS: Table = Table {
    name: "attempts",
    key: 5,
    columns: &[
        Column::text("tenant"),
        Column::text("delivery"),
        Column::int("run"),
        Column::int("attempt"),
        Column::text("try_id"),
        Column::int("at"),
        Column::int("status"),
        Column::text("error"),
        Column::text("detail"),
        Column::text("response_body"),
        Column::int("duration_ms"),
        Column::text("response_head"),
        Column::int("sequence"),
    ],
    growth: Growth::First,
};
static COUNTS: Table = Table {
    name: "delivery_counts",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::text("status"),
        Column::int("deliveries"),
    ],
    growth: Growth::Summed,
};

/// The fold.
#[derive(Debug)]
pub(super) struct DeliveriesProjection;

#[async_trait]
impl Projection for DeliveriesProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        2
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Deliveries]
    }

    fn tables(&self) -> &'static [&'static Table] {
        const { &[&TABLE, &ATTEMPTS, &COUNTS] }
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        let facts: Vec<(&Incoming, &DeliveryRecord)> = batch
            .iter()
            .filter_map(|incoming| match &incoming.fact {
                Fact::Delivery(record) => Some((incoming, record)),
                Fact::Commit(_) | Fact::Message(_) | Fact::Claim | Fact::Unreadable => None,
            })
            .collect();
        let keys = facts.iter().map(|(incoming, record)| key(incoming, record));
        rows.load(&TABLE, keys).await?;
        for (incoming, record) in facts {
            let before = rows.get(&TABLE, key(incoming, record)).await?;
            let before = before.as_ref().map(State::read).transpose()?;
            let after = State::after(before.as_ref(), record);
            count(rows, &incoming.tenant, before.as_ref(), &after);
            if let Some(attempt) = attempt(incoming, record) {
                rows.add(&ATTEMPTS, attempt);
            }
            rows.put(&TABLE, after.row(&incoming.tenant, record.delivery.as_str()));
        }
        Ok(())
    }
}

fn key(incoming: &Incoming, record: &DeliveryRecord) -> Key {
    vec![incoming.tenant.as_str().into(), record.delivery.as_str().into()]
}

fn attempt(incoming: &Incoming, record: &DeliveryRecord) -> Option<Row> {
    let DeliveryFact::Attempted { attempt, outcome, .. } = &record.fact else {
        return None;
    };
    // The last part of the id under which the fact was appended tells one try from another.
    let try_id = incoming.message_id.rsplit(':').next().unwrap_or_default();
    Some(ATTEMPTS.row(vec![
        ("tenant", incoming.tenant.as_str().into()),
        ("delivery", record.delivery.as_str().into()),
        ("run", record.run.into()),
        ("attempt", (*attempt).into()),
        ("try_id", try_id.into()),
        ("at", record.at.into()),
        ("status", outcome.status.map(i64::from).into()),
        (
            "error",
            outcome.error.map(|error| error.as_str().to_owned()).into(),
        ),
        ("detail", outcome.detail.clone().into()),
        ("response_body", outcome.response_body.clone().into()),
        ("duration_ms", outcome.duration_ms.into()),
        ("response_head", outcome.response_head.as_ref().map(head).into()),
        ("sequence", incoming.position.sequence.into()),
    ]))
}

/// A response's head as JSON. PostgreSQL's texts hold no NUL, and neither do fields of HTTP.
fn head(head: &ResponseHead) -> String {
    serde_json::to_string(head).unwrap_or_default()
}

/// Counts a delivery where it has come to another status.
///
/// A status that was entered and left again keeps its row, with nothing in it: so the rows are the same however the
/// log is cut into batches.
fn count(rows: &mut Rows<'_>, tenant: &str, before: Option<&State>, after: &State) {
    let (before, after) = (before.map(State::status), after.status());
    if before == Some(after) {
        return;
    }
    let changes = before.map(|before| (before, -1_i64)).into_iter();
    for (status, by) in changes.chain([(after, 1)]) {
        rows.add(&COUNTS, vec![tenant.into(), status.as_str().into(), by.into()]);
    }
}
