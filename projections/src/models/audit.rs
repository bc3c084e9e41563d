//! The audit trail: one row per event, who did what to which resource, when, and from where.

use std::borrow::Cow;

use async_trait::async_trait;
use domain::access_log::Deed;
use domain::{Commit, EventRecord, Position, Source, TenantId, Timestamp};
use serde::Serialize;
use serde_json::Value as Json;
use sqlx::any::AnyRow;

use crate::ReadModels;
use crate::engine::Kind;
use crate::page::{Answer, Listing, Page, QueryError, containing};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::rows::Rows;
use crate::sql::{Statement, json, number, optional_text, text, time};
use crate::table::{Column, Growth, Row, Table};

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
        2
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Events]
    }

    fn tables(&self) -> &'static [&'static Table] {
        const { &[&TABLE] }
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        for incoming in batch {
            let Some(commit) = incoming.commit() else { continue };
            for (event, version) in commit.events.iter().zip(commit.first_version..) {
                rows.add(&TABLE, row(incoming, commit, event, version)?);
            }
        }
        Ok(())
    }
}

/// The row of an event: the values in the order of the table's columns, not named, since there are many of them.
fn row(incoming: &Incoming, commit: &Commit, event: &EventRecord, version: u64) -> Result<Row, ApplyError> {
    let meta = &commit.meta;
    let deed = Deed::of(commit, event).map_err(|error| incoming.poison(error.to_string()))?;
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    Ok(vec![
        incoming.tenant.as_str().into(),
        incoming.position.shard.into(),
        incoming.position.sequence.into(),
        version.into(),
        deed.at.into(),
        deed.actor.into(),
        event.event_type.as_str().into(),
        (&*deed.command).into(),
        (&*deed.kind).into(),
        (&*deed.id).into(),
        owned(deed.request_id).into(),
        owned(deed.origin).into(),
        event.data.to_string().into(),
        meta.command_id.as_str().into(),
        owned(deed.correlation_id).into(),
        meta.causation_id.clone().into(),
        owned(deed.traceparent).into(),
    ])
}

/// An entry of the audit trail as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditRow {
    /// Where the commit stands in the log.
    pub position: Position,
    /// The aggregate's version after the event.
    pub version: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// Who: `platform-admin`, `key_…` or `system:<part>`.
    pub actor: String,
    /// What happened, as `user.registered`.
    pub action: String,
    /// What was asked for, as `RegisterUser`.
    pub command: String,
    /// The kind of thing it happened to, as `user`.
    pub resource_type: String,
    /// Which one.
    pub resource_id: String,
    /// The HTTP request it came with.
    pub request_id: Option<String>,
    /// The address the request came from.
    pub origin: Option<String>,
    /// Names the command for ever.
    pub command_id: String,
    /// What it belongs to, across requests.
    pub correlation_id: Option<String>,
    /// What directly led to it: a command, an event or a delivery.
    pub causation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// What the event says, old and new values among it.
    pub data: Json,
}

impl AuditRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let (shard, sequence) = (number(row, "shard")?, number(row, "sequence")?);
        Ok(Self {
            position: Position {
                source: Source::Events,
                shard,
                sequence,
            },
            version: number(row, "version")?,
            at: time(row, "at")?,
            actor: text(row, "actor")?,
            action: text(row, "action")?,
            command: text(row, "command")?,
            resource_type: text(row, "resource_type")?,
            resource_id: text(row, "resource_id")?,
            request_id: optional_text(row, "request_id")?,
            origin: optional_text(row, "origin")?,
            command_id: text(row, "command_id")?,
            correlation_id: optional_text(row, "correlation_id")?,
            causation_id: optional_text(row, "causation_id")?,
            traceparent: optional_text(row, "traceparent")?,
            data: json(row, "data")?,
        })
    }
}

/// Which entries are wanted; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// By this actor, as [`AuditRow::actor`] shows it.
    pub actor: Option<String>,
    /// This action.
    pub action: Option<String>,
    /// On this resource: its id, its kind, or `kind/id`.
    pub resource: Option<String>,
    /// Decided at this time or later.
    pub since: Option<Timestamp>,
    /// Decided before this time.
    pub until: Option<Timestamp>,
    /// With this text in the data, action, command, actor or resource; a-z and A-Z count as the same. Only its first
    /// 1,000 characters count.
    pub q: Option<String>,
}

impl AuditFilter {
    fn narrow(&self, select: &mut Statement, kind: Kind) {
        for (column, wanted) in [("actor", &self.actor), ("action", &self.action)] {
            if let Some(wanted) = wanted {
                select
                    .push(" AND ")
                    .push(column)
                    .push(" = ")
                    .bind(wanted.as_str());
            }
        }
        match self
            .resource
            .as_deref()
            .map(|resource| (resource, resource.split_once('/')))
        {
            Some((_, Some((kind, id)))) => {
                select
                    .push(" AND resource_type = ")
                    .bind(kind)
                    .push(" AND resource_id = ")
                    .bind(id);
            }
            Some((either, None)) => {
                select
                    .push(" AND (resource_id = ")
                    .bind(either)
                    .push(" OR resource_type = ")
                    .bind(either)
                    .push(")");
            }
            None => {}
        }
        if let Some(since) = self.since {
            select.push(" AND at >= ").bind(since);
        }
        if let Some(until) = self.until {
            select.push(" AND at < ").bind(until);
        }
        if let Some(q) = &self.q {
            search(select, kind, q);
        }
    }
}

/// How much of a text is looked for, in characters: SQLite refuses patterns of more than 50,000 bytes.
const LONGEST_SEARCH: usize = 1_000;

fn search(select: &mut Statement, kind: Kind, q: &str) {
    let q: String = q.chars().take(LONGEST_SEARCH).collect();
    let searched = "data || ' ' || action || ' ' || command || ' ' || actor || ' ' || resource_id";
    select
        .push(" AND ")
        .push(&kind.ascii_lower(&format!("({searched})")))
        .push(" LIKE ")
        .bind(containing(&q.to_ascii_lowercase()))
        .push(" ESCAPE '\\'");
}

/// Queries on a tenant's audit trail.
#[derive(Debug, Clone, Copy)]
pub struct Audit<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl Audit<'_> {
    /// The entries, newest first. An export reads page after page.
    pub async fn list(
        &self,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Answer<Listing<AuditRow>>, QueryError> {
        let after: Option<(u16, u64, u64)> = page.after(NAME)?;
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new(format!("SELECT * FROM {} WHERE tenant = ", query.table("audit")));
        select.bind(self.tenant.as_str());
        filter.narrow(&mut select, self.read_models.database.kind);
        if let Some((shard, sequence, version)) = after {
            select
                .push(" AND (shard, sequence, version) < (")
                .bind(shard)
                .push(", ");
            select.bind(sequence).push(", ").bind(version).push(")");
        }
        select
            .push(" ORDER BY shard DESC, sequence DESC, version DESC LIMIT ")
            .bind(page.size() as u64 + 1);
        let rows = query.rows(select).await?;
        let rows = rows.iter().map(AuditRow::read).collect::<Result<_, _>>()?;
        let key = |row: &AuditRow| (row.position.shard, row.position.sequence, row.version);
        query.answer(Listing::new(rows, page, NAME, key)).await
    }
}
