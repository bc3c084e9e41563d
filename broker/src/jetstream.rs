//! The JetStream engine: every port in NATS JetStream, for any number of processes.
//!
//! **Names.** All streams of an installation start with its prefix in capitals (`TIDINGS_EVENTS-0`), all subjects
//! with the prefix as it is. Logs with shards carry their number next, since one subject may belong to one stream
//! only: `tidings.0.ev.<tenant>.…`, `tidings.0.msg.…`; the others do not: `tidings.att.…`. The ports' subjects
//! know nothing of this: the adapter adds and strips it. Buckets are NATS key-value buckets (`tidings_receipts`),
//! so that the usual tools can look into them.
//!
//! **Logs.** A lone record goes as a conditional publish, several as one atomic batch (ADR-50), and where many
//! appends wait in the process, one batch carries all of them (see `writer`). What was stored
//! although its acknowledgement was lost is found again by its expectation: a conditional record is always the
//! *first* on its subject after the sequence it expected, so one read at the stream's leader tells whether it is
//! ours, at any later time. Records without an expectation rely on JetStream's duplicate window.
//!
//! **Queue.** Jobs lie in a stream under a subject of their own, `job.<tenant>.<lane>.<job>`, while they
//! wait for a due time under `later.<tenant>.<lane>.<job>` as a message schedule (ADR-51), which the server turns
//! into the job. One condition over both subjects keeps an id from being in the queue twice; a message id keeps it
//! from coming back within the duplicate window after it was done. Dead letters lie under
//! `dead.<tenant>.<lane>.<job>`, one per subject, so that a letter is found by its id in one lookup.
//!
//! **Never hanging.** Every call is bounded by [`Timeouts`]; connections are retried for ever in the background.

mod address;
mod append;
mod connection;
mod dead_letters;
mod examine;
mod follow;
mod kv;
mod log;
mod monitor;
mod names;
mod queue;
mod repair;
mod streams;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::backlog::Backlog;
use crate::layout::{Bucket, Layout, Log};
use crate::{DeadLetters, Engine, EventLog, Finding, KeyValue, OpenError, Token, WorkQueue};

use connection::Connection;
use dead_letters::Letters;
use kv::KvBucket;
use log::StreamLog;
use names::Names;
use queue::JobQueue;

/// The oldest nats-server with the fixes that `sync_interval: always` needs.
pub const MINIMUM_VERSION: (u64, u64, u64) = (2, 15, 1);

/// How long the engine waits for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the first connection.
    pub connect: Duration,
    /// For one question to the server, reads included.
    pub request: Duration,
    /// For one try of an append or put.
    pub attempt: Duration,
    /// For an append with all its tries; deciding an unknown outcome may add one `request`.
    pub append: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(3),
            attempt: Duration::from_secs(2),
            append: Duration::from_secs(5),
        }
    }
}

/// What a [`JetStream`] is opened with.
#[derive(Clone)]
pub struct Settings {
    /// `nats://host:port`, with `user:password@` where the server asks for it; several, separated by commas.
    pub url: String,
    /// The installation prefix: one token.
    pub prefix: Token,
    /// The installation's shape.
    pub layout: Layout,
    /// Copies of every stream: 1, or 3 on a cluster.
    pub replicas: usize,
    /// Whether a server that acknowledges before fsync is a failure (or only a warning).
    pub require_sync_always: bool,
    /// Whether missing streams are created; otherwise they must be there, for an account without that right.
    pub manage: bool,
    /// The servers' monitoring addresses, as `http://127.0.0.1:8222`: the only place where one tells how it syncs.
    pub monitors: Vec<String>,
    /// How long to wait.
    pub timeouts: Timeouts,
}

impl Settings {
    /// The defaults: prefix `tidings`, one copy, missing streams created, sync required.
    pub fn new(url: impl Into<String>, prefix: Token, layout: Layout) -> Self {
        Self {
            url: url.into(),
            prefix,
            layout,
            replicas: 1,
            require_sync_always: true,
            manage: true,
            monitors: Vec::new(),
            timeouts: Timeouts::default(),
        }
    }

    /// The address without user and password.
    pub fn address(&self) -> String {
        address::without_credentials(&self.url)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.address())
            .field("prefix", &self.prefix)
            .field("layout", &self.layout)
            .field("replicas", &self.replicas)
            .field("require_sync_always", &self.require_sync_always)
            .field("manage", &self.manage)
            .field("monitors", &self.monitors)
            .field("timeouts", &self.timeouts)
            .finish()
    }
}

/// An installation on NATS JetStream; clones share one connection.
#[derive(Debug, Clone)]
pub struct JetStream {
    settings: Settings,
    names: Names,
    connection: Arc<Connection>,
    queue: Arc<JobQueue>,
    /// The logs asked for so far, each with its writer.
    logs: Arc<Mutex<HashMap<Log, Arc<StreamLog>>>>,
}

impl JetStream {
    /// Connects, creates missing streams (or checks that they are there), and refuses what cannot be used.
    ///
    /// Drift from the layout is refused where a promise would break; [`Engine::examine`] tells all of it.
    pub async fn connect(settings: Settings) -> Result<Self, OpenError> {
        let connection = Arc::new(Connection::open(&settings).await?);
        examine::require_version(&settings, &connection)?;
        let names = Names::new(&settings.prefix);
        for plan in streams::plans(&settings, &names) {
            streams::ensure(&settings, &connection, &plan).await?;
        }
        let consumer = queue::ensure_consumer(&settings, &connection, &names).await?;
        let queue = JobQueue::new(Arc::clone(&connection), &names, consumer, settings.layout.lease);
        Ok(Self {
            settings,
            names,
            connection,
            queue: Arc::new(queue),
            logs: Arc::default(),
        })
    }
}

impl JetStream {
    /// Removes an installation with everything it ever held: for demonstrations and trials under a prefix of
    /// their own. Takes an account that may delete streams, which an application's never may.
    pub async fn remove(settings: &Settings) -> Result<(), OpenError> {
        let connection = Connection::open(settings).await?;
        for plan in streams::plans(settings, &Names::new(&settings.prefix)) {
            streams::remove(settings, &connection, &plan).await?;
        }
        connection.close().await;
        Ok(())
    }
}

#[async_trait]
impl Engine for JetStream {
    fn name(&self) -> &'static str {
        "jetstream"
    }

    fn layout(&self) -> &Layout {
        &self.settings.layout
    }

    fn log(&self, log: Log) -> Arc<dyn EventLog> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = logs.entry(log).or_insert_with(|| {
            let backlog = Backlog::new(log, self.settings.layout.waiting);
            Arc::new(StreamLog::new(
                Arc::clone(&self.connection),
                &self.names,
                log,
                backlog,
            ))
        });
        Arc::clone(shared) as Arc<dyn EventLog>
    }

    fn queue(&self) -> Arc<dyn WorkQueue> {
        Arc::clone(&self.queue) as Arc<dyn WorkQueue>
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::new(Letters::new(
            Arc::clone(&self.connection),
            Arc::clone(&self.queue),
            &self.names,
        ))
    }

    fn bucket(&self, bucket: Bucket) -> Arc<dyn KeyValue> {
        Arc::new(KvBucket::new(Arc::clone(&self.connection), &self.names, bucket))
    }

    async fn examine(&self) -> Vec<Finding> {
        examine::examine(&self.settings, &self.connection, &self.names).await
    }

    async fn close(&self) {
        self.connection.close().await;
    }
}
