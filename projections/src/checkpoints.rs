//! Checkpoints and parked tenants: the rows by which a projection knows where it stands.

use std::collections::BTreeMap;

use broker::layout::Log;
use domain::{Position, Timestamp};
use sqlx::AnyConnection;

use crate::projection::{Projection, log_of, position};
use crate::sql::{Statement, number, text};

/// A projection's place in one log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'p> {
    pub(crate) projection: &'p dyn Projection,
    pub(crate) log: Log,
}

/// A tenant that a projection cannot go on with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Parked {
    /// Whose records wait.
    pub tenant: String,
    /// From which record on.
    pub position: Position,
    /// Why.
    pub error: String,
}

impl Place<'_> {
    /// Where the projection stands; the first time, it stands before everything.
    pub(crate) async fn load(self, connection: &mut AnyConnection) -> Result<u64, sqlx::Error> {
        Statement::new(
            "INSERT INTO checkpoints (projection, version, log, sequence, stored_at) VALUES ($1, $2, $3, 0, 0)
             ON CONFLICT (projection, version, log) DO NOTHING",
        )
        .with(self.projection.name())
        .with(self.projection.version())
        .with(self.log.name())
        .execute(connection)
        .await?;
        let rows = Statement::new(
            "SELECT sequence FROM checkpoints WHERE projection = $1 AND version = $2 AND log = $3",
        )
        .with(self.projection.name())
        .with(self.projection.version())
        .with(self.log.name())
        .rows(connection)
        .await?;
        rows.first().map_or(Ok(0), |row| number(row, "sequence"))
    }

    /// Moves the checkpoint, if it is where it is expected; `false` means that another projector has moved it.
    ///
    /// Done first in a transaction, it makes a second projector wait here, and then see that it was overtaken.
    pub(crate) async fn advance(
        self,
        connection: &mut AnyConnection,
        expected: u64,
        to: u64,
        stored_at: Timestamp,
    ) -> Result<bool, sqlx::Error> {
        let changed = Statement::new(
            "UPDATE checkpoints SET sequence = $1, stored_at = $2
             WHERE projection = $3 AND version = $4 AND log = $5 AND sequence = $6",
        )
        .with(to)
        .with(stored_at)
        .with(self.projection.name())
        .with(self.projection.version())
        .with(self.log.name())
        .with(expected)
        .execute(connection)
        .await?;
        Ok(changed == 1)
    }

    /// Claims the checkpoint for this transaction without moving it; `false` as for [`Place::advance`].
    pub(crate) async fn hold(self, connection: &mut AnyConnection, at: u64) -> Result<bool, sqlx::Error> {
        let changed = Statement::new(
            "UPDATE checkpoints SET sequence = sequence
             WHERE projection = $1 AND version = $2 AND log = $3 AND sequence = $4",
        )
        .with(self.projection.name())
        .with(self.projection.version())
        .with(self.log.name())
        .with(at)
        .execute(connection)
        .await?;
        Ok(changed == 1)
    }

    /// The tenants parked at this place, with what keeps each.
    pub(crate) async fn parked(self, connection: &mut AnyConnection) -> Result<Vec<Parked>, sqlx::Error> {
        let rows = Statement::new(
            "SELECT tenant, sequence, error FROM parked WHERE projection = $1 AND log = $2 ORDER BY tenant",
        )
        .with(self.projection.name())
        .with(self.log.name())
        .rows(connection)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Parked {
                    tenant: text(row, "tenant")?,
                    position: position(self.log, number(row, "sequence")?),
                    error: text(row, "error")?,
                })
            })
            .collect()
    }

    /// Parks a tenant, or moves the place it is parked at.
    pub(crate) async fn park(
        self,
        connection: &mut AnyConnection,
        parked: &Parked,
    ) -> Result<(), sqlx::Error> {
        Statement::new(
            "INSERT INTO parked (projection, tenant, log, sequence, error) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (projection, tenant, log)
             DO UPDATE SET sequence = excluded.sequence, error = excluded.error",
        )
        .with(self.projection.name())
        .with(parked.tenant.as_str())
        .with(self.log.name())
        .with(parked.position.sequence)
        .with(parked.error.as_str())
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Lets a tenant go on.
    pub(crate) async fn unpark(
        self,
        connection: &mut AnyConnection,
        tenant: &str,
    ) -> Result<(), sqlx::Error> {
        Statement::new("DELETE FROM parked WHERE projection = $1 AND tenant = $2 AND log = $3")
            .with(self.projection.name())
            .with(tenant)
            .with(self.log.name())
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// Where projections stand: per log, the one furthest behind.
pub(crate) async fn positions(
    connection: &mut AnyConnection,
    projections: &[(&str, i64)],
) -> Result<Vec<Position>, sqlx::Error> {
    let mut behind = BTreeMap::new();
    for (name, version) in projections {
        let rows =
            Statement::new("SELECT log, sequence FROM checkpoints WHERE projection = $1 AND version = $2")
                .with(*name)
                .with(*version)
                .rows(connection)
                .await?;
        for row in &rows {
            let Some(log) = log_of(&text(row, "log")?) else {
                continue;
            };
            let at = position(log, number(row, "sequence")?);
            behind
                .entry((at.source, at.shard))
                .and_modify(|least: &mut Position| *least = (*least).min(at))
                .or_insert(at);
        }
    }
    Ok(behind.into_values().collect())
}

/// Whether the tables were folded by another version of the projection than this program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Folded {
    /// By this one, or not at all.
    Here,
    /// By an older one: they must be made anew.
    Before,
    /// By a newer one: this program must leave them alone.
    After,
}

/// Compares the versions stored with the program's.
pub(crate) async fn folded(
    connection: &mut AnyConnection,
    projection: &dyn Projection,
) -> Result<Folded, sqlx::Error> {
    let rows = Statement::new("SELECT DISTINCT version FROM checkpoints WHERE projection = $1")
        .with(projection.name())
        .rows(connection)
        .await?;
    let versions: Vec<i64> = rows
        .iter()
        .map(|row| number(row, "version"))
        .collect::<Result<_, _>>()?;
    let ours = projection.version();
    Ok(if versions.iter().any(|version| *version > ours) {
        Folded::After
    } else if versions.iter().any(|version| *version < ours) {
        Folded::Before
    } else {
        Folded::Here
    })
}

/// Empties a projection's tables and forgets where it stood, so that it is folded from the first record again.
pub(crate) async fn forget(
    connection: &mut AnyConnection,
    projection: &dyn Projection,
) -> Result<(), sqlx::Error> {
    for table in projection.tables() {
        Statement::new(format!("DELETE FROM {table}"))
            .execute(connection)
            .await?;
    }
    for table in ["checkpoints", "parked"] {
        Statement::new(format!("DELETE FROM {table} WHERE projection = $1"))
            .with(projection.name())
            .execute(connection)
            .await?;
    }
    Ok(())
}
