//! Folding the events of an aggregate into its row: one step per event, each checked against the version before.

use domain::{Commit, Meta, StoredEvent, Timestamp, decode_event};

use crate::projection::{ApplyError, Incoming};
use crate::rows::Rows;
use crate::sql::Value;
use crate::table::{Key, Row, Table};

/// One event's place in the life of its aggregate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'b> {
    incoming: &'b Incoming,
    commit: &'b Commit,
    /// The aggregate's version after the event.
    pub(crate) version: u64,
}

/// The events of one kind of aggregate in a batch, in order.
pub(crate) fn events<'b, E: StoredEvent>(
    batch: &'b [Incoming],
    aggregate: &'static str,
) -> impl Iterator<Item = Result<(Step<'b>, E), ApplyError>> {
    let commits = batch
        .iter()
        .filter_map(|incoming| Some((incoming, incoming.commit()?)));
    let commits = commits.filter(move |(_, commit)| commit.aggregate == aggregate);
    commits.flat_map(|(incoming, commit)| {
        let records = commit.events.iter().zip(commit.first_version..);
        records.map(move |(record, version)| {
            let step = Step {
                incoming,
                commit,
                version,
            };
            let event = decode_event(record).map_err(|error| match std::error::Error::source(&error) {
                Some(cause) => incoming.poison(format!("{error}: {cause}")),
                None => incoming.poison(error.to_string()),
            })?;
            Ok((step, event))
        })
    })
}

/// The events of one kind of aggregate in a batch, in order; their rows are read along.
///
/// The aggregate's table has a row each, under `tenant` and `id`, with its `version` and when it was `updated_at`.
pub(crate) async fn steps<'b, E: StoredEvent>(
    batch: &'b [Incoming],
    aggregate: &'static str,
    table: &'static Table,
    rows: &mut Rows<'_>,
) -> Result<Vec<(Step<'b>, E)>, ApplyError> {
    let commits = batch
        .iter()
        .filter_map(|incoming| Some((incoming, incoming.commit()?)));
    let keys = commits
        .filter(|(_, commit)| commit.aggregate == aggregate)
        .map(|(incoming, commit)| key(&incoming.tenant, &commit.id));
    rows.load(table, keys).await?;
    events(batch, aggregate).collect()
}

fn key(tenant: &str, id: &str) -> Key {
    vec![tenant.into(), id.into()]
}

impl<'b> Step<'b> {
    /// Whose it is.
    pub(crate) fn tenant(&self) -> &'b str {
        &self.incoming.tenant
    }

    /// Which aggregate.
    pub(crate) fn id(&self) -> &'b str {
        &self.commit.id
    }

    /// Where it comes from.
    pub(crate) fn meta(&self) -> &'b Meta {
        &self.commit.meta
    }

    /// When it was decided.
    pub(crate) fn at(&self) -> Timestamp {
        self.commit.meta.at
    }

    /// The error that parks the tenant.
    pub(crate) fn poison(&self, reason: impl Into<String>) -> ApplyError {
        self.incoming.poison(reason)
    }

    /// The key of the aggregate's row.
    pub(crate) fn key(&self) -> Key {
        key(self.tenant(), self.id())
    }

    /// Makes the aggregate's row, which its first event does; `values` are those besides `tenant`, `id`, `version` and
    /// `updated_at`.
    pub(crate) async fn create(
        &self,
        rows: &mut Rows<'_>,
        table: &'static Table,
        mut values: Vec<(&'static str, Value)>,
    ) -> Result<(), ApplyError> {
        if self.version != 1 {
            return Err(self.poison(format!("its first event has version {}", self.version)));
        }
        if rows.get(table, self.key()).await?.is_some() {
            return Err(self.poison(format!("{} exists already", self.commit.id)));
        }
        values.extend([
            ("tenant", self.tenant().into()),
            ("id", self.id().into()),
            ("version", self.version.into()),
            ("updated_at", self.at().into()),
        ]);
        rows.put(table, table.row(values));
        Ok(())
    }

    /// Counts an event that changes nothing but the version.
    pub(crate) async fn pass(&self, rows: &mut Rows<'_>, table: &'static Table) -> Result<(), ApplyError> {
        let mut row = self.before(rows, table).await?;
        table.set(&mut row, "version", self.version.into());
        rows.put(table, row);
        Ok(())
    }

    /// Changes the aggregate's row, which must stand at the version before.
    pub(crate) async fn change(
        &self,
        rows: &mut Rows<'_>,
        table: &'static Table,
        values: Vec<(&'static str, Value)>,
    ) -> Result<(), ApplyError> {
        let mut row = self.before(rows, table).await?;
        table.set(&mut row, "version", self.version.into());
        table.set(&mut row, "updated_at", self.at().into());
        for (column, value) in values {
            table.set(&mut row, column, value);
        }
        rows.put(table, row);
        Ok(())
    }

    /// The aggregate's row as the event before left it.
    pub(crate) async fn before(&self, rows: &mut Rows<'_>, table: &'static Table) -> Result<Row, ApplyError> {
        let before = i64::try_from(self.version).unwrap_or(i64::MAX).saturating_sub(1);
        let row = rows.get(table, self.key()).await?;
        row.filter(|row| table.int(row, "version") == before)
            .ok_or_else(|| {
                let id = &self.commit.id;
                self.poison(format!("{id} does not stand at version {before}, as it must"))
            })
    }
}
