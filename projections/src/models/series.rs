//! Time series of a tenant, by the hour and by the day (UTC): events, deliveries and their attempts, how long both
//! took, and how many users were active.
//!
//! What is counted are records, each in the bucket of the time it carries itself: an event when it was accepted, a
//! delivery's fact when it was noted, a commit when it was decided. No clock of the fold and no cut of a batch has a
//! say, so a fold of the same records gives the same rows to the byte. The days are folded beside the hours, so that a
//! year is as quick to read as a day.
//!
//! **Size.** A series of its own is kept for each of the first [`MOST_TYPES`] types and [`MOST_ENDPOINTS`] endpoints
//! that a tenant uses in a day; what comes after them that day counts in the tenant's total only. A tenant has
//! therefore at most 25 × (1 + 500) rows of events and 25 × (1 + 500 + 500) rows of deliveries a day, each of the
//! latter with two histograms of at most 896 buckets; and a row for each user that was active that day.

mod active;
mod histogram;
mod queries;
mod tally;

use async_trait::async_trait;
use domain::{DeliveryFact, DeliveryRecord, Message, Next, Source};

use crate::projection::{ApplyError, Fact, Incoming, Portion, Projection};
use crate::rows::Rows;
use crate::sql::{Value, unreadable};
use crate::table::{Column, Growth, Row, Table};
use histogram::Histogram;
use tally::{Figures, Part, Tally};

pub use histogram::Quantiles;
pub use queries::{DeliveryFigures, InvalidSeries, Metric, Point, Points, Series, SeriesOf, SeriesQuery};
pub use tally::Interval;

const NAME: &str = "series";

/// How many event types of a tenant have a series of their own on a day.
pub(crate) const MOST_TYPES: i64 = 500;
/// How many endpoints of a tenant have a series of their own on a day.
pub(crate) const MOST_ENDPOINTS: i64 = 500;

static EVENTS: Table = Table {
    name: "series_events",
    key: 4,
    columns: &[
        Column::text("tenant"),
        Column::text("part"),
        Column::text("span"),
        Column::int("at"),
        Column::int("events"),
        Column::int("types"),
    ],
    growth: Growth::Kept,
};

static DELIVERIES: Table = Table {
    name: "series_deliveries",
    key: 4,
    columns: &[
        Column::text("tenant"),
        Column::text("part"),
        Column::text("span"),
        Column::int("at"),
        Column::int("deliveries"),
        Column::int("attempts"),
        Column::int("delivered"),
        Column::int("failures"),
        Column::int("dead"),
        Column::text("latency"),
        Column::text("duration"),
        Column::int("types"),
        Column::int("endpoints"),
    ],
    growth: Growth::Kept,
};

/// The fold.
#[derive(Debug)]
pub(super) struct SeriesProjection;

#[async_trait]
impl Projection for SeriesProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        1
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Events, Source::Messages, Source::Deliveries]
    }

    /// Each is changed by records of one kind of log only: logs are folded beside each other.
    fn tables(&self) -> &'static [&'static Table] {
        const { &[&EVENTS, &DELIVERIES, &active::USERS, &active::USER_DAYS] }
    }

    fn portions(&self, source: Source) -> Vec<Portion> {
        match source {
            Source::Messages => vec![Portion::all(&EVENTS)],
            Source::Deliveries => vec![Portion::all(&DELIVERIES)],
            Source::Events => vec![Portion::all(&active::USERS), Portion::all(&active::USER_DAYS)],
        }
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        let (mut events, mut deliveries) = (Tally::default(), Tally::default());
        for incoming in batch {
            match &incoming.fact {
                Fact::Message(message) => count_message(&mut events, &incoming.tenant, message),
                Fact::Delivery(record) => count_delivery(&mut deliveries, &incoming.tenant, record),
                Fact::Commit(_) | Fact::Claim | Fact::Unreadable => {}
            }
        }
        events.settle(&EVENTS, rows).await?;
        deliveries.settle(&DELIVERIES, rows).await?;
        active::fold(batch, rows).await
    }
}

/// What happened to events in a bucket.
#[derive(Debug, Default)]
struct EventCount {
    events: i64,
}

fn count_message<'b>(tally: &mut Tally<'b, EventCount>, tenant: &'b str, message: &'b Message) {
    for part in [Part::All, Part::Type(message.event_type.as_str())] {
        tally.at(tenant, part, message.published_at).events += 1;
    }
}

impl Figures for EventCount {
    fn add_to(&self, table: &'static Table, row: &mut Row) -> Result<(), sqlx::Error> {
        raise(table, row, "events", self.events);
        Ok(())
    }
}

/// What happened to deliveries in a bucket.
#[derive(Debug, Default)]
struct DeliveryCount {
    deliveries: i64,
    attempts: i64,
    delivered: i64,
    failures: i64,
    dead: i64,
    latency: Histogram,
    duration: Histogram,
}

fn count_delivery<'b>(tally: &mut Tally<'b, DeliveryCount>, tenant: &'b str, record: &'b DeliveryRecord) {
    let kind = record.message.event_type.as_str();
    for part in [
        Part::All,
        Part::Type(kind),
        Part::Endpoint(record.endpoint.as_str()),
    ] {
        match &record.fact {
            DeliveryFact::Created => tally.at(tenant, part, record.at).deliveries += 1,
            DeliveryFact::Attempted { outcome, next, .. } => {
                let count = tally.at(tenant, part, record.at);
                count.attempts += 1;
                count.delivered += i64::from(*next == Next::Delivered);
                count.failures += i64::from(*next != Next::Delivered);
                count.dead += i64::from(*next == Next::Dead);
                count.duration.record(outcome.duration_ms);
                if let Some(latency) = latency(record, next) {
                    count.latency.record(latency);
                }
            }
            DeliveryFact::Redriven | DeliveryFact::Discarded => {}
        }
    }
}

/// From when the event was accepted to when it arrived, in milliseconds, where this attempt tells: later runs were
/// asked for by somebody, and would tell when.
fn latency(record: &DeliveryRecord, next: &Next) -> Option<u64> {
    let published_at = record.message.published_at.filter(|_| record.run == 1)?;
    let took = record.at.as_millis().saturating_sub(published_at.as_millis());
    // The clocks are of two processes; what arrived before it was accepted took no time.
    (*next == Next::Delivered).then(|| u64::try_from(took).unwrap_or_default())
}

impl Figures for DeliveryCount {
    fn add_to(&self, table: &'static Table, row: &mut Row) -> Result<(), sqlx::Error> {
        for (column, by) in [
            ("deliveries", self.deliveries),
            ("attempts", self.attempts),
            ("delivered", self.delivered),
            ("failures", self.failures),
            ("dead", self.dead),
        ] {
            raise(table, row, column, by);
        }
        for (column, more) in [("latency", &self.latency), ("duration", &self.duration)] {
            let before = table.get(row, column).and_then(Value::as_text);
            let mut sum = Histogram::read(before).map_err(|error| unreadable(column, error))?;
            sum.add(more);
            table.set(row, column, sum.stored().into());
        }
        Ok(())
    }
}

fn raise(table: &'static Table, row: &mut Row, column: &str, by: i64) {
    let sum = table.int(row, column) + by;
    table.set(row, column, sum.into());
}
