//! What happens in the background once a minute: aged records, expired keys and forgotten job ids are removed, in
//! steps small enough not to hold up the writer.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use tokio_util::sync::CancellationToken;

use super::kv::RemoveExpired;
use super::queue::ForgetRecent;
use super::units;
use super::writer::{Failure, Task, Writer};

const EVERY: Duration = Duration::from_mins(1);
/// The most records looked at in one step.
const STEP: i64 = 1_000;
/// A record's message id must be known for this long, so no log's records are removed before.
const LEAST_AGE: Duration = Duration::from_mins(2);

/// A log whose records are kept for a time only.
#[derive(Debug, Clone, Copy)]
pub(super) struct AgingLog {
    /// Its number in the tables.
    pub(super) number: i64,
    pub(super) keep: Duration,
}

/// Runs until the engine is closed.
pub(super) async fn run(writer: Writer, logs: Vec<AgingLog>, closed: CancellationToken) {
    while closed
        .run_until_cancelled(tokio::time::sleep(EVERY))
        .await
        .is_some()
    {
        if let Err(error) = round(&writer, &logs).await {
            tracing::warn!(%error, "The embedded log's upkeep failed; it is tried again in a minute.");
        }
    }
}

async fn round(writer: &Writer, logs: &[AgingLog]) -> Result<(), Failure> {
    for log in logs {
        let before = units::now() - units::span(log.keep.max(LEAST_AGE));
        let step = RemoveAged {
            log: log.number,
            before,
        };
        while writer.run(step).await? > 0 {}
    }
    while writer.run(RemoveExpired).await? > 0 {}
    writer.run(ForgetRecent).await
}

/// Removes the oldest records of a log that were stored before a time, as many as one step may; answers how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct RemoveAged {
    pub(super) log: i64,
    /// In microseconds since 1970.
    pub(super) before: i64,
}

#[async_trait]
impl Task for RemoveAged {
    type Answer = u64;

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
        let begin = units::place(self.log, 0);
        let newest_aged: Option<i64> = sqlx::query_scalar(
            "SELECT max(place) FROM (SELECT place, stored_at FROM records
                                     WHERE place BETWEEN ? AND ? ORDER BY place LIMIT ?)
             WHERE stored_at < ?",
        )
        .bind(begin)
        .bind(units::place(self.log, u64::MAX))
        .bind(STEP)
        .bind(self.before)
        .fetch_one(&mut *connection)
        .await?;
        let Some(newest_aged) = newest_aged else {
            return Ok(0);
        };
        sqlx::query("UPDATE logs SET removed = ? WHERE number = ?")
            .bind(units::signed(units::sequence(newest_aged)))
            .bind(self.log)
            .execute(&mut *connection)
            .await?;
        let query = sqlx::query("DELETE FROM records WHERE place BETWEEN ? AND ?");
        let removed = query.bind(begin).bind(newest_aged).execute(connection).await?;
        Ok(removed.rows_affected())
    }
}
