//! The `EventLog` port: one ordered, append-only log.

use std::pin::Pin;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;

use crate::{Cause, Filter, Subject};

/// The most records one append may hold: the limit of a JetStream atomic batch (ADR-50).
pub const MAX_APPEND: usize = 1_000;

/// The bytes of a payload that every engine takes, whatever it may take besides: NATS's default of 1 MiB for a
/// message, less room for its headers. Who writes larger records works on one engine and not on the other.
pub const MAX_RECORD: usize = (1 << 20) - 4_096;

/// A record to append.
///
/// In one append no two records have the same message id, and every subject is one of the log's
/// ([`subject_roots`](crate::layout::Log::subject_roots)); otherwise it is [`AppendError::Malformed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Where it belongs.
    pub subject: Subject,
    /// Names this record for ever: an append repeated under the same id is recognised, not stored twice.
    /// 1–256 visible ASCII characters; starts with the tenant, since deduplication is per log.
    pub message_id: String,
    /// The sequence that must be the last on `subject`; `Some(0)`: the subject must be empty; `None`: any.
    /// Within one append only the first record on a subject may carry an expectation.
    pub expect: Option<u64>,
    /// The record itself, kept verbatim; up to [`MAX_RECORD`] bytes are always taken.
    pub payload: Bytes,
}

/// A record as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log, from 1.
    pub sequence: u64,
    /// Where it belongs.
    pub subject: Subject,
    /// The id it was appended under.
    pub message_id: String,
    /// When the log stored it, by the log's clock; never decreases along a log while that clock is sane.
    pub stored_at: SystemTime,
    /// The bytes appended.
    pub payload: Bytes,
}

/// Where one record of an append stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its sequence.
    pub sequence: u64,
    /// It was already there: an earlier append under the same message id stored it.
    pub duplicate: bool,
}

/// What a log says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// When the log was made; another time means another log under the same name.
    pub created: SystemTime,
    /// The oldest sequence kept; one more than `last` when the log holds nothing.
    pub first: u64,
    /// The newest sequence given out, 0 when there was none.
    pub last: u64,
    /// How many records are gone from between the two, as far as the log counts them.
    pub missing: u64,
}

/// Why an append was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another record is the last on the subject; nothing of the append was stored. Load again and decide again.
    #[error("the last record on {subject} is not the one expected")]
    Conflict {
        /// The (first) subject whose expectation failed, where the broker tells.
        subject: Subject,
    },
    /// A record, or the whole append, is larger than the log takes; nothing was stored.
    #[error("a record of {bytes} bytes is over the log's limit of {limit}")]
    TooLarge {
        /// The size refused.
        bytes: usize,
        /// The size allowed.
        limit: usize,
    },
    /// The append breaks a rule of [`NewRecord`] or is empty or over [`MAX_APPEND`]; nothing was stored.
    #[error("the append is malformed: {0}")]
    Malformed(&'static str),
    /// More waits to be appended than this process keeps ([`Waiting`](crate::layout::Waiting)); nothing was stored.
    /// A moment later there is room again.
    #[error("too much is waiting to be appended")]
    Busy,
    /// The log could not be reached or refused the write; nothing was stored.
    #[error("the log is unavailable")]
    Unavailable(#[source] Cause),
    /// No acknowledgement came and the log could not be asked afterwards: the records may or may not be
    /// stored. Append the identical records under the same ids again to learn which.
    #[error("the log did not say whether it stored the append")]
    Unknown(#[source] Cause),
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log could not be reached, or failed.
    #[error("the log is unavailable")]
    Unavailable(#[source] Cause),
    /// A stored record does not have the form this crate writes.
    #[error("record {sequence} cannot be read")]
    Damaged {
        /// Which record.
        sequence: u64,
        /// What is wrong with it.
        #[source]
        cause: Cause,
    },
}

/// Why a follower stopped; follow again from the last sequence seen.
pub type FollowError = ReadError;

/// Records in order, for ever; ends only with an error.
pub type RecordStream = Pin<Box<dyn Stream<Item = Result<Record, FollowError>> + Send>>;

/// One ordered, append-only log.
///
/// **Order.** Sequences start at 1 and every stored record takes the next one. Readers and followers see records
/// in that order, the same for all.
///
/// **Durability.** `append` answers `Ok` only after the records would survive a power cut of every machine that
/// holds the log (fsync before acknowledgement).
///
/// **Idempotency.** A record whose `message_id` is already in the log (for at least two minutes; longer is the
/// adapter's freedom) is not stored again. An append repeated as a whole answers what the first answered, with
/// `duplicate` set, even when its expectations have meanwhile been overtaken by itself.
///
/// **Pressure.** What one process has handed over and was not yet answered is bounded, in records and in bytes; an
/// append beyond that is refused at once as [`AppendError::Busy`].
///
/// **Cancellation.** Dropping a future of `append` leaves the outcome unknown, as [`AppendError::Unknown`] does.
/// Every other call may be dropped freely.
#[async_trait]
pub trait EventLog: Send + Sync + std::fmt::Debug {
    /// Stores the records, in the order given and with contiguous sequences, all or none of them.
    ///
    /// Where no record carries an expectation, those already stored under their message id keep their place and
    /// are answered as duplicates, and only the others are appended. Where one does, an append known only in part is
    /// another append than the one that stored that part: a [`AppendError::Conflict`], and nothing is stored.
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError>;

    /// Up to `limit` records after a sequence, in order; only those the filter selects, if there is one.
    ///
    /// An empty answer means "none now". A replicated log may answer from a replica a moment behind: absence is
    /// proved only by an append's expectation.
    async fn read(&self, after: u64, filter: Option<&Filter>, limit: usize)
    -> Result<Vec<Record>, ReadError>;

    /// The last record on a subject, asked of the log's leader as `state` is: none means that there is none now.
    async fn last(&self, subject: &Subject) -> Result<Option<Record>, ReadError>;

    /// The record at a sequence, asked of the log's leader as `state` is: none means that there is no such record now.
    async fn at(&self, sequence: u64) -> Result<Option<Record>, ReadError>;

    /// All records after a sequence: history first, then live as they come, with no gap and no repeat.
    ///
    /// Connection losses are bridged inside. Sequences strictly increase; without a filter, and where retention
    /// removed nothing, they are contiguous, and a caller who depends on that checks it.
    async fn follow(&self, after: u64, filter: Option<Filter>) -> Result<RecordStream, ReadError>;

    /// The log's bounds, asked of its leader: every append acknowledged before the call is counted.
    async fn state(&self) -> Result<LogState, ReadError>;
}
