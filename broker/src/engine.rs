//! An engine: what opens the ports of one installation.

use std::sync::Arc;

use async_trait::async_trait;

use crate::layout::{Bucket, Layout, Log};
use crate::{Cause, DeadLetters, EventLog, KeyValue, WorkQueue};

/// Why an engine could not be opened; the text tells an operator what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing answered, or the file could not be opened.
    #[error("cannot reach {what}: {advice}")]
    Unreachable {
        /// The address or path.
        what: String,
        /// What to do.
        advice: String,
        /// What went wrong underneath.
        #[source]
        cause: Cause,
    },
    /// It answered, but cannot be used as it is.
    #[error("{what} cannot be used: {advice}")]
    Unfit {
        /// The address, path, or part.
        what: String,
        /// What is wrong and what to do.
        advice: String,
    },
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Acceptable in development only.
    Warning,
    /// A promise cannot be kept with this.
    Failure,
}

/// One thing `tidings doctor` has looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at, as `EVENTS-0` or `sync_interval`.
    pub subject: String,
    /// What was found and what to do, in a sentence.
    pub message: String,
}

/// What only the repair of an installation needs, while no other process uses it.
#[async_trait]
pub trait Repair: Engine {
    /// Puts a log aside that is not to be gone on with, under another name, which is answered; an empty one takes its
    /// place when the installation is opened again.
    async fn set_aside(&self, log: Log) -> Result<String, OpenError>;

    /// Makes a log whose records are kept for a time give out no sequence up to this one, from when the installation
    /// is opened again: records with these were there, and were lost.
    async fn begin_after(&self, log: Log, sequence: u64) -> Result<(), OpenError>;
}

/// The ports of one installation.
///
/// Opening creates what is missing in the [`Layout`]. The handles are cheap to clone and share connections.
#[async_trait]
pub trait Engine: Send + Sync + std::fmt::Debug {
    /// `embedded` or `jetstream`.
    fn name(&self) -> &'static str;

    /// The layout it was opened with.
    fn layout(&self) -> &Layout;

    /// A log of the layout.
    fn log(&self, log: Log) -> Arc<dyn EventLog>;

    /// The queue of deliveries.
    fn queue(&self) -> Arc<dyn WorkQueue>;

    /// The queue's dead letters.
    fn dead_letters(&self) -> Arc<dyn DeadLetters>;

    /// A bucket of the layout.
    fn bucket(&self, bucket: Bucket) -> Arc<dyn KeyValue>;

    /// Checks reachability, settings and drift from the layout: every finding, the good ones too.
    async fn examine(&self) -> Vec<Finding>;

    /// Waits until everything accepted is written, then lets go of files and connections.
    async fn close(&self);
}
