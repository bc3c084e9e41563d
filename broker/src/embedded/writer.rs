//! The one writer: a task that owns the writing connection and commits what waits in groups.
//!
//! Operations queue in a bounded channel. The task takes all that wait (bounded by count and bytes), runs them in
//! one transaction, commits once, which is one fsync, and only then answers each. Operations decide before they
//! write (a conflict writes nothing), so none needs a savepoint of its own; what is left to fail is the storage,
//! and that fails the whole group, rolled back.
//!
//! After a failure the connection is thrown away and made again for the next group.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{AppendError, Appended, NewRecord};

use super::append;
use super::database::{self, Database, LogRow};

/// Operations that may wait for the writer before callers have to.
const WAITING: usize = 1_024;
/// The most operations of one group, and about the most bytes.
const GROUP: usize = 512;
const GROUP_BYTES: usize = 8 << 20;

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
    ) -> Result<Vec<Appended>, AppendError> {
        let (reply, answer) = oneshot::channel();
        let request = AppendRequest { log, records, reply };
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

/// Where one log stands, as the writer knows it, and who is told.
pub(super) struct Head {
    pub(super) number: i64,
    pub(super) last: u64,
    pub(super) stored_at: i64,
    /// The last sequence that is durable.
    pub(super) sender: watch::Sender<u64>,
}

impl Head {
    pub(super) fn new(row: &LogRow) -> Self {
        Self {
            number: row.number,
            last: row.last,
            stored_at: row.stored_at,
            sender: watch::Sender::new(row.last),
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
    let state = State {
        database,
        connection: Some(connection),
        heads,
        jobs,
        inserts: append::Inserts::new(),
    };
    tokio::spawn(async move {
        let closers = state.serve(receiver).await;
        drop(kept);
        for closer in closers {
            // Whoever asked may have gone away.
            closer.send(()).ok();
        }
    });
    Writer { sender, freed_jobs }
}

struct State {
    database: Database,
    connection: Option<SqliteConnection>,
    heads: Vec<Head>,
    jobs: watch::Sender<u64>,
    inserts: append::Inserts,
}

/// What one transaction holds.
#[derive(Default)]
struct Group {
    appends: Vec<AppendRequest>,
    tasks: Vec<Box<dyn Operation>>,
    closers: Vec<oneshot::Sender<()>>,
}

impl Group {
    fn add(&mut self, message: Message) {
        match message {
            Message::Append(request) => self.appends.push(request),
            Message::Task(task, _) => self.tasks.push(task),
            Message::Close(reply) => self.closers.push(reply),
        }
    }
}

impl State {
    /// Serves until all senders are gone or one asks to close; answers those who asked.
    async fn serve(mut self, mut receiver: mpsc::Receiver<Message>) -> Vec<oneshot::Sender<()>> {
        let mut waiting = Vec::with_capacity(GROUP);
        let mut closers = Vec::new();
        while receiver.recv_many(&mut waiting, GROUP).await > 0 {
            let mut messages = waiting.drain(..).peekable();
            while messages.peek().is_some() {
                let mut group = Group::default();
                let mut bytes = 0;
                while let Some(message) =
                    messages.next_if(|next| bytes == 0 || bytes + next.size() <= GROUP_BYTES)
                {
                    bytes += message.size().max(1);
                    group.add(message);
                }
                closers.append(&mut group.closers);
                self.commit(group).await;
            }
            drop(messages);
            if !closers.is_empty() {
                // What was handed over before is still served; the rest finds the channel closed.
                receiver.close();
            }
        }
        self.let_go().await;
        closers
    }

    /// Writes a group and answers everyone in it.
    async fn commit(&mut self, group: Group) {
        let Group {
            appends, mut tasks, ..
        } = group;
        if appends.is_empty() && tasks.is_empty() {
            return;
        }
        let mut batch = append::Batch::new(appends);
        match self.write(&mut batch, &mut tasks).await {
            Ok(()) => {
                batch.publish(&mut self.heads);
                if tasks.iter().any(|task| task.frees_jobs()) {
                    self.jobs.send_modify(|count| *count = count.wrapping_add(1));
                }
                batch.answer(None);
                for task in tasks {
                    task.answer(None);
                }
            }
            Err(failure) => {
                tracing::error!(error = %failure, cause = ?failure, "The embedded log could not write.");
                self.abandon().await;
                batch.answer(Some(&failure));
                for task in tasks {
                    task.answer(Some(&failure));
                }
            }
        }
    }

    async fn write(
        &mut self,
        batch: &mut append::Batch,
        tasks: &mut [Box<dyn Operation>],
    ) -> Result<(), Failure> {
        let rolled_back = |error| Failure::RolledBack(Arc::new(error));
        if self.connection.is_none() {
            let connection = self.reconnect().await.map_err(rolled_back)?;
            self.connection = Some(connection);
        }
        let Some(connection) = &mut self.connection else {
            return Err(Failure::Lost);
        };
        let mut transaction = connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(rolled_back)?;
        batch
            .write(&mut transaction, &self.heads, &self.inserts)
            .await
            .map_err(rolled_back)?;
        for task in tasks {
            task.run(&mut transaction).await.map_err(rolled_back)?;
        }
        transaction.commit().await.map_err(|error| {
            if is_full(&error) {
                rolled_back(error)
            } else {
                Failure::Uncertain(Arc::new(error))
            }
        })
    }

    /// A new connection after a failure. Where the commit itself had failed, the logs may have grown.
    async fn reconnect(&mut self) -> Result<SqliteConnection, sqlx::Error> {
        let mut connection = self.database.connect_writer().await?;
        for head in &mut self.heads {
            (head.last, head.stored_at) = database::read_end(&mut connection, head.number).await?;
            head.sender.send_replace(head.last);
        }
        Ok(connection)
    }

    async fn abandon(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close_hard().await
        {
            tracing::warn!(%error, "The embedded log's failed connection did not close.");
        }
    }

    /// Moves what the write-ahead log holds into the database and closes it.
    async fn let_go(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let checkpoint = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut connection)
            .await;
        if let Err(error) = checkpoint.map(drop).and(connection.close().await) {
            tracing::warn!(%error, "The embedded log did not close cleanly; it will be recovered on the next start.");
        }
    }
}

/// Whether the disk is full. The frame that makes a transaction valid is written last, so that one which met a full
/// disk on the way has certainly not happened.
fn is_full(error: &sqlx::Error) -> bool {
    const SQLITE_FULL: &str = "13";
    error
        .as_database_error()
        .is_some_and(|error| error.code().is_some_and(|code| code == SQLITE_FULL))
}
