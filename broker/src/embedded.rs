//! The embedded engine: every port in one SQLite file, for one process on one machine.
//!
//! * `database`: the folder's lock, the connections and the tables.
//! * `writer`: the one task that writes, committing what waits in groups.
//! * `append`: how the appends of a group are decided and written.
//! * `log`, `queue`, `dead_letters`, `kv`: the ports.
//! * `upkeep`, `examine`: retention and expiry in the background; findings for the operator.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backlog::Backlog;
use crate::layout::{Bucket, Layout, Log, Retention};
use crate::{DeadLetters, Engine, EventLog, Finding, KeyValue, OpenError, WorkQueue};

mod append;
mod database;
mod dead_letters;
mod examine;
mod failures;
mod kv;
mod log;
mod queue;
mod repair;
mod steady;
mod units;
mod upkeep;
mod writer;

use database::{Database, LogRow};
use dead_letters::EmbeddedDeadLetters;
use kv::EmbeddedBucket;
use log::{EmbeddedLog, Parts};
use queue::EmbeddedQueue;
use upkeep::AgingLog;
use writer::{Head, Writer};

/// All ports in the file `log.db` of one folder.
///
/// The folder is locked as long as the engine is open; a second process is refused. Nothing is lost when the engine
/// is dropped without [`Engine::close`], but the folder is then let go of a little later.
#[derive(Debug)]
pub struct Embedded {
    layout: Layout,
    database: Database,
    readers: SqlitePool,
    writer: Writer,
    logs: HashMap<Log, Arc<Parts>>,
    queue: Arc<EmbeddedQueue>,
    upkeep: CancellationToken,
    _upkeep_ends: DropGuard,
}

impl Embedded {
    /// Opens the installation in a folder, and makes what is missing: the folder (for its owner only), the file, and
    /// the logs of the layout.
    pub async fn open(folder: &Path, layout: Layout) -> Result<Self, OpenError> {
        let (database, lock) = Database::claim(folder)?;
        let mut connection = database
            .connect_writer()
            .await
            .map_err(|cause| database.unreachable(cause))?;
        let rows = database.prepare(&mut connection, &layout).await?;
        let readers = database
            .connect_readers()
            .await
            .map_err(|cause| database.unreachable(cause))?;
        Ok(Self::start(database, lock, layout, connection, readers, &rows))
    }

    fn start(
        database: Database,
        lock: File,
        layout: Layout,
        connection: SqliteConnection,
        readers: SqlitePool,
        rows: &[LogRow],
    ) -> Self {
        let heads: Vec<Head> = rows.iter().map(Head::new).collect();
        let watched: Vec<_> = heads.iter().map(|head| head.sender.subscribe()).collect();
        let writer = writer::start(database.clone(), connection, heads, lock);
        let logs = rows.iter().zip(watched).map(|(row, head)| {
            let parts = Parts {
                number: row.number,
                readers: readers.clone(),
                writer: writer.clone(),
                head,
                backlog: Backlog::new(row.log, layout.waiting),
            };
            (row.log, Arc::new(parts))
        });
        let upkeep = CancellationToken::new();
        tokio::spawn(upkeep::run(writer.clone(), aging(&layout, rows), upkeep.clone()));
        Self {
            logs: logs.collect(),
            queue: Arc::new(EmbeddedQueue::new(writer.clone(), layout.lease)),
            _upkeep_ends: upkeep.clone().drop_guard(),
            layout,
            database,
            readers,
            writer,
            upkeep,
        }
    }
}

/// The logs whose records are kept for a time only.
fn aging(layout: &Layout, rows: &[LogRow]) -> Vec<AgingLog> {
    let aging = |row: &LogRow| match layout.retention(row.log) {
        Retention::Forever => None,
        Retention::Age(keep) => Some(AgingLog {
            number: row.number,
            keep,
        }),
    };
    rows.iter().filter_map(aging).collect()
}

#[async_trait]
impl Engine for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn log(&self, log: Log) -> Arc<dyn EventLog> {
        Arc::new(EmbeddedLog::new(log, self.logs.get(&log).cloned()))
    }

    fn queue(&self) -> Arc<dyn WorkQueue> {
        Arc::<EmbeddedQueue>::clone(&self.queue)
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::new(EmbeddedDeadLetters {
            readers: self.readers.clone(),
            writer: self.writer.clone(),
        })
    }

    fn bucket(&self, bucket: Bucket) -> Arc<dyn KeyValue> {
        Arc::new(EmbeddedBucket {
            bucket,
            readers: self.readers.clone(),
            writer: self.writer.clone(),
        })
    }

    async fn examine(&self) -> Vec<Finding> {
        let mut findings = examine::settings(&self.writer).await;
        findings.push(examine::soundness(&self.readers, &self.database.file).await);
        for log in self.layout.logs() {
            findings.push(examine::bounds(&log.name(), self.log(log).as_ref()).await);
        }
        findings
    }

    async fn close(&self) {
        self.upkeep.cancel();
        self.readers.close().await;
        self.writer.close().await;
    }
}
