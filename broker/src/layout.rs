//! Every log, queue and bucket of an installation, with the subjects and retention of each (design §5).
//!
//! Adapters create exactly these. An installation prefix, kept by the adapter, lets several installations share
//! one cluster.

use std::fmt;
use std::time::Duration;

/// The number of a log among those of its kind; tenants are assigned to shards.
pub type Shard = u16;

/// A log of the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Log {
    /// The immutable log of commits and claims: `ev.<tenant>.<aggregate>.<id>`, `uq.<tenant>.<kind>.<hash>`.
    Events(Shard),
    /// Application events of tenants: `msg.<tenant>.<event type>`.
    Messages(Shard),
    /// The delivery log: `att.<tenant>.<endpoint>`.
    Attempts,
}

/// How long a log keeps its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// For ever; nothing can be deleted or purged.
    Forever,
    /// At least this long.
    Age(Duration),
}

impl Log {
    /// The log's name within the installation, as `EVENTS-0`.
    pub fn name(self) -> String {
        self.to_string()
    }

    /// The first tokens of the subjects it holds.
    pub fn subject_roots(self) -> &'static [&'static str] {
        match self {
            Self::Events(_) => &["ev", "uq"],
            Self::Messages(_) => &["msg"],
            Self::Attempts => &["att"],
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events(shard) => write!(f, "EVENTS-{shard}"),
            Self::Messages(shard) => write!(f, "MESSAGES-{shard}"),
            Self::Attempts => f.write_str("ATTEMPTS"),
        }
    }
}

/// A key-value bucket of the installation. Identity and delivery secrets live apart (design §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bucket {
    /// How far the delivery side has followed each log.
    Cursors,
    /// Keyed hashes of API keys, read only by the gateway.
    Credentials,
    /// What delivery must remember between attempts: since when endpoints fail, and what of an order is under way.
    Deliveries,
    /// Encrypted signing secrets of endpoints, read only by delivery.
    EndpointSecrets,
    /// Public keys that webhooks are signed with, of which receivers are told.
    PublicKeys,
    /// What the requests of sources are checked with, encrypted, read only by the gateway.
    SourceSecrets,
    /// What was answered to a repeated request: idempotency keys, client-chosen event ids.
    Receipts,
    /// States of aggregates with long histories; all of it can be folded again from the log.
    Snapshots,
}

impl Bucket {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Cursors,
        Self::Deliveries,
        Self::Credentials,
        Self::EndpointSecrets,
        Self::PublicKeys,
        Self::SourceSecrets,
        Self::Receipts,
        Self::Snapshots,
    ];

    /// The bucket's name within the installation.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cursors => "cursors",
            Self::Deliveries => "deliveries",
            Self::Credentials => "credentials",
            Self::EndpointSecrets => "endpoint-secrets",
            Self::PublicKeys => "public-keys",
            Self::SourceSecrets => "source-secrets",
            Self::Receipts => "receipts",
            Self::Snapshots => "snapshots",
        }
    }
}

/// How much one process may have waiting to be appended to one log, answered or not yet; more is
/// [`AppendError::Busy`](crate::AppendError::Busy). An append that alone is larger goes in when nothing else waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Records.
    pub records: usize,
    /// Bytes of their payloads.
    pub bytes: usize,
}

impl Default for Waiting {
    /// What either engine writes in a second or two.
    fn default() -> Self {
        Self {
            records: 65_536,
            bytes: 64 << 20,
        }
    }
}

/// Shape of an installation's storage, the same for both engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Number of shards of events and of messages, at least 1.
    pub shards: Shard,
    /// How long messages are kept.
    pub messages: Retention,
    /// How long the delivery log is kept.
    pub attempts: Retention,
    /// How long a worker may hold a job before it goes to another.
    pub lease: Duration,
    /// How much may wait to be appended to each log, in each process.
    pub waiting: Waiting,
}

impl Default for Layout {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        Self {
            shards: 1,
            messages: Retention::Age(days(30)),
            attempts: Retention::Age(days(90)),
            lease: Duration::from_secs(30),
            waiting: Waiting::default(),
        }
    }
}

impl Layout {
    /// Every log of the installation.
    pub fn logs(&self) -> Vec<Log> {
        let events = (0..self.shards).map(Log::Events);
        let messages = (0..self.shards).map(Log::Messages);
        events.chain(messages).chain([Log::Attempts]).collect()
    }

    /// How long a log keeps its records.
    pub fn retention(&self, log: Log) -> Retention {
        match log {
            Log::Events(_) => Retention::Forever,
            Log::Messages(_) => self.messages,
            Log::Attempts => self.attempts,
        }
    }
}
