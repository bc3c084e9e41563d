//! What keeps projectors from going on, in a table: whoever asks learns it from any process, not only from theirs.

use std::time::Duration;

use domain::Timestamp;
use serde::Serialize;

use crate::engine::Session;
use crate::sql::{Statement, Value};
use crate::table::Column;
use crate::{ProjectionStatus, QueryError, ReadModels};

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

/// Tells what is wrong in this process, each time it is asked to: at least every few seconds.
#[derive(Debug)]
pub struct Teller {
    read_models: ReadModels,
    process: String,
    /// Whether something told is still in the table.
    told: bool,
}

impl Teller {
    /// For a process that starts now.
    pub fn new(read_models: ReadModels, now: Timestamp) -> Self {
        Self {
            read_models,
            process: format!("{}-{}", std::process::id(), now.as_millis()),
            told: false,
        }
    }

    /// Replaces what this process has said by what is so now.
    pub async fn tell(&mut self, status: &[ProjectionStatus], now: Timestamp) -> Result<(), QueryError> {
        let troubled = status
            .iter()
            .filter_map(|status| Some((status, status.last_error.as_deref()?)));
        let troubled: Vec<_> = troubled.collect();
        if troubled.is_empty() && !self.told {
            return Ok(());
        }
        let mut session = self.read_models.database.begin().await?;
        let forget = Statement::new("DELETE FROM projector_troubles WHERE process = $1 OR told_at < $2");
        let forget = forget.with(self.process.as_str()).with(oldest(now));
        session.execute(forget).await?;
        for (status, error) in &troubled {
            let insert = Statement::new(
                "INSERT INTO projector_troubles (projection, process, stopped, error, told_at)
                 VALUES ($1, $2, $3, $4, $5)",
            );
            let insert = insert
                .with(status.name)
                .with(self.process.as_str())
                .with(i64::from(status.stopped))
                .with(*error)
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
