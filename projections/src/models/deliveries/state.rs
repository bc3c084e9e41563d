//! What is known of one delivery, and how a fact changes it.

use std::str::FromStr;

use domain::{AttemptOutcome, DeliveryFact, DeliveryRecord, Next, Timestamp};
use serde::Serialize;

use crate::sql::{Value, unreadable};
use crate::table::{Column, Growth, Row, Table};

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Not tried yet, or not since it was redriven.
    Pending,
    /// The last attempt failed; another is due.
    Failed,
    /// It arrived.
    Delivered,
    /// It used up its attempts.
    Dead,
}

/// A text that is none of the statuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of pending, delivered, failed, dead")]
pub struct InvalidStatus;

impl DeliveryStatus {
    /// The status as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

impl FromStr for DeliveryStatus {
    type Err = InvalidStatus;

    fn from_str(text: &str) -> Result<Self, InvalidStatus> {
        [Self::Pending, Self::Failed, Self::Delivered, Self::Dead]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(InvalidStatus)
    }
}

/// A row of the table `deliveries`, but for its key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    endpoint: String,
    event: String,
    event_type: String,
    shard: u16,
    sequence: u64,
    order: (u32, u32),
    status: DeliveryStatus,
    last_status: Option<i64>,
    last_error: Option<String>,
    next_due: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
    completed_at: Option<Timestamp>,
    discarded_at: Option<Timestamp>,
}

pub(super) static TABLE: Table = Table {
    name: "deliveries",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::text("id"),
        Column::text("endpoint"),
        Column::text("event"),
        Column::text("event_type"),
        Column::int("shard"),
        Column::int("sequence"),
        Column::int("run"),
        Column::int("step"),
        Column::text("status"),
        Column::int("last_status"),
        Column::text("last_error"),
        Column::int("next_due"),
        Column::int("created_at"),
        Column::int("updated_at"),
        Column::int("completed_at"),
        Column::int("discarded_at"),
    ],
    growth: Growth::Kept,
};

impl State {
    pub(super) fn status(&self) -> DeliveryStatus {
        self.status
    }

    /// What is known after one more fact.
    pub(super) fn after(before: Option<&Self>, record: &DeliveryRecord) -> Self {
        let Some(before) = before else {
            let mut new = Self::new(record);
            new.take(record);
            return new;
        };
        let mut after = before.clone();
        // The earliest fact tells when the delivery came into being, even where the first comes late.
        after.created_at = after.created_at.min(record.at);
        // An attempt repeated after a crash has the same order; the later record is the newer truth.
        let repeated =
            matches!(&record.fact, DeliveryFact::Attempted { next, .. } if *next != Next::Delivered);
        if record.order() > before.order || (record.order() == before.order && repeated) {
            after.take(record);
        }
        after
    }

    fn new(record: &DeliveryRecord) -> Self {
        Self {
            endpoint: record.endpoint.as_str().to_owned(),
            event: record.message.id.as_str().to_owned(),
            event_type: record.message.event_type.as_str().to_owned(),
            shard: record.message.position.shard,
            sequence: record.message.position.sequence,
            order: record.order(),
            status: DeliveryStatus::Pending,
            last_status: None,
            last_error: None,
            next_due: None,
            created_at: record.at,
            updated_at: record.at,
            completed_at: None,
            discarded_at: None,
        }
    }

    fn take(&mut self, record: &DeliveryRecord) {
        self.order = record.order();
        self.updated_at = record.at;
        match &record.fact {
            DeliveryFact::Created | DeliveryFact::Redriven => {
                self.status = DeliveryStatus::Pending;
                self.next_due = Some(record.at);
                self.completed_at = None;
                self.discarded_at = None;
            }
            DeliveryFact::Attempted { outcome, next, .. } => self.attempted(outcome, next, record.at),
            DeliveryFact::Discarded => {
                // Only dead letters are discarded; where that fact comes late, the discard tells of it.
                self.status = DeliveryStatus::Dead;
                self.next_due = None;
                self.completed_at = self.completed_at.or(Some(record.at));
                self.discarded_at = Some(record.at);
            }
        }
    }

    fn attempted(&mut self, outcome: &AttemptOutcome, next: &Next, at: Timestamp) {
        self.last_status = outcome.status.map(i64::from);
        self.last_error = outcome.error.map(|error| error.as_str().to_owned());
        self.discarded_at = None;
        (self.status, self.next_due, self.completed_at) = match next {
            Next::Delivered => (DeliveryStatus::Delivered, None, Some(at)),
            Next::Again { due } => (DeliveryStatus::Failed, Some(*due), None),
            Next::Dead => (DeliveryStatus::Dead, None, Some(at)),
        };
    }

    /// The row as it is stored, in the order of the columns of [`TABLE`].
    pub(super) fn row(self, tenant: &str, id: &str) -> Row {
        vec![
            tenant.into(),
            id.into(),
            self.endpoint.into(),
            self.event.into(),
            self.event_type.into(),
            self.shard.into(),
            self.sequence.into(),
            self.order.0.into(),
            self.order.1.into(),
            self.status.as_str().into(),
            self.last_status.into(),
            self.last_error.into(),
            self.next_due.into(),
            self.created_at.into(),
            self.updated_at.into(),
            self.completed_at.into(),
            self.discarded_at.into(),
        ]
    }

    /// Reads a row back.
    pub(super) fn read(row: &Row) -> Result<Self, sqlx::Error> {
        let text = |column| TABLE.get(row, column).and_then(Value::as_text).map(str::to_owned);
        let int = |column| TABLE.get(row, column).and_then(Value::as_int);
        let time = |column| int(column).map(Timestamp::from_millis);
        let status = TABLE.text(row, "status").parse();
        Ok(Self {
            endpoint: text("endpoint").unwrap_or_default(),
            event: text("event").unwrap_or_default(),
            event_type: text("event_type").unwrap_or_default(),
            shard: number(row, "shard")?,
            sequence: number(row, "sequence")?,
            order: (number(row, "run")?, number(row, "step")?),
            status: status.map_err(|error| unreadable("status", error))?,
            last_status: int("last_status"),
            last_error: text("last_error"),
            next_due: time("next_due"),
            created_at: Timestamp::from_millis(TABLE.int(row, "created_at")),
            updated_at: Timestamp::from_millis(TABLE.int(row, "updated_at")),
            completed_at: time("completed_at"),
            discarded_at: time("discarded_at"),
        })
    }
}

/// An integer of a row, as the unsigned type it was written from.
fn number<T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>>(
    row: &Row,
    column: &'static str,
) -> Result<T, sqlx::Error> {
    T::try_from(TABLE.int(row, column)).map_err(|error| unreadable(column, error))
}

#[cfg(test)]
mod tests {
    use domain::{DeliveryId, EndpointId, ErrorClass, EventId, MessageRef, TenantId};

    use super::DeliveryStatus::{Dead, Delivered, Failed, Pending};
    use super::*;

    fn record(run: u32, at: i64, fact: DeliveryFact) -> DeliveryRecord {
        let tenant: TenantId = "ten_00000000000000000000000007".parse().unwrap();
        let id: EventId = "evt_00000000000000000000000008".parse().unwrap();
        let endpoint: EndpointId = "ep_00000000000000000000000009".parse().unwrap();
        DeliveryRecord {
            v: DeliveryRecord::VERSION,
            delivery: DeliveryId::derive(&tenant, &id, &endpoint),
            message: MessageRef {
                id,
                event_type: "invoice.paid".parse().unwrap(),
                position: "m0-42".parse().unwrap(),
                published_at: None,
            },
            tenant,
            endpoint,
            run,
            at: Timestamp::from_millis(at),
            fact,
            trigger: None,
            recovers: false,
        }
    }

    fn tried(attempt: u32, next: Next) -> DeliveryFact {
        let failed = next != Next::Delivered;
        let outcome = AttemptOutcome {
            status: Some(if failed { 500 } else { 200 }),
            error: failed.then_some(ErrorClass::Status),
            detail: None,
            response_body: None,
            duration_ms: 1,
            ..AttemptOutcome::default()
        };
        DeliveryFact::Attempted {
            attempt,
            outcome,
            next,
        }
    }

    fn again() -> Next {
        Next::Again {
            due: Timestamp::from_millis(99),
        }
    }

    fn fold(records: &[DeliveryRecord]) -> State {
        let mut state = None;
        for record in records {
            state = Some(State::after(state.as_ref(), record));
        }
        state.unwrap()
    }

    #[test]
    fn the_whole_life_of_a_delivery() {
        let life = [
            record(1, 10, DeliveryFact::Created),
            record(1, 11, tried(1, again())),
            record(1, 12, tried(2, Next::Dead)),
            record(2, 13, DeliveryFact::Redriven),
            record(2, 14, tried(1, Next::Delivered)),
        ];
        let statuses: Vec<_> = (1..=5).map(|end| fold(&life[..end]).status).collect();
        assert_eq!(statuses, [Pending, Failed, Dead, Pending, Delivered]);
        let end = fold(&life);
        assert_eq!(
            (end.created_at.as_millis(), end.completed_at),
            (10, Some(Timestamp::from_millis(14)))
        );
    }

    #[test]
    fn a_row_is_read_back_as_it_was() {
        let life = [
            record(1, 10, DeliveryFact::Created),
            record(3, 11, tried(1, again())),
            record(3, 12, tried(2, Next::Dead)),
            record(3, 13, DeliveryFact::Discarded),
        ];
        for end in 1..=life.len() {
            let state = fold(&life[..end]);
            let row = state.clone().row("t", "d");
            assert_eq!(row.len(), TABLE.columns.len());
            assert_eq!(State::read(&row).unwrap(), state);
        }
    }

    #[test]
    fn late_and_repeated_facts_change_nothing_that_holds() {
        let ordered = fold(&[
            record(1, 10, DeliveryFact::Created),
            record(1, 11, tried(1, again())),
            record(1, 12, tried(2, Next::Delivered)),
        ]);
        let late = fold(&[
            record(1, 12, tried(2, Next::Delivered)),
            record(1, 11, tried(1, again())),
            record(1, 10, DeliveryFact::Created),
            record(1, 12, tried(2, Next::Delivered)),
        ]);
        assert_eq!(late, ordered);
        let repeated_try = fold(&[
            record(1, 12, tried(1, Next::Delivered)),
            record(1, 13, tried(2, again())),
        ]);
        assert_eq!(repeated_try.status, Delivered);
    }

    #[test]
    fn a_discarded_dead_letter_stays_dead() {
        let dead = [
            record(1, 10, DeliveryFact::Created),
            record(1, 12, tried(1, Next::Dead)),
        ];
        let discarded = fold(&[
            dead[0].clone(),
            dead[1].clone(),
            record(1, 15, DeliveryFact::Discarded),
        ]);
        assert_eq!(discarded.status, Dead);
        assert_eq!(discarded.completed_at, Some(Timestamp::from_millis(12)));
        assert_eq!(discarded.discarded_at, Some(Timestamp::from_millis(15)));
        let redriven = State::after(Some(&discarded), &record(2, 20, DeliveryFact::Redriven));
        assert_eq!((redriven.status, redriven.discarded_at), (Pending, None));
    }
}
