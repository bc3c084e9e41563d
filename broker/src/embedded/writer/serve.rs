//! The writer's loop: what waits becomes one transaction, one commit, and an answer to each.

use std::sync::Arc;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot, watch};

use crate::embedded::append;
use crate::embedded::database::{self, Database, LogRow};
use crate::embedded::failures;

use super::{AppendRequest, Failure, Message, Operation};

/// The most operations of one group, and about the most bytes.
const GROUP: usize = 512;
const GROUP_BYTES: usize = 8 << 20;

/// Where one log stands, as the writer knows it, and who is told.
pub(in crate::embedded) struct Head {
    pub(in crate::embedded) number: i64,
    pub(in crate::embedded) last: u64,
    pub(in crate::embedded) stored_at: i64,
    /// The last sequence that is durable.
    pub(in crate::embedded) sender: watch::Sender<u64>,
}

impl Head {
    pub(in crate::embedded) fn new(row: &LogRow) -> Self {
        Self {
            number: row.number,
            last: row.last,
            stored_at: row.stored_at,
            sender: watch::Sender::new(row.last),
        }
    }
}

/// The writer's own: the connection, and where the logs stand.
pub(super) struct Server {
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

impl Server {
    pub(super) fn new(
        database: Database,
        connection: SqliteConnection,
        heads: Vec<Head>,
        jobs: watch::Sender<u64>,
    ) -> Self {
        Self {
            database,
            connection: Some(connection),
            heads,
            jobs,
            inserts: append::Inserts::new(),
        }
    }

    /// Serves until all senders are gone or one asks to close; answers those who asked.
    pub(super) async fn serve(mut self, mut receiver: mpsc::Receiver<Message>) -> Vec<oneshot::Sender<()>> {
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
            if failures::is_full(&error) {
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
