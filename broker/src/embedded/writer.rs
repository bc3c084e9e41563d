//! The one writer: a task that owns the writing connection and commits what waits in groups.
//!
//! Operations queue in a bounded channel; appends take room in their log's backlog before, and are refused where there
//! is none, while the changes of queue and buckets wait their turn: our own workers make few of them at a time. The task takes all that wait (bounded by count and bytes), runs them in
//! one transaction, commits once, which is one fsync, and only then answers each. Operations decide before they
//! write (a conflict writes nothing), so none needs a savepoint of its own; what is left to fail is the storage,
//! and that fails the whole group, rolled back.
//!
//! After a failure the connection is thrown away and made again for the next group.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot, watch};

use crate::backlog::Room;
use crate::{AppendError, Appended, NewRecord};

use super::database::Database;

mod serve;

pub(super) use serve::Head;
use serve::Server;

/// Operations that may wait for the writer before callers have to.
const WAITING: usize = 1_024;

/// Why an operation got no answer of its own.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Failure {
    /// The storage failed; nothing was changed.
    #[error("the database refused the write")]
    RolledBack(#[source] Arc<sqlx::Error>),
    /// The storage failed while it committed, so that nobody knows.
    #[error("the database failed while it committed")]
    Uncertain(#[source] Arc<sqlx::Error>),
    /// The engine was closed before the operation began.
    #[error("the engine is closed")]
    Closed,
    /// The writer ended while it had the operation.
    #[error("the writer ended without an answer")]
    Lost,
}

/// A change that the writer makes inside a transaction.
#[async_trait]
pub(super) trait Task: Send + fmt::Debug + 'static {
    /// What the caller gets once the change is durable.
    type Answer: Send + 'static;

    /// Makes the change. What the caller has to hear goes into the answer, and must leave the tables as they were;
    /// an error says that the storage failed, and rolls back the whole group.
    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<Self::Answer, sqlx::Error>;

    /// Whether jobs may have become due by it, so that those who wait for one must look again.
    fn frees_jobs(&self) -> bool {
        false
    }

    /// About how many bytes it writes.
    fn size(&self) -> usize {
        0
    }
}

/// A [`Task`] with its caller, its type forgotten.
#[async_trait]
trait Operation: Send {
    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error>;
    fn frees_jobs(&self) -> bool;
    fn answer(self: Box<Self>, failure: Option<&Failure>);
}

struct Pending<T: Task> {
    task: T,
    outcome: Option<T::Answer>,
    reply: oneshot::Sender<Result<T::Answer, Failure>>,
}

#[async_trait]
impl<T: Task> Operation for Pending<T> {
    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        self.outcome = Some(self.task.run(connection).await?);
        Ok(())
    }

    fn frees_jobs(&self) -> bool {
        self.task.frees_jobs()
    }

    fn answer(self: Box<Self>, failure: Option<&Failure>) {
        let answer = match (failure, self.outcome) {
            (None, Some(outcome)) => Ok(outcome),
            (failure, _) => Err(failure.cloned().unwrap_or(Failure::Lost)),
        };
        // A caller that has gone away needs no answer.
        drop(self.reply.send(answer));
    }
}

/// An append that waits for the writer.
pub(super) struct AppendRequest {
    /// The log's number in the tables.
    pub(super) log: i64,
    pub(super) records: Vec<NewRecord>,
    pub(super) reply: oneshot::Sender<Result<Vec<Appended>, AppendError>>,
    /// Held until it is answered.
    pub(super) room: Room,
}

enum Message {
    Append(AppendRequest),
    Task(Box<dyn Operation>, usize),
    Close(oneshot::Sender<()>),
}

impl Message {
    fn size(&self) -> usize {
        match self {
            Self::Append(request) => request.records.iter().map(|record| record.payload.len()).sum(),
            Self::Task(_, size) => *size,
            Self::Close(_) => 0,
        }
    }
}

/// Hands operations to the writer.
#[derive(Clone)]
pub(super) struct Writer {
    sender: mpsc::Sender<Message>,
    freed_jobs: watch::Receiver<u64>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// Runs a task and answers once its change is durable.
    pub(super) async fn run<T: Task>(&self, task: T) -> Result<T::Answer, Failure> {
        let (reply, answer) = oneshot::channel();
        let size = task.size();
        let pending = Pending {
            task,
            outcome: None,
            reply,
        };
        let message = Message::Task(Box::new(pending), size);
        self.sender.send(message).await.map_err(|_| Failure::Closed)?;
        answer.await.unwrap_or(Err(Failure::Lost))
    }

    /// Hands over a task whose answer nobody waits for; one that finds no room is given up.
    pub(super) fn run_unheard<T: Task>(&self, task: T) {
        let (reply, _) = oneshot::channel();
        let size = task.size();
        let pending = Pending {
            task,
            outcome: None,
            reply,
        };
        drop(self.sender.try_send(Message::Task(Box::new(pending), size)));
    }

    /// Appends to the log of a number. The records must have been checked.
    pub(super) async fn append(
        &self,
        log: i64,
        records: Vec<NewRecord>,
        room: Room,
    ) -> Result<Vec<Appended>, AppendError> {
        let (reply, answer) = oneshot::channel();
        let request = AppendRequest {
            log,
            records,
            reply,
            room,
        };
        if self.sender.send(Message::Append(request)).await.is_err() {
            return Err(AppendError::Unavailable(Box::new(Failure::Closed)));
        }
        answer
            .await
            .unwrap_or_else(|_| Err(AppendError::Unknown(Box::new(Failure::Lost))))
    }

    /// Changes whenever jobs may have become due.
    pub(super) fn freed_jobs(&self) -> watch::Receiver<u64> {
        self.freed_jobs.clone()
    }

    /// Waits until everything handed over before is written and the writer has let go of the file.
    pub(super) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.sender.send(Message::Close(reply)).await.is_ok() {
            // No answer means that the writer has ended already.
            drop(closed.await);
        }
    }
}

/// Starts the writer. `kept` is dropped when it ends, after the file has been let go of.
pub(super) fn start(
    database: Database,
    connection: SqliteConnection,
    heads: Vec<Head>,
    kept: impl Send + 'static,
) -> Writer {
    let (sender, receiver) = mpsc::channel(WAITING);
    let (jobs, freed_jobs) = watch::channel(0);
    let server = Server::new(database, connection, heads, jobs);
    tokio::spawn(async move {
        let closers = server.serve(receiver).await;
        drop(kept);
        for closer in closers {
            // Whoever asked may have gone away.
            closer.send(()).ok();
        }
    });
    Writer { sender, freed_jobs }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::embedded::Embedded;
    use crate::layout::{Layout, Log};
    use crate::{Engine, Subject};

    use super::*;

    /// Lets the database grow no more, as a full disk does, for as long as the connection lives.
    #[derive(Debug)]
    struct FillDisk;

    #[async_trait]
    impl Task for FillDisk {
        type Answer = ();

        async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
            sqlx::query("PRAGMA max_page_count = 1")
                .execute(connection)
                .await?;
            Ok(())
        }
    }

    /// Makes the commit fail: a deferred constraint is tested only then.
    #[derive(Debug)]
    struct BreakCommit;

    #[async_trait]
    impl Task for BreakCommit {
        type Answer = ();

        async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
            let sql =
                "CREATE TABLE child (parent INTEGER REFERENCES logs (number) DEFERRABLE INITIALLY DEFERRED);
                       INSERT INTO child VALUES (-1);";
            sqlx::raw_sql(sql).execute(connection).await?;
            Ok(())
        }
    }

    fn record(id: &str, bytes: usize) -> NewRecord {
        NewRecord {
            subject: Subject::new("ev.t1.x").unwrap(),
            message_id: id.to_owned(),
            expect: None,
            payload: Bytes::from(vec![b'x'; bytes]),
        }
    }

    #[tokio::test]
    async fn a_full_disk_refuses_the_write_and_the_log_goes_on_after() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        let log = engine.log(Log::Events(0));
        log.append(vec![record("a", 1)]).await.unwrap();
        engine.writer.run(FillDisk).await.unwrap();
        let refused = log.append(vec![record("b", 1), record("c", 500_000)]).await;
        assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
        assert_eq!(log.state().await.unwrap().last, 1);
        let after = log
            .append(vec![record("b", 1), record("c", 500_000)])
            .await
            .unwrap();
        assert_eq!(
            after.iter().map(|place| place.sequence).collect::<Vec<_>>(),
            [2, 3]
        );
        engine.close().await;
    }

    #[tokio::test]
    async fn a_failed_commit_leaves_the_outcome_open_and_a_repetition_tells() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        let log = engine.log(Log::Events(0));
        // Both are waiting before the writer runs, and so share a commit.
        let (broken, append) = tokio::join!(engine.writer.run(BreakCommit), log.append(vec![record("a", 1)]));
        assert!(matches!(broken, Err(Failure::Uncertain(_))), "{broken:?}");
        assert!(matches!(append, Err(AppendError::Unknown(_))), "{append:?}");
        let again = log.append(vec![record("a", 1)]).await.unwrap();
        assert_eq!((again[0].sequence, again[0].duplicate), (1, false));
        engine.close().await;
    }

    #[tokio::test]
    async fn closing_answers_all_that_was_handed_over_and_refuses_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        let log = engine.log(Log::Events(0));
        let waiting: Vec<_> = (0..200)
            .map(|number| {
                let log = Arc::clone(&log);
                tokio::spawn(async move { log.append(vec![record(&number.to_string(), 10)]).await })
            })
            .collect();
        tokio::task::yield_now().await;
        engine.close().await;
        let mut stored = 0;
        for append in waiting {
            match append.await.unwrap() {
                Ok(_) => stored += 1,
                Err(AppendError::Unavailable(_)) => {}
                Err(other) => panic!("an append was left without a clear answer: {other:?}"),
            }
        }
        assert!(matches!(
            log.append(vec![record("late", 1)]).await,
            Err(AppendError::Unavailable(_))
        ));

        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        assert_eq!(engine.log(Log::Events(0)).state().await.unwrap().last, stored);
        engine.close().await;
    }
}
