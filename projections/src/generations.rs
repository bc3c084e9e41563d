//! Generations: the copies of a projection's tables, and which of them queries read.

mod list;

use std::collections::BTreeMap;

use broker::layout::Log;

use crate::checkpoints::{Place, unsigned};
use crate::engine::{Session, copies};
use crate::projection::{Projection, log_of};
use crate::sql::{Statement, Value};
use crate::table::Column;

pub use list::Generation;

/// What a generation of a projection's tables is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Queries read it, projectors keep it at the head of the log.
    Live,
    /// A replay fills it.
    Building,
    /// It was live before; a rollback makes it so again.
    Previous,
    /// It shows a past position.
    Inspection,
}

impl Standing {
    /// The standing as it is stored.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Building => "building",
            Self::Previous => "previous",
            Self::Inspection => "inspection",
        }
    }

    /// The standing stored so.
    pub(crate) fn of(stored: &str) -> Option<Self> {
        [Self::Live, Self::Building, Self::Previous, Self::Inspection]
            .into_iter()
            .find(|standing| standing.as_str() == stored)
    }
}

fn first_int(rows: &[Vec<Value>]) -> Option<i64> {
    rows.first()?.first()?.as_int()
}

/// Lets only one process at a time make or switch generations of a projection, until the transaction ends.
pub(crate) async fn alone(session: &mut Session, projection: &str) -> Result<(), sqlx::Error> {
    if let Session::Postgres(_) = session {
        let lock = Statement::new("SELECT pg_advisory_xact_lock(hashtext('tidings.generations.' || $1))");
        session.execute(lock.with(projection)).await?;
    }
    Ok(())
}

/// The generation that queries of this version of a projection read, if there is one.
pub(crate) async fn live(
    session: &mut Session,
    projection: &dyn Projection,
) -> Result<Option<i64>, sqlx::Error> {
    let select = Statement::new(
        "SELECT generation FROM checkpoints WHERE projection = $1 AND version = $2 AND status = 'live' LIMIT 1",
    )
    .with(projection.name())
    .with(projection.version());
    let rows = session.rows(select, &[Column::int("generation")]).await?;
    Ok(first_int(&rows))
}

/// A generation's number that no other of the projection has; 0 for the first.
pub(crate) async fn next(session: &mut Session, projection: &dyn Projection) -> Result<i64, sqlx::Error> {
    let select =
        Statement::new("SELECT coalesce(max(generation) + 1, 0) FROM checkpoints WHERE projection = $1")
            .with(projection.name());
    let rows = session.rows(select, &[Column::int("generation")]).await?;
    Ok(first_int(&rows).unwrap_or_default())
}

/// The live generation; where this version of the projection has none, an empty one is made: what another version
/// folded is left to it.
pub(crate) async fn live_or_new(
    session: &mut Session,
    projection: &dyn Projection,
    log: Log,
) -> Result<i64, sqlx::Error> {
    if let Some(generation) = live(session, projection).await? {
        return Ok(generation);
    }
    alone(session, projection.name()).await?;
    if let Some(generation) = live(session, projection).await? {
        return Ok(generation);
    }
    // A rebuild may have been asked for before the first projector began; the tables of the migrations come first.
    let generation = match standing(session, projection, 0).await? {
        None => 0,
        Some(_) => next(session, projection).await?,
    };
    for table in projection.tables() {
        copies::make(session, table, generation).await?;
        copies::finish(session, table, generation).await?;
    }
    let place = Place {
        projection,
        generation,
        log,
        standing: Standing::Live,
    };
    place.load(session).await?;
    if generation > 0 {
        tracing::info!(
            projection = projection.name(),
            "The fold has changed; the read model is made anew from the first record."
        );
    }
    Ok(generation)
}

const PLACES: [Column; 2] = [Column::text("log"), Column::int("sequence")];

fn places(rows: &[Vec<Value>]) -> BTreeMap<Log, u64> {
    let places = rows.iter().filter_map(|row| {
        let log = log_of(row.first()?.as_text()?)?;
        Some((log, unsigned(row.get(1))))
    });
    places.collect()
}

/// Where the live generation stands in each log.
pub(crate) async fn live_sequences(
    session: &mut Session,
    projection: &dyn Projection,
) -> Result<BTreeMap<Log, u64>, sqlx::Error> {
    let select = Statement::new(
        "SELECT log, sequence FROM checkpoints WHERE projection = $1 AND version = $2 AND status = 'live'",
    );
    let select = select.with(projection.name()).with(projection.version());
    Ok(places(&session.rows(select, &PLACES).await?))
}

/// The same, and nobody moves it until the transaction ends.
pub(crate) async fn hold_live(
    session: &mut Session,
    projection: &dyn Projection,
) -> Result<BTreeMap<Log, u64>, sqlx::Error> {
    let update = Statement::new(
        "UPDATE checkpoints SET sequence = sequence WHERE projection = $1 AND version = $2 AND status = 'live'",
    );
    session
        .execute(update.with(projection.name()).with(projection.version()))
        .await?;
    live_sequences(session, projection).await
}

/// Says what a generation is for.
pub(crate) async fn stand(
    session: &mut Session,
    projection: &dyn Projection,
    generation: i64,
    standing: Standing,
) -> Result<(), sqlx::Error> {
    let update =
        Statement::new("UPDATE checkpoints SET status = $1 WHERE projection = $2 AND generation = $3");
    let update = update.with(standing.as_str()).with(projection.name());
    session.execute(update.with(generation)).await?;
    Ok(())
}

/// Where a generation stands ahead of another, it has seen at least what that one had: it is as fresh.
pub(crate) async fn inherit_freshness(
    session: &mut Session,
    projection: &dyn Projection,
    (from, to): (i64, i64),
) -> Result<(), sqlx::Error> {
    let select =
        Statement::new("SELECT log, fresh_at FROM checkpoints WHERE projection = $1 AND generation = $2");
    let select = select.with(projection.name()).with(from);
    let columns = [Column::text("log"), Column::int("fresh_at")];
    for row in session.rows(select, &columns).await? {
        let (Some(log), Some(fresh_at)) = (
            row.first().and_then(Value::as_text),
            row.get(1).and_then(Value::as_int),
        ) else {
            continue;
        };
        let update = Statement::new(
            "UPDATE checkpoints SET fresh_at = $1
             WHERE projection = $2 AND generation = $3 AND log = $4 AND fresh_at < $1",
        );
        let update = update.with(fresh_at).with(projection.name()).with(to).with(log);
        session.execute(update).await?;
    }
    Ok(())
}

/// What a generation is for; none where there is none.
pub(crate) async fn standing(
    session: &mut Session,
    projection: &dyn Projection,
    generation: i64,
) -> Result<Option<Standing>, sqlx::Error> {
    let select =
        Statement::new("SELECT status FROM checkpoints WHERE projection = $1 AND generation = $2 LIMIT 1");
    let select = select.with(projection.name()).with(generation);
    let rows = session.rows(select, &[Column::text("status")]).await?;
    let stored = rows.first().and_then(|row| row.first()).and_then(Value::as_text);
    Ok(stored.and_then(Standing::of))
}

/// The version of the fold that made a generation; none where there is none.
pub(crate) async fn version(
    session: &mut Session,
    projection: &dyn Projection,
    generation: i64,
) -> Result<Option<i64>, sqlx::Error> {
    let select =
        Statement::new("SELECT version FROM checkpoints WHERE projection = $1 AND generation = $2 LIMIT 1");
    let select = select.with(projection.name()).with(generation);
    let rows = session.rows(select, &[Column::int("version")]).await?;
    Ok(first_int(&rows))
}

/// Takes a number for a generation that is to be built: a place in no log, so that nobody takes it too.
pub(crate) async fn reserve(
    session: &mut Session,
    projection: &dyn Projection,
    generation: i64,
) -> Result<(), sqlx::Error> {
    let insert = Statement::new(
        "INSERT INTO checkpoints (projection, version, generation, log, status, sequence, stored_at, fresh_at)
         VALUES ($1, $2, $3, '', 'building', 0, 0, 0)",
    );
    let insert = insert.with(projection.name()).with(projection.version());
    session.execute(insert.with(generation)).await?;
    Ok(())
}

/// The generation that was live last before the present one.
pub(crate) async fn previous(
    session: &mut Session,
    projection: &dyn Projection,
) -> Result<Option<i64>, sqlx::Error> {
    Ok(predecessors(session, projection).await?.into_iter().next())
}

/// The generations that were live before that.
pub(crate) async fn older(
    session: &mut Session,
    projection: &dyn Projection,
) -> Result<Vec<i64>, sqlx::Error> {
    Ok(predecessors(session, projection)
        .await?
        .into_iter()
        .skip(1)
        .collect())
}

/// The generations of this version that were live, the last first: that is the one that has come furthest.
async fn predecessors(session: &mut Session, projection: &dyn Projection) -> Result<Vec<i64>, sqlx::Error> {
    let select = Statement::new(
        "SELECT generation FROM checkpoints WHERE projection = $1 AND version = $2 AND status = 'previous'
         GROUP BY generation ORDER BY max(sequence) DESC, generation DESC",
    );
    let select = select.with(projection.name()).with(projection.version());
    let rows = session.rows(select, &[Column::int("generation")]).await?;
    Ok(rows.iter().filter_map(|row| row.first()?.as_int()).collect())
}

/// Forgets where a generation stood.
pub(crate) async fn forget(
    session: &mut Session,
    projection: &dyn Projection,
    generation: i64,
) -> Result<(), sqlx::Error> {
    for table in ["checkpoints", "parked"] {
        let delete = format!("DELETE FROM {table} WHERE projection = $1 AND generation = $2");
        let delete = Statement::new(delete).with(projection.name()).with(generation);
        session.execute(delete).await?;
    }
    Ok(())
}

/// A tenant whose rows were exchanged is parked in the one generation as it was in the other.
pub(crate) async fn move_parked(
    session: &mut Session,
    projection: &dyn Projection,
    (from, to): (i64, i64),
    tenant: &domain::TenantId,
) -> Result<(), sqlx::Error> {
    let delete =
        Statement::new("DELETE FROM parked WHERE projection = $1 AND generation = $2 AND tenant = $3");
    let delete = delete.with(projection.name()).with(to).with(tenant.as_str());
    session.execute(delete).await?;
    let update = Statement::new(
        "UPDATE parked SET generation = $1 WHERE projection = $2 AND generation = $3 AND tenant = $4",
    );
    let update = update.with(to).with(projection.name()).with(from);
    session.execute(update.with(tenant.as_str())).await?;
    Ok(())
}
