//! What keeps projectors from going on, in a table: whoever asks learns it from any process, not only from theirs.

use std::sync::Arc;
use std::time::Duration;

use domain::Timestamp;
use serde::Serialize;

use super::state::State;
use crate::engine::{Database, Session};
use crate::sql::{Statement, Value};
use crate::table::Column;
use crate::{QueryError, ReadModels};

/// How long what a process has said counts, should it say nothing more.
const COUNTS: Duration = Duration::from_secs(10);

/// What keeps a projection from going on, somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// The projection.
    pub projection: String,
    /// Whether it has stopped for good there: its log is not as it must be, and only an operator can help.
    pub stopped: bool,
    /// What went wrong last.
    pub error: String,
}

/// Tells what is wrong in this process, each time it is asked to.
#[derive(Debug)]
pub(super) struct Teller {
    process: String,
    /// Whether something told is still in the table.
    told: bool,
}

impl Teller {
    /// For a process that has just started.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            process: format!("{}-{}", std::process::id(), now.as_millis()),
            told: false,
        }
    }

    /// Replaces what this process has said by what is so now.
    pub(super) async fn tell(
        &mut self,
        database: &Database,
        states: &[Arc<State>],
        now: Timestamp,
    ) -> Result<(), sqlx::Error> {
        let troubled: Vec<_> = states.iter().filter_map(|state| trouble(state)).collect();
        if troubled.is_empty() && !self.told {
            return Ok(());
        }
        let mut session = database.begin().await?;
        let forget = Statement::new("DELETE FROM projector_troubles WHERE process = $1 OR told_at < $2");
        let forget = forget.with(self.process.as_str()).with(oldest(now));
        session.execute(forget).await?;
        for (projection, log, stopped, error) in &troubled {
            let insert = Statement::new(
                "INSERT INTO projector_troubles (projection, log, process, stopped, error, told_at)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            );
            let insert = insert
                .with(*projection)
                .with(log.as_str())
                .with(self.process.as_str())
                .with(i64::from(*stopped))
                .with(error.as_str())
                .with(now);
            session.execute(insert).await?;
        }
        session.commit().await?;
        self.told = !troubled.is_empty();
        Ok(())
    }
}

fn oldest(now: Timestamp) -> Timestamp {
    now.saturating_sub(COUNTS)
}

fn trouble(state: &State) -> Option<(&'static str, String, bool, String)> {
    let seen = state.seen();
    let error = seen.last_error?;
    let line = &state.line;
    Some((line.projection.name(), line.log.name(), seen.stopped, error))
}

impl ReadModels {
    /// What keeps projections from going on at this moment, in any process; those that have stopped for good first.
    pub async fn troubles(&self) -> Result<Vec<Trouble>, QueryError> {
        let now = Timestamp::from(std::time::SystemTime::now());
        let mut session = self.database.begin_beside().await?;
        Ok(all(&mut session, oldest(now)).await?)
    }
}

async fn all(session: &mut Session, since: Timestamp) -> Result<Vec<Trouble>, sqlx::Error> {
    let columns = [
        Column::text("projection"),
        Column::int("stopped"),
        Column::text("error"),
    ];
    let select = Statement::new(
        "SELECT projection, stopped, error FROM projector_troubles WHERE told_at >= $1
         ORDER BY stopped DESC, told_at DESC",
    );
    let rows = session.rows(select.with(since), &columns).await?;
    let text = |value: Option<&Value>| value.and_then(Value::as_text).unwrap_or_default().to_owned();
    let troubles = rows.iter().map(|row| Trouble {
        projection: text(row.first()),
        stopped: row
            .get(1)
            .and_then(Value::as_int)
            .is_some_and(|stopped| stopped != 0),
        error: text(row.get(2)),
    });
    Ok(troubles.collect())
}
