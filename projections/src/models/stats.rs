//! A tenant's figures.
//!
//! Totals are counted along the fold, in the transaction of the checkpoint, so they are exact and cost a query
//! nothing. The deliveries by status are counted by the fold of the deliveries, which knows what each was before; to
//! count them here would mean to keep every delivery twice. So the figures stand on two read models, and an answer
//! tells of each log the position that both have reached.

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::endpoint::EndpointEvent;
use domain::user::UserEvent;
use domain::{Source, TenantId, Timestamp};
use serde::Serialize;

use super::deliveries;
use crate::ReadModels;
use crate::events::events;
use crate::page::{Answer, QueryError};
use crate::projection::{ApplyError, Fact, Incoming, Portion, Projection, Share};
use crate::read_models::Query;
use crate::rows::Rows;
use crate::sql::{Statement, Value, number, text};
use crate::table::{Column, Growth, Table};

const NAME: &str = "stats";
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60;
/// How many event types the figures name.
const TOP_TYPES: u64 = 20;

static TOTALS: Table = Table {
    name: "stats_totals",
    key: 2,
    columns: &[Column::text("tenant"), Column::text("name"), Column::int("total")],
    growth: Growth::Summed,
};
static TYPES: Table = Table {
    name: "stats_event_types",
    key: 2,
    columns: &[Column::text("tenant"), Column::text("type"), Column::int("total")],
    growth: Growth::Summed,
};
static MINUTES: Table = Table {
    name: "stats_minutes",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::int("minute"),
        Column::int("events"),
    ],
    growth: Growth::Summed,
};

/// The fold.
#[derive(Debug)]
pub(super) struct StatsProjection;

#[async_trait]
impl Projection for StatsProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        1
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Events, Source::Messages]
    }

    fn tables(&self) -> &'static [&'static Table] {
        const { &[&TOTALS, &TYPES, &MINUTES] }
    }

    fn portions(&self, source: Source) -> Vec<Portion> {
        if source != Source::Messages {
            return Vec::new();
        }
        let events = Portion {
            table: &TOTALS,
            rows: Share::Named("name", "events"),
        };
        vec![events, Portion::all(&TYPES), Portion::all(&MINUTES)]
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        for event in events::<UserEvent>(batch, "user") {
            let (step, event) = event?;
            match event {
                UserEvent::Registered { .. } => count(rows, &TOTALS, step.tenant(), "users", 1),
                UserEvent::Removed { .. } => count(rows, &TOTALS, step.tenant(), "users", -1),
                _ => {}
            }
        }
        for event in events::<EndpointEvent>(batch, "endpoint") {
            let (step, event) = event?;
            match event {
                EndpointEvent::Created { .. } => count(rows, &TOTALS, step.tenant(), "endpoints", 1),
                EndpointEvent::Removed {} => count(rows, &TOTALS, step.tenant(), "endpoints", -1),
                _ => {}
            }
        }
        for incoming in batch {
            if let Fact::Message(message) = &incoming.fact {
                let tenant = incoming.tenant.as_str();
                count(rows, &TOTALS, tenant, "events", 1);
                count(rows, &TYPES, tenant, message.event_type.as_str(), 1);
                let minute = message.published_at.as_millis().div_euclid(MINUTE);
                count(rows, &MINUTES, tenant, minute, 1);
            }
        }
        Ok(())
    }
}

/// Adds to a counter of a tenant.
fn count(rows: &mut Rows<'_>, table: &'static Table, tenant: &str, name: impl Into<Value>, by: i64) {
    rows.add(table, vec![tenant.into(), name.into(), by.into()]);
}

/// How many deliveries are in each status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StatusCounts {
    /// Not tried yet in their run.
    pub pending: u64,
    /// Arrived.
    pub delivered: u64,
    /// To be tried again.
    pub failed: u64,
    /// Out of attempts, discarded ones included.
    pub dead: u64,
}

/// How many messages of a type there were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventTypeTotal {
    /// The type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// How many.
    pub total: u64,
}

/// A tenant's figures as the API shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Messages published, ever.
    pub total_events: u64,
    /// Deliveries by status.
    pub events_by_status: StatusCounts,
    /// Messages published in the current minute and the 1,440 whole ones before it.
    pub events_last_24h: u64,
    /// Users registered.
    pub total_users: u64,
    /// Endpoints that exist.
    pub total_endpoints: u64,
    /// The most frequent types of messages, most frequent first.
    pub events_by_type: Vec<EventTypeTotal>,
}

/// Queries on a tenant's figures.
#[derive(Debug, Clone, Copy)]
pub struct StatsOf<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl StatsOf<'_> {
    /// The projections the figures stand on: what to wait for to read one's own writes.
    pub const PROJECTIONS: [&'static str; 2] = [NAME, deliveries::NAME];

    /// The figures as of `now`.
    pub async fn get(&self, now: Timestamp) -> Result<Answer<Stats>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &Self::PROJECTIONS).await?;
        let select = Statement::new(format!(
            "SELECT name, total FROM {} WHERE tenant = $1",
            query.table("stats_totals")
        ));
        let mut totals: BTreeMap<String, u64> = BTreeMap::new();
        for row in query.rows(select.with(self.tenant.as_str())).await? {
            totals.insert(text(&row, "name")?, number(&row, "total")?);
        }
        let total = |name| totals.get(name).copied().unwrap_or_default();
        let by_status: BTreeMap<String, u64> = deliveries::counts(&mut query, self.tenant)
            .await?
            .into_iter()
            .collect();
        let status = |name| by_status.get(name).copied().unwrap_or_default();
        let stats = Stats {
            total_events: total("events"),
            events_by_status: StatusCounts {
                pending: status("pending"),
                delivered: status("delivered"),
                failed: status("failed"),
                dead: status("dead"),
            },
            events_last_24h: self.last_day(&mut query, now).await?,
            total_users: total("users"),
            total_endpoints: total("endpoints"),
            events_by_type: self.top_types(&mut query).await?,
        };
        query.answer(stats).await
    }

    async fn last_day(&self, query: &mut Query, now: Timestamp) -> Result<u64, QueryError> {
        let minute = now.as_millis().div_euclid(MINUTE);
        let select = Statement::new(format!(
            "SELECT CAST(coalesce(sum(events), 0) AS BIGINT) AS events FROM {}
             WHERE tenant = $1 AND minute >= $2 AND minute <= $3",
            query.table("stats_minutes")
        ));
        let rows = query
            .rows(select.with(self.tenant.as_str()).with(minute - DAY).with(minute))
            .await?;
        Ok(rows.first().map_or(Ok(0), |row| number(row, "events"))?)
    }

    async fn top_types(&self, query: &mut Query) -> Result<Vec<EventTypeTotal>, QueryError> {
        let select = Statement::new(format!(
            "SELECT type, total FROM {} WHERE tenant = $1 ORDER BY total DESC, type LIMIT $2",
            query.table("stats_event_types")
        ));
        let rows = query
            .rows(select.with(self.tenant.as_str()).with(TOP_TYPES))
            .await?;
        let types = rows.iter().map(|row| {
            Ok(EventTypeTotal {
                event_type: text(row, "type")?,
                total: number(row, "total")?,
            })
        });
        Ok(types.collect::<Result<_, sqlx::Error>>()?)
    }
}
