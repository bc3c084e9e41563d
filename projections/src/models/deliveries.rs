//! Deliveries, their attempts and the dead letters among them, folded from the delivery log.
//!
//! Facts come late or twice. Of the facts about a delivery the greatest by [`DeliveryRecord::order`] tells its
//! status; every attempt is kept as a row of its own; how many deliveries are in each status is counted along.

mod queries;
mod state;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use domain::{DeliveryFact, DeliveryRecord, Source};

use crate::projection::{ApplyError, Fact, Incoming, Projection};
use crate::sql::{Value, Writer};

pub(super) use queries::counts;
pub use queries::{AttemptRow, DeadLetterEndpoint, Deliveries, DeliveryFilter, DeliveryRow};
use state::State;
pub use state::{DeliveryStatus, InvalidStatus};

pub(super) const NAME: &str = "deliveries";
const TABLE: &str = "deliveries";
const ATTEMPTS: &str = "attempts";
pub(super) const COUNTS: &str = "delivery_counts";

/// The fold.
#[derive(Debug)]
pub(super) struct DeliveriesProjection;

#[async_trait]
impl Projection for DeliveriesProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        1
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Deliveries]
    }

    fn tables(&self) -> &'static [&'static str] {
        &[TABLE, ATTEMPTS, COUNTS]
    }

    async fn apply(&self, batch: &[Incoming], out: &mut Writer<'_>) -> Result<(), ApplyError> {
        let facts: Vec<(&Incoming, &DeliveryRecord)> = batch
            .iter()
            .filter_map(|incoming| match &incoming.fact {
                Fact::Delivery(record) => Some((incoming, record)),
                Fact::Commit(_) | Fact::Message(_) => None,
            })
            .collect();
        let mut states = load(&facts, out).await?;
        let mut counts = Counts::default();
        for (incoming, record) in &facts {
            let key = (incoming.tenant.clone(), record.delivery.as_str().to_owned());
            let before = states.get(&key);
            let after = State::after(before, record);
            counts.change(&incoming.tenant, before, &after);
            states.insert(key, after);
        }
        let rows = states
            .into_iter()
            .map(|((tenant, id), state)| state.row(&tenant, &id))
            .collect();
        out.insert(TABLE, &state::COLUMNS, rows, &state::replace())
            .await?;
        let attempts = facts
            .iter()
            .filter_map(|(incoming, record)| attempt(incoming, record))
            .collect();
        let conflict = "ON CONFLICT (tenant, delivery, run, attempt, try_id) DO NOTHING";
        out.insert(ATTEMPTS, &ATTEMPT_COLUMNS, attempts, conflict).await?;
        counts.write(out).await
    }
}

type Key = (String, String);

/// What is known of the deliveries that a batch is about.
async fn load(
    facts: &[(&Incoming, &DeliveryRecord)],
    out: &mut Writer<'_>,
) -> Result<BTreeMap<Key, State>, sqlx::Error> {
    let wanted: BTreeSet<(&str, &str)> = facts
        .iter()
        .map(|(incoming, record)| (incoming.tenant.as_str(), record.delivery.as_str()))
        .collect();
    let wanted = wanted
        .into_iter()
        .map(|(tenant, id)| vec![tenant.into(), id.into()])
        .collect();
    out.find(TABLE, "id", wanted)
        .await?
        .iter()
        .map(State::read)
        .collect()
}

const ATTEMPT_COLUMNS: [&str; 11] = [
    "tenant",
    "delivery",
    "run",
    "attempt",
    "try_id",
    "at",
    "status",
    "error",
    "detail",
    "response_body",
    "duration_ms",
];

fn attempt(incoming: &Incoming, record: &DeliveryRecord) -> Option<Vec<Value>> {
    let DeliveryFact::Attempted { attempt, outcome, .. } = &record.fact else {
        return None;
    };
    // The last part of the id under which the fact was appended tells one try from another.
    let try_id = incoming.message_id.rsplit(':').next().unwrap_or_default();
    Some(vec![
        incoming.tenant.as_str().into(),
        record.delivery.as_str().into(),
        record.run.into(),
        (*attempt).into(),
        try_id.into(),
        record.at.into(),
        outcome.status.map(i64::from).into(),
        outcome.error.map(|error| error.as_str().to_owned()).into(),
        outcome.detail.clone().into(),
        outcome.response_body.clone().into(),
        outcome.duration_ms.into(),
    ])
}

/// How a batch changes the number of deliveries in each status.
#[derive(Debug, Default)]
struct Counts(BTreeMap<(String, DeliveryStatus), i64>);

impl Counts {
    /// A status that was entered and left again keeps its entry, with nothing in it: so the rows are the same
    /// however the log is cut into batches.
    fn change(&mut self, tenant: &str, before: Option<&State>, after: &State) {
        let before = before.map(State::status);
        if before == Some(after.status()) {
            return;
        }
        if let Some(before) = before {
            *self.0.entry((tenant.to_owned(), before)).or_default() -= 1;
        }
        *self.0.entry((tenant.to_owned(), after.status())).or_default() += 1;
    }

    async fn write(self, out: &mut Writer<'_>) -> Result<(), ApplyError> {
        let rows = self.0.into_iter();
        let rows =
            rows.map(|((tenant, status), change)| vec![tenant.into(), status.as_str().into(), change.into()]);
        let conflict =
            "ON CONFLICT (tenant, status) DO UPDATE SET deliveries = {t}.deliveries + excluded.deliveries";
        Ok(out
            .insert(
                COUNTS,
                &["tenant", "status", "deliveries"],
                rows.collect(),
                conflict,
            )
            .await?)
    }
}
