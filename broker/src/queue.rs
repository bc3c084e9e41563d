//! The `WorkQueue` port: jobs with due times, leased to workers, and the dead letters they may become.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Cause, Token};

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Names the job; one job of an id is in the queue at a time. No other tenant's job has the same.
    pub id: Token,
    /// Whose it is.
    pub tenant: Token,
    /// The lane it waits in: the endpoint it is for.
    pub lane: Token,
    /// What to do, opaque to the queue; at most 64 KiB.
    pub payload: Bytes,
}

/// Proof that a worker holds a job, opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseToken(pub(crate) String);

impl LeaseToken {
    /// For an engine: what it will recognise the lease by.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For the engine that made it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A job in a worker's hands until `expires`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job: Job,
    /// How often it was leased since it was last enqueued or settled, this time included.
    pub times: u32,
    /// When the queue gives it to another worker unless it is settled or extended before.
    pub expires: SystemTime,
    /// What `settle` and `extend` recognise the lease by.
    pub token: LeaseToken,
}

/// How a lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The job is finished and gone.
    Done,
    /// The job waits until `due`, then can be leased again, with a new payload.
    Again {
        /// Not before this time; a past time means at once.
        due: SystemTime,
        /// What to do then.
        payload: Bytes,
    },
    /// The job becomes a dead letter, with a last payload.
    Dead {
        /// What a redrive will start from.
        payload: Bytes,
    },
}

/// A job that was given up, kept until somebody acts on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The job as it was settled.
    pub job: Job,
    /// When it was given up.
    pub since: SystemTime,
    /// Its place among the dead letters: pass it as `after` for the next page.
    pub cursor: u64,
}

/// Why a queue call failed.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The lease is over: it was settled, or expired and somebody else may be at the job; drop it.
    #[error("the lease on job {0} is over")]
    LeaseLost(Token),
    /// A payload is over the limit of [`Job::payload`]; nothing was stored.
    #[error("a job payload of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// The size refused.
        bytes: usize,
        /// The size allowed.
        limit: usize,
    },
    /// The queue could not be reached, or failed; the call may or may not have had its effect, and repeating
    /// it does no harm.
    #[error("the work queue is unavailable")]
    Unavailable(#[source] Cause),
}

/// Jobs for any number of workers.
///
/// **At least once.** A job stays until a settlement is acknowledged; a lease that ends without one gives it to
/// the next worker. Workers must bear seeing a job twice.
///
/// **Expiry.** A lease holds until `expires`. After that it may be lost at any moment; an engine that knows that
/// nobody else has taken the job may still let it be settled or extended.
///
/// **Idempotency.** Enqueueing an id that waits, is leased, or was enqueued within the last two minutes changes
/// nothing. An id names one job: one that has ended may still be taken for being there, so what is to be done again
/// goes by an id of its own, or through [`DeadLetters::redrive`].
///
/// **Order.** Roughly first due, first leased; no promise.
///
/// **Durability.** As for the log: acknowledged means fsynced. Only that a lease has ended may be forgotten by a queue
/// that crashes a moment later: the job then comes once more.
#[async_trait]
pub trait WorkQueue: Send + Sync + std::fmt::Debug {
    /// Puts jobs into the queue, each due at its time, or at once.
    async fn enqueue(&self, jobs: Vec<(Job, Option<SystemTime>)>) -> Result<(), QueueError>;

    /// Takes up to `max` due jobs, waiting up to `wait` for the first of them; none after that is no error.
    async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Lease>, QueueError>;

    /// Starts the lease's time anew, for work that takes longer; answers the new end.
    async fn extend(&self, lease: &Lease) -> Result<SystemTime, QueueError>;

    /// Ends a lease. After `LeaseLost` nothing was changed.
    ///
    /// A worker that dies inside `settle` may leave the job both settled and leased; it then comes once more.
    async fn settle(&self, lease: &Lease, settlement: Settlement) -> Result<(), QueueError>;

    /// Makes a job that waits for its time due at once; `false` where none of that id waits for one, as when it is
    /// leased or due already. A caller who dies here may have left the job twice in the queue; it then comes once more.
    async fn hasten(&self, tenant: &Token, lane: &Token, job: &Token) -> Result<bool, QueueError>;
}

/// The dead letters of a [`WorkQueue`]; kept until redriven or discarded.
#[async_trait]
pub trait DeadLetters: Send + Sync + std::fmt::Debug {
    /// Up to `limit` dead letters of a tenant (and lane, if given) after a cursor, oldest first.
    async fn list(
        &self,
        tenant: &Token,
        lane: Option<&Token>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, QueueError>;

    /// Puts a dead letter back into the queue, due at its time or at once, with a new payload where one is given; `false`
    /// if there is none of that id (so a repeated call is harmless). It counts as a new job: the two-minute rule of
    /// [`WorkQueue`] does not hold it back.
    async fn redrive(
        &self,
        tenant: &Token,
        lane: &Token,
        job: &Token,
        payload: Option<Bytes>,
        due: Option<SystemTime>,
    ) -> Result<bool, QueueError>;

    /// Removes a dead letter for good; `false` if there is none of that id.
    async fn discard(&self, tenant: &Token, lane: &Token, job: &Token) -> Result<bool, QueueError>;
}
