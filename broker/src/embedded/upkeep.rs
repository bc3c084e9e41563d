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

#[cfg(test)]
mod tests {
    use std::error::Error;

    use bytes::Bytes;

    use crate::embedded::Embedded;
    use crate::layout::{Layout, Log};
    use crate::{Engine, NewRecord, Subject};

    use super::*;

    const LOG: Log = Log::Messages(0);

    /// Appends records numbered from one number up to another; answers the last sequence.
    async fn append(engine: &Embedded, log: Log, numbers: std::ops::Range<u32>) -> u64 {
        let subject = Subject::new(format!("{}.t1.x", log.subject_roots()[0])).unwrap();
        let record = |number: u32| NewRecord {
            subject: subject.clone(),
            message_id: number.to_string(),
            expect: None,
            payload: Bytes::from_static(b"x"),
        };
        engine
            .log(log)
            .append(numbers.map(record).collect())
            .await
            .unwrap()
            .last()
            .unwrap()
            .sequence
    }

    async fn bounds(engine: &Embedded, log: Log) -> (u64, u64) {
        let state = engine.log(log).state().await.unwrap();
        (state.first, state.last)
    }

    /// Removes all that is older than a time, in steps; answers how many each removed.
    async fn remove(engine: &Embedded, log: Log, before: i64) -> Vec<u64> {
        let number = engine.logs[&log].number;
        let mut steps = Vec::new();
        while steps.last() != Some(&0) {
            let step = RemoveAged { log: number, before };
            steps.push(engine.writer.run(step).await.unwrap());
        }
        steps
    }

    #[tokio::test]
    async fn aged_records_go_in_steps_and_sequences_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        for start in [0, 1_000] {
            append(&engine, LOG, start..start + 1_000).await;
        }
        append(&engine, LOG, 2_000..2_500).await;
        assert_eq!(
            remove(&engine, LOG, units::now() - units::span(LEAST_AGE)).await,
            [0]
        );
        assert_eq!(bounds(&engine, LOG).await, (1, 2_500));

        let between = units::now();
        append(&engine, LOG, 2_500..2_501).await;
        assert_eq!(remove(&engine, LOG, between).await, [1_000, 1_000, 500, 0]);
        assert_eq!(bounds(&engine, LOG).await, (2_501, 2_501));
        assert_eq!(remove(&engine, LOG, i64::MAX).await, [1, 0]);
        assert_eq!(bounds(&engine, LOG).await, (2_502, 2_501));
        engine.close().await;

        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        assert_eq!(bounds(&engine, LOG).await, (2_502, 2_501));
        assert_eq!(append(&engine, LOG, 3_000..3_001).await, 2_502);
        engine.close().await;
    }

    #[tokio::test]
    async fn the_log_of_events_refuses_removal_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        let log = Log::Events(0);
        append(&engine, log, 0..3).await;
        let step = RemoveAged {
            log: engine.logs[&log].number,
            before: i64::MAX,
        };
        let refused = engine.writer.run(step).await.unwrap_err();
        let cause = refused.source().map(ToString::to_string).unwrap_or_default();
        assert!(cause.contains("kept for ever"), "{refused}: {cause}");
        assert_eq!(bounds(&engine, log).await, (1, 3));
        assert_eq!(append(&engine, log, 3..4).await, 4);
        engine.close().await;
    }
}
