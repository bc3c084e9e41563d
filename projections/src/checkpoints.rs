//! Checkpoints and parked tenants: the rows by which a generation of a projection knows where it stands.

use std::collections::BTreeMap;

use broker::layout::Log;
use domain::{Position, Timestamp};
use sqlx::AnyConnection;

use crate::engine::Session;
use crate::generations::Standing;
use crate::projection::{Projection, log_of, position};
use crate::sql::{Statement, Value, int, number, text, time};
use crate::table::Column;

/// A generation's place in one log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'p> {
    pub(crate) projection: &'p dyn Projection,
    pub(crate) generation: i64,
    pub(crate) log: Log,
    /// What the generation must be for, so that a projector never goes on with one that was switched away.
    pub(crate) standing: Standing,
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

const SEQUENCE: [Column; 1] = [Column::int("sequence")];

pub(crate) fn unsigned(value: Option<&Value>) -> u64 {
    let number = value.and_then(Value::as_int).unwrap_or_default();
    u64::try_from(number).unwrap_or_default()
}

impl Place<'_> {
    fn of_this(self, statement: Statement) -> Statement {
        statement
            .with(self.projection.name())
            .with(self.generation)
            .with(self.log.name())
            .with(self.standing.as_str())
    }

    /// Where the projection stands; the first time, it stands before everything.
    pub(crate) async fn load(self, session: &mut Session) -> Result<u64, sqlx::Error> {
        let insert = Statement::new(
            "INSERT INTO checkpoints (projection, generation, log, status, version, sequence, stored_at, fresh_at)
             VALUES ($1, $2, $3, $4, $5, 0, 0, 0) ON CONFLICT (projection, generation, log) DO NOTHING",
        );
        session
            .execute(self.of_this(insert).with(self.projection.version()))
            .await?;
        let select = Statement::new(
            "SELECT sequence FROM checkpoints
             WHERE projection = $1 AND generation = $2 AND log = $3 AND status = $4",
        );
        let rows = session.rows(self.of_this(select), &SEQUENCE).await?;
        Ok(rows.first().map(|row| unsigned(row.first())).unwrap_or_default())
    }

    /// Moves the checkpoint, if it is where it is expected and its generation still for the same;
    /// `false` means that another projector has moved it, or that the generation was switched.
    ///
    /// Done first in a transaction, it makes a second projector wait here, and then see that it was overtaken. Without
    /// a record that was gone past, how fresh the place is stays as it was: nothing tells when what is there was stored.
    pub(crate) async fn advance(
        self,
        session: &mut Session,
        expected: u64,
        to: u64,
        stored_at: Option<Timestamp>,
    ) -> Result<bool, sqlx::Error> {
        let update = Statement::new(
            "UPDATE checkpoints SET sequence = $5, stored_at = coalesce($6, stored_at),
             fresh_at = coalesce($6, fresh_at)
             WHERE projection = $1 AND generation = $2 AND log = $3 AND status = $4 AND sequence = $7",
        );
        let update = self.of_this(update).with(to).with(stored_at).with(expected);
        Ok(session.execute(update).await? == 1)
    }

    /// Claims the checkpoint for this transaction without moving it; `false` as for [`Place::advance`].
    pub(crate) async fn hold(self, session: &mut Session, at: u64) -> Result<bool, sqlx::Error> {
        let update = Statement::new(
            "UPDATE checkpoints SET sequence = sequence
             WHERE projection = $1 AND generation = $2 AND log = $3 AND status = $4 AND sequence = $5",
        );
        Ok(session.execute(self.of_this(update).with(at)).await? == 1)
    }

    /// The tenants parked at this place, with what keeps each.
    pub(crate) async fn parked(self, session: &mut Session) -> Result<Vec<Parked>, sqlx::Error> {
        let select = Statement::new(
            "SELECT tenant, sequence, error FROM parked WHERE projection = $1 AND generation = $2 AND log = $3
             ORDER BY tenant",
        );
        let select = select
            .with(self.projection.name())
            .with(self.generation)
            .with(self.log.name());
        let columns = [
            Column::text("tenant"),
            Column::int("sequence"),
            Column::text("error"),
        ];
        let rows = session.rows(select, &columns).await?;
        let word = |row: &[Value], at: usize| {
            let text = row.get(at).and_then(Value::as_text);
            text.unwrap_or_default().to_owned()
        };
        let parked = rows.iter().map(|row| Parked {
            tenant: word(row, 0),
            position: position(self.log, unsigned(row.get(1))),
            error: word(row, 2),
        });
        Ok(parked.collect())
    }

    /// Parks a tenant, or moves the place it is parked at.
    pub(crate) async fn park(self, session: &mut Session, parked: &Parked) -> Result<(), sqlx::Error> {
        let insert = Statement::new(
            "INSERT INTO parked (projection, generation, tenant, log, sequence, error)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (projection, generation, tenant, log)
             DO UPDATE SET sequence = excluded.sequence, error = excluded.error",
        );
        let insert = insert
            .with(self.projection.name())
            .with(self.generation)
            .with(parked.tenant.as_str())
            .with(self.log.name())
            .with(parked.position.sequence)
            .with(parked.error.as_str());
        session.execute(insert).await?;
        Ok(())
    }

    /// Lets a tenant go on.
    pub(crate) async fn unpark(self, session: &mut Session, tenant: &str) -> Result<(), sqlx::Error> {
        let delete = Statement::new(
            "DELETE FROM parked WHERE projection = $1 AND generation = $2 AND tenant = $3 AND log = $4",
        );
        let delete = delete
            .with(self.projection.name())
            .with(self.generation)
            .with(tenant)
            .with(self.log.name());
        session.execute(delete).await?;
        Ok(())
    }
}

/// What queries of some projections read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Live {
    /// Where they stand: per log, the one furthest behind.
    pub(crate) positions: Vec<Position>,
    /// The live generation of each.
    pub(crate) generations: BTreeMap<&'static str, i64>,
    /// The last time at which none of them was known to miss anything; none where one has folded nothing yet.
    pub(crate) fresh_at: Option<Timestamp>,
}

/// Where projections stand.
pub(crate) async fn positions(
    connection: &mut AnyConnection,
    projections: &[(&'static str, i64)],
) -> Result<Live, sqlx::Error> {
    let mut live = Live::default();
    if projections.is_empty() {
        return Ok(live);
    }
    let mut select = Statement::new(
        "SELECT projection, generation, log, sequence, fresh_at FROM checkpoints
         WHERE status = 'live' AND (projection, version) IN (VALUES ",
    );
    let wanted = projections.iter();
    select
        .bind_rows(wanted.map(|(name, version)| vec![(*name).into(), (*version).into()]))
        .push(")");
    let (mut behind, mut fresh_at) = (BTreeMap::new(), None);
    for row in &select.rows(connection).await? {
        let name = text(row, "projection")?;
        if let Some((name, _)) = projections.iter().find(|(known, _)| *known == name) {
            live.generations.insert(name, int(row, "generation")?);
        }
        // A generation that was made by a rebuild keeps the row by which it took its number: a place in no log, which
        // says nothing of what the generation has seen.
        let Some(log) = log_of(&text(row, "log")?) else {
            continue;
        };
        let fresh = time(row, "fresh_at")?;
        fresh_at = Some(fresh_at.map_or(fresh, |before: Timestamp| before.min(fresh)));
        let at = position(log, number(row, "sequence")?);
        behind
            .entry((at.source, at.shard))
            .and_modify(|least: &mut Position| *least = (*least).min(at))
            .or_insert(at);
    }
    live.positions = behind.into_values().collect();
    live.fresh_at = fresh_at.filter(|fresh| fresh.as_millis() > 0);
    Ok(live)
}

/// Notes that live read models had everything of a log at a moment, if they stand at its end.
pub(crate) async fn refresh(
    session: &mut Session,
    log: Log,
    end: u64,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let update = Statement::new(
        "UPDATE checkpoints SET fresh_at = $1
         WHERE log = $2 AND status = 'live' AND sequence >= $3 AND fresh_at < $1",
    );
    session
        .execute(update.with(now).with(log.name()).with(end))
        .await?;
    Ok(())
}

/// Where the live generation of a projection stands in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standpoint {
    /// The number of the generation.
    pub(crate) generation: i64,
    /// The last record it has folded.
    pub(crate) sequence: u64,
    /// When it was last known to miss nothing; none where it never was.
    pub(crate) fresh_at: Option<Timestamp>,
}

/// Where live generations stand, by projection and version.
pub(crate) type Standpoints = BTreeMap<(String, i64), Standpoint>;

/// Where the live generations stand in a log.
pub(crate) async fn standpoints(session: &mut Session, log: Log) -> Result<Standpoints, sqlx::Error> {
    let columns = [
        Column::text("projection"),
        Column::int("version"),
        Column::int("sequence"),
        Column::int("fresh_at"),
        Column::int("generation"),
    ];
    let select = Statement::new(
        "SELECT projection, version, sequence, fresh_at, generation FROM checkpoints WHERE log = $1 AND status = 'live'",
    );
    let rows = session.rows(select.with(log.name()), &columns).await?;
    let standpoints = rows.iter().filter_map(|row| {
        let fresh_at = row.get(3)?.as_int().filter(|fresh| *fresh > 0);
        let standpoint = Standpoint {
            generation: row.get(4)?.as_int()?,
            sequence: unsigned(row.get(2)),
            fresh_at: fresh_at.map(Timestamp::from_millis),
        };
        Some((
            (row.first()?.as_text()?.to_owned(), row.get(1)?.as_int()?),
            standpoint,
        ))
    });
    Ok(standpoints.collect())
}
