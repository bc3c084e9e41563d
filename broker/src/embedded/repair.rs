//! Repairing the file while nobody else uses it.

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;

use crate::layout::Log;
use crate::{OpenError, Repair};

use super::writer::Task;
use super::{Embedded, units};

#[async_trait]
impl Repair for Embedded {
    async fn set_aside(&self, log: Log) -> Result<String, OpenError> {
        let aside = format!("{log} set aside {}", units::now());
        let rename = Rename {
            log: log.name(),
            aside: aside.clone(),
        };
        let renamed = self.writer.run(rename).await;
        renamed.map_err(|error| self.database.unreachable(error))?;
        Ok(aside)
    }

    async fn begin_after(&self, log: Log, sequence: u64) -> Result<(), OpenError> {
        let begin = BeginAfter {
            log: log.name(),
            sequence: units::signed(sequence),
        };
        let begun = self.writer.run(begin).await;
        begun.map_err(|error| self.database.unreachable(error))
    }
}

/// The records stay under the log's number; the name is free for another.
#[derive(Debug)]
struct Rename {
    log: String,
    aside: String,
}

#[async_trait]
impl Task for Rename {
    type Answer = ();

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let rename = sqlx::query("UPDATE logs SET name = ? WHERE name = ?");
        let rename = rename.bind(&self.aside).bind(&self.log);
        rename.execute(connection).await.map(drop)
    }
}

#[derive(Debug)]
struct BeginAfter {
    log: String,
    sequence: i64,
}

#[async_trait]
impl Task for BeginAfter {
    type Answer = ();

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let floor = sqlx::query(
            "INSERT INTO floors (log, sequence) SELECT number, ? FROM logs WHERE name = ?
             ON CONFLICT (log) DO UPDATE SET sequence = max(sequence, excluded.sequence)",
        );
        let floor = floor.bind(self.sequence).bind(&self.log);
        floor.execute(connection).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::layout::Layout;
    use crate::{Engine, NewRecord, Subject};

    fn record(subject: &str, id: &str) -> NewRecord {
        NewRecord {
            subject: Subject::new(subject).unwrap(),
            message_id: id.to_owned(),
            expect: None,
            payload: Bytes::from_static(b"x"),
        }
    }

    async fn append(engine: &Embedded, log: Log, id: &str) -> u64 {
        let subject = format!("{}.t.x", log.subject_roots()[0]);
        let appended = engine.log(log).append(vec![record(&subject, id)]).await;
        appended.unwrap()[0].sequence
    }

    #[tokio::test]
    async fn numbers_of_lost_records_are_not_given_out_again() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::Messages(0);
        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        engine.begin_after(log, 40).await.unwrap();
        engine.close().await;
        drop(engine);
        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        let state = engine.log(log).state().await.unwrap();
        assert_eq!((state.first, state.last), (41, 40));
        assert_eq!(append(&engine, log, "1").await, 41);
        engine.begin_after(log, 60).await.unwrap();
        engine.close().await;
        drop(engine);
        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        assert_eq!(append(&engine, log, "2").await, 61);
        let state = engine.log(log).state().await.unwrap();
        assert_eq!(state.last, 61);
        let kept = engine.log(log).read(0, None, 10).await.unwrap();
        assert_eq!(
            kept.iter().map(|record| record.sequence).collect::<Vec<_>>(),
            [41, 61]
        );
        engine.close().await;
    }

    #[tokio::test]
    async fn a_log_set_aside_makes_room_for_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::Events(0);
        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        append(&engine, log, "1").await;
        let before = engine.log(log).state().await.unwrap();
        assert!(
            engine
                .set_aside(log)
                .await
                .unwrap()
                .starts_with("EVENTS-0 set aside")
        );
        engine.close().await;
        drop(engine);
        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        let after = engine.log(log).state().await.unwrap();
        assert_eq!(after.last, 0);
        assert_ne!(after.created, before.created);
        assert_eq!(append(&engine, log, "1").await, 1);
        engine.close().await;
    }
}
