//! What Tidings asks of a message broker: three small ports, and two engines that keep their contracts.
//!
//! * [`EventLog`]: an ordered, append-only log with optimistic concurrency and atomic appends.
//! * [`WorkQueue`] (with [`DeadLetters`]): leased jobs with due times.
//! * [`KeyValue`]: small values with revisions and expiry.
//!
//! An [`Engine`] opens them by name; [`layout`] lists every name there is. `embedded` keeps everything in one
//! SQLite file for one process on one machine, `jetstream` in NATS JetStream. Both pass the same suite
//! (`conformance`), which is the contract in executable form.
//!
//! A log that lost records, or is another than it was, must not be gone on with: [`trust`] finds that out and stops it.
//!
//! This crate moves bytes: it knows subjects, sequences and leases, and nothing of tenants' events.

mod backlog;
mod engine;
mod kv;
pub mod layout;
mod log;
mod queue;
mod subject;
pub mod trust;

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod embedded;
pub mod jetstream;

pub use engine::{Engine, Finding, OpenError, Repair, Severity};
pub use kv::{Entry, Expect, KeyValue, KvError};
pub use log::{
    AppendError, Appended, EventLog, FollowError, LogState, MAX_APPEND, MAX_RECORD, NewRecord, ReadError,
    Record, RecordStream,
};
pub use queue::{DeadLetter, DeadLetters, Job, Lease, LeaseToken, QueueError, Settlement, WorkQueue};
pub use subject::{Filter, InvalidSubject, Subject, Token};
pub use trust::{Distrust, Trust, Trusted};

/// Why a server or a file could not answer; the cause is for logs, never for clients.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;
