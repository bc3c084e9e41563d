//! The audit trail: one row per event, who did what to which resource, when, from where, and what came of it.
//!
//! The rows are listed in the order of their times, newest first, and followed in the order of the log. How long they
//! are kept is the tenant's setting ([`retention`]).

mod entry;
mod follow;
pub(crate) mod retention;
mod search;

use async_trait::async_trait;
use domain::access_log::Deed;
use domain::{Commit, EventRecord, Source, TenantId};

use crate::ReadModels;
use crate::projection::{ApplyError, Incoming, Projection};
use crate::rows::Rows;
use crate::table::{Column, Growth, Row, Table};

pub use entry::{AuditRow, Outcome};
pub use follow::{AuditPlace, Followed, InvalidAuditPlace};
pub use search::AuditFilter;

const NAME: &str = "audit";
static TABLE: Table = Table {
    name: "audit",
    key: 4,
    columns: &[
        Column::text("tenant"),
        Column::int("shard"),
        Column::int("sequence"),
        Column::int("version"),
        Column::int("at"),
        Column::text("actor"),
        Column::text("action"),
        Column::text("command"),
        Column::text("resource_type"),
        Column::text("resource_id"),
        Column::text("outcome"),
        Column::text("request_id"),
        Column::text("origin"),
        Column::text("data"),
        Column::text("command_id"),
        Column::text("correlation_id"),
        Column::text("causation_id"),
        Column::text("traceparent"),
    ],
    growth: Growth::Added,
};

/// The fold.
#[derive(Debug)]
pub(super) struct AuditProjection;

#[async_trait]
impl Projection for AuditProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        3
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Events]
    }

    fn tables(&self) -> &'static [&'static Table] {
        const { &[&TABLE, &retention::TABLE] }
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        for incoming in batch {
            let Some(commit) = incoming.commit() else { continue };
            for (event, version) in commit.events.iter().zip(commit.first_version..) {
                rows.add(&TABLE, row(incoming, commit, event, version));
            }
            retention::apply(&incoming.tenant, commit, rows).await?;
        }
        Ok(())
    }
}

/// The row of an event: the values in the order of the table's columns, not named, since there are many of them.
fn row(incoming: &Incoming, commit: &Commit, event: &EventRecord, version: u64) -> Row {
    let meta = &commit.meta;
    let deed = Deed::of(commit, event);
    let outcome = if deed.refused {
        Outcome::Refused
    } else {
        Outcome::Success
    };
    vec![
        incoming.tenant.as_str().into(),
        incoming.position.shard.into(),
        incoming.position.sequence.into(),
        version.into(),
        deed.at.into(),
        deed.actor.into(),
        event.event_type.as_str().into(),
        deed.command.into_owned().into(),
        deed.kind.into_owned().into(),
        deed.id.into_owned().into(),
        outcome.as_str().into(),
        deed.request_id.map(String::from).into(),
        deed.origin.map(String::from).into(),
        event.data.to_string().into(),
        meta.command_id.as_str().into(),
        deed.correlation_id.map(String::from).into(),
        meta.causation_id.clone().into(),
        deed.traceparent.map(String::from).into(),
    ]
}

/// Queries on a tenant's audit trail.
#[derive(Debug, Clone, Copy)]
pub struct Audit<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}
