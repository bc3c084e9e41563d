//! All generations there are, for operators.

use domain::{Position, Timestamp};

use super::Standing;
use crate::checkpoints::{Parked, unsigned};
use crate::engine::Session;
use crate::projection::{log_of, position};
use crate::sql::{Statement, Value};
use crate::table::Column;
use crate::{QueryError, ReadModels};

/// A generation of a projection, as operators see it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Generation {
    /// The projection.
    pub projection: String,
    /// The version of the fold that made it.
    pub version: i64,
    /// Its number: `users_g7` is the table `users` of generation 7.
    pub generation: i64,
    /// What it is for.
    pub standing: Standing,
    /// Where it stands, per log.
    pub positions: Vec<Position>,
    /// When it was last known to miss nothing; none where it never was.
    pub fresh_at: Option<Timestamp>,
    /// The tenants that wait in it.
    pub parked: Vec<Parked>,
}

impl ReadModels {
    /// All generations of all projections, whichever program made them.
    pub async fn generations(&self) -> Result<Vec<Generation>, QueryError> {
        let mut session = self.database.begin_beside().await?;
        Ok(all(&mut session).await?)
    }
}

async fn all(session: &mut Session) -> Result<Vec<Generation>, sqlx::Error> {
    let columns = [
        Column::text("projection"),
        Column::int("version"),
        Column::int("generation"),
        Column::text("status"),
        Column::text("log"),
        Column::int("sequence"),
        Column::int("fresh_at"),
    ];
    let select = Statement::new(
        "SELECT projection, version, generation, status, log, sequence, fresh_at FROM checkpoints
         ORDER BY projection, generation, log",
    );
    let mut all: Vec<Generation> = Vec::new();
    for row in session.rows(select, &columns).await? {
        let text = |at: usize| row.get(at).and_then(Value::as_text).unwrap_or_default();
        let int = |at: usize| row.get(at).and_then(Value::as_int).unwrap_or_default();
        let same = |last: &Generation| last.projection == text(0) && last.generation == int(2);
        if !all.last().is_some_and(same) {
            all.push(Generation {
                projection: text(0).to_owned(),
                version: int(1),
                generation: int(2),
                standing: Standing::of(text(3)).unwrap_or(Standing::Inspection),
                positions: Vec::new(),
                fresh_at: None,
                parked: Vec::new(),
            });
        }
        // The row by which a rebuild took the number is a place in no log, and says nothing of what was seen.
        let (Some(last), Some(log)) = (all.last_mut(), log_of(text(4))) else {
            continue;
        };
        let fresh_at = Timestamp::from_millis(int(6));
        last.positions.push(position(log, unsigned(row.get(5))));
        last.fresh_at = Some(last.fresh_at.map_or(fresh_at, |before| before.min(fresh_at)));
    }
    for known in &mut all {
        known.fresh_at = known.fresh_at.filter(|fresh| fresh.as_millis() > 0);
    }
    add_parked(session, &mut all).await?;
    Ok(all)
}

async fn add_parked(session: &mut Session, all: &mut [Generation]) -> Result<(), sqlx::Error> {
    let columns = [
        Column::text("projection"),
        Column::int("generation"),
        Column::text("tenant"),
        Column::text("log"),
        Column::int("sequence"),
        Column::text("error"),
    ];
    let select = Statement::new(
        "SELECT projection, generation, tenant, log, sequence, error FROM parked ORDER BY tenant, log LIMIT 10000",
    );
    for row in session.rows(select, &columns).await? {
        let text = |at: usize| row.get(at).and_then(Value::as_text).unwrap_or_default();
        let Some(log) = log_of(text(3)) else { continue };
        let generation = row.get(1).and_then(Value::as_int);
        let of =
            |known: &&mut Generation| known.projection == text(0) && Some(known.generation) == generation;
        if let Some(known) = all.iter_mut().find(of) {
            known.parked.push(Parked {
                tenant: text(2).to_owned(),
                position: position(log, unsigned(row.get(4))),
                error: text(5).to_owned(),
            });
        }
    }
    Ok(())
}
