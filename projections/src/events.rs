//! Folding the events of an aggregate into its row: one step per event, each checked against the version before.

use cqrs_es::DomainEvent;
use domain::{Commit, Meta, Timestamp, decode_event};

use crate::projection::{ApplyError, Incoming};
use crate::sql::{Statement, Value, Writer};

/// One event's place in the life of its aggregate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'b> {
    incoming: &'b Incoming,
    commit: &'b Commit,
    /// The aggregate's version after the event.
    pub(crate) version: u64,
}

/// The events of one kind of aggregate in a batch, in order.
pub(crate) fn steps<'b, E: DomainEvent + Send>(
    batch: &'b [Incoming],
    aggregate: &'static str,
) -> impl Iterator<Item = Result<(Step<'b>, E), ApplyError>> + Send {
    let commits = batch
        .iter()
        .filter_map(|incoming| Some((incoming, incoming.commit()?)));
    commits
        .filter(move |(_, commit)| commit.aggregate == aggregate)
        .flat_map(|(incoming, commit)| {
            commit
                .events
                .iter()
                .zip(commit.first_version..)
                .map(move |(record, version)| {
                    let event =
                        decode_event(record).map_err(|error| match std::error::Error::source(&error) {
                            Some(cause) => incoming.poison(format!("{error}: {cause}")),
                            None => incoming.poison(error.to_string()),
                        })?;
                    Ok((
                        Step {
                            incoming,
                            commit,
                            version,
                        },
                        event,
                    ))
                })
        })
}

impl Step<'_> {
    /// Whose it is.
    pub(crate) fn tenant(&self) -> &str {
        &self.incoming.tenant
    }

    /// Which aggregate.
    pub(crate) fn id(&self) -> &str {
        &self.commit.id
    }

    /// Where it comes from.
    pub(crate) fn meta(&self) -> &Meta {
        &self.commit.meta
    }

    /// When it was decided.
    pub(crate) fn at(&self) -> Timestamp {
        self.commit.meta.at
    }

    /// Makes the aggregate's row, which its first event does.
    pub(crate) async fn create(
        &self,
        out: &mut Writer<'_>,
        table: &str,
        columns: &[&str],
        row: Vec<Value>,
    ) -> Result<(), ApplyError> {
        if self.version != 1 {
            return Err(self
                .incoming
                .poison(format!("its first event has version {}", self.version)));
        }
        let mut insert = Statement::new(format!(
            "INSERT INTO {} ({}) VALUES ",
            out.table(table),
            columns.join(", ")
        ));
        insert
            .bind_rows([row])
            .push(" ON CONFLICT (tenant, id) DO NOTHING");
        match out.execute(insert).await? {
            1 => Ok(()),
            _ => Err(self.incoming.poison(format!("{} exists already", self.commit.id))),
        }
    }

    /// The error that parks the tenant.
    pub(crate) fn poison(&self, reason: impl Into<String>) -> ApplyError {
        self.incoming.poison(reason)
    }

    /// Counts an event that changes nothing but the version.
    pub(crate) async fn pass(&self, out: &mut Writer<'_>, table: &str) -> Result<(), ApplyError> {
        let mut update = Statement::new(format!("UPDATE {} SET version = ", out.table(table)));
        update.bind(self.version);
        self.at_version_before(out, update).await
    }

    /// Changes the aggregate's row, which must stand at the version before.
    pub(crate) async fn change(
        &self,
        out: &mut Writer<'_>,
        table: &str,
        columns: Vec<(&'static str, Value)>,
    ) -> Result<(), ApplyError> {
        let mut update = Statement::new(format!("UPDATE {} SET version = ", out.table(table)));
        update.bind(self.version).push(", updated_at = ").bind(self.at());
        for (column, value) in columns {
            update.push(", ").push(column).push(" = ").bind(value);
        }
        self.at_version_before(out, update).await
    }

    async fn at_version_before(&self, out: &mut Writer<'_>, mut update: Statement) -> Result<(), ApplyError> {
        update
            .push(" WHERE tenant = ")
            .bind(self.tenant())
            .push(" AND id = ")
            .bind(self.id());
        update
            .push(" AND version = ")
            .bind(self.version.saturating_sub(1));
        if out.execute(update).await? == 1 {
            Ok(())
        } else {
            let (id, before) = (&self.commit.id, self.version.saturating_sub(1));
            Err(self
                .incoming
                .poison(format!("{id} does not stand at version {before}, as it must")))
        }
    }
}
