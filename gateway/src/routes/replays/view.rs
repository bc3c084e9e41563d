//! How a replay is shown: what was asked for, from the log, and how far it is, from the read database.

use std::collections::BTreeMap;

use domain::projection::ProjectionName;
use domain::replay::{Comparison, LeftOut, Replay, ReplayEnd, TableDifference, Until, Work};
use domain::{ReplayId, TenantId, Timestamp};
use projections::rebuild::{Difference, NotCompared, RebuildRow};
use serde::Serialize;
use ulid::Ulid;
use utoipa::ToSchema;

/// A replay.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Replay)]
pub(super) struct ReplayView {
    /// Its id.
    #[schema(value_type = String)]
    pub(super) id: ReplayId,
    /// `rebuild`: tables are made from the log; `rollback`: queries go back to those before the last switch.
    kind: &'static str,
    /// The projections.
    #[schema(value_type = Vec<String>)]
    projections: Vec<ProjectionName>,
    /// Whose rows alone.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// The position or time up to which a copy for inspection goes.
    to: Option<String>,
    /// Whether queries read what is made.
    switch: bool,
    /// `waiting`, `running`, `cancelling`, `completed`, `failed` or `cancelled`.
    #[schema(example = "running")]
    status: &'static str,
    /// What it is doing: `building`, `indexing`, `comparing`, `catching_up`; `paused`, ready to switch, until none of its
    /// projections is paused any more; `switching`, or `finishing` where there is nothing to switch to; or how its work
    /// ended. It can be cancelled before the last two.
    #[schema(example = "building")]
    phase: Option<&'static str>,
    /// Whether a process works at it at this moment.
    running: bool,
    /// Records it has gone past, of all logs.
    done: u64,
    /// Records it has to go past, as far as is known.
    total: u64,
    /// Records a second over the last seconds; 0 while it goes past none.
    rate: u64,
    /// How long the rest of the records will take at that rate; null while that cannot be told, as while it makes
    /// indexes or compares.
    seconds_left: Option<u64>,
    /// The generation of each projection's tables that it fills.
    pub(super) generations: BTreeMap<String, i64>,
    /// Live tables that said otherwise than the log, when both stood at the same position; null where they were not
    /// compared (yet).
    differences: Option<Vec<DifferenceView>>,
    /// What was not compared, and why; null where that is not known (yet).
    not_compared: Option<Vec<NotComparedView>>,
    /// Why it failed.
    error: Option<String>,
    /// When it was asked for.
    #[schema(value_type = String, format = "date-time")]
    requested_at: Timestamp,
    /// When it was begun.
    #[schema(value_type = Option<String>, format = "date-time")]
    started_at: Option<Timestamp>,
    /// When it last told of itself.
    #[schema(value_type = Option<String>, format = "date-time")]
    updated_at: Option<Timestamp>,
}

/// A live table that said otherwise than the log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TableDifference)]
struct DifferenceView {
    /// The projection.
    projection: String,
    /// Its table.
    table: String,
    /// How many rows it has.
    live: u64,
    /// How many the log gives.
    rebuilt: u64,
    /// The tenants whose rows differ, at most 20 of them.
    tenants: Vec<String>,
}

/// What was not compared with what queries read.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NotCompared)]
struct NotComparedView {
    /// The projection.
    projection: String,
    /// The table of which some or all rows were left out; null: nothing of the projection was compared.
    table: Option<String>,
    /// `aged`: the log no longer has the records that made these rows, which were taken over as they are;
    /// `no_live_model`: queries have nothing to read yet; `behind`: the live model stood behind the copy and did not
    /// catch up in time.
    #[schema(example = "aged")]
    reason: String,
}

impl ReplayView {
    /// A replay, unless it was never asked for.
    pub(super) fn of(id: &ReplayId, replay: &Replay, row: Option<RebuildRow>) -> Option<Self> {
        let work = replay.work()?;
        let status = status(replay, row.as_ref());
        let error = match replay.end() {
            Some(ReplayEnd::Failed(reason)) => Some(reason.to_string()),
            _ => row.as_ref().and_then(|row| row.error.clone()),
        };
        let mut view = Self {
            id: id.clone(),
            kind: "rollback",
            projections: Vec::new(),
            tenant: None,
            to: None,
            switch: true,
            status,
            phase: row.as_ref().map(|row| row.phase.as_str()),
            running: row
                .as_ref()
                .is_some_and(|row| row.running && !row.phase.is_over()),
            done: row.as_ref().map_or(0, |row| row.done),
            total: row.as_ref().map_or(0, |row| row.total),
            rate: row.as_ref().map_or(0, |row| row.rate),
            seconds_left: row
                .as_ref()
                .filter(|row| !row.phase.is_over())
                .and_then(RebuildRow::seconds_left),
            generations: BTreeMap::new(),
            // As the read database has them, with the tenants; without it, as the log has them.
            differences: match &row {
                Some(row) => row.differences.as_deref().map(views),
                None => comparison(replay).map(|said| views(&said.differences)),
            },
            not_compared: match &row {
                Some(row) => row.not_compared.as_deref().map(views),
                None => comparison(replay).map(|said| views(&said.not_compared)),
            },
            error,
            requested_at: made_at(id),
            started_at: row.as_ref().map(|row| row.started_at),
            updated_at: row.as_ref().map(|row| row.updated_at),
        };
        view.generations = row.map(|row| row.generations).unwrap_or_default();
        match work {
            Work::RollBack(projection) => view.projections.push(projection.clone()),
            Work::Rebuild(plan) => {
                view.kind = "rebuild";
                view.projections.clone_from(&plan.projections);
                view.tenant.clone_from(&plan.tenant);
                view.to = plan.to.map(|to| match to {
                    Until::Position(position) => position.to_string(),
                    Until::Time(time) => time.to_string(),
                });
                view.switch = plan.switch;
            }
        }
        Some(view)
    }
}

fn status(replay: &Replay, row: Option<&RebuildRow>) -> &'static str {
    match replay.end() {
        Some(ReplayEnd::Completed(_)) => "completed",
        Some(ReplayEnd::Failed(_)) => "failed",
        Some(ReplayEnd::Cancelled) => "cancelled",
        None if replay.is_cancelling() => "cancelling",
        None if row.is_some() => "running",
        None => "waiting",
    }
}

/// How the live tables compared, where the log says so.
fn comparison(replay: &Replay) -> Option<&Comparison> {
    match replay.end() {
        Some(ReplayEnd::Completed(comparison)) => Some(comparison),
        _ => None,
    }
}

fn views<'a, T, V: From<&'a T>>(all: &'a [T]) -> Vec<V> {
    all.iter().map(V::from).collect()
}

/// When an id was drawn, which its ULID says.
fn made_at(id: &ReplayId) -> Timestamp {
    let suffix = id.as_str().trim_start_matches(ReplayId::PREFIX);
    let millis = Ulid::from_string(suffix).map(|ulid| ulid.timestamp_ms());
    Timestamp::from_millis(i64::try_from(millis.unwrap_or_default()).unwrap_or_default())
}

impl From<&NotCompared> for NotComparedView {
    fn from(not: &NotCompared) -> Self {
        Self {
            projection: not.projection.clone(),
            table: not.table.clone(),
            reason: not.reason.as_str().to_owned(),
        }
    }
}

impl From<&LeftOut> for NotComparedView {
    fn from(left_out: &LeftOut) -> Self {
        Self {
            projection: left_out.projection.clone(),
            table: left_out.table.clone(),
            reason: left_out.reason.clone(),
        }
    }
}

impl From<&Difference> for DifferenceView {
    fn from(difference: &Difference) -> Self {
        Self {
            projection: difference.projection.clone(),
            table: difference.table.clone(),
            live: difference.live,
            rebuilt: difference.rebuilt,
            tenants: difference.tenants.clone(),
        }
    }
}

impl From<&TableDifference> for DifferenceView {
    fn from(difference: &TableDifference) -> Self {
        Self {
            projection: difference.projection.clone(),
            table: difference.table.clone(),
            live: difference.live,
            rebuilt: difference.rebuilt,
            tenants: Vec::new(),
        }
    }
}
