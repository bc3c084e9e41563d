//! The conformance suite: the ports' contracts in executable form.
//!
//! Every case is written once, against a [`Harness`] that stands for an adapter and the storage behind it.
//! [`conformance_suite!`](crate::conformance_suite) expands all of them into named tests for one adapter, so a case
//! cannot be run on one and forgotten on another; [`CASES`] lists their names.
//!
//! A case that finds the contract broken panics, as a test does.

use std::sync::Arc;

use async_trait::async_trait;

use crate::layout::{Layout, Log};
use crate::{AppendError, Appended, Engine, NewRecord};

/// One installation of one adapter, with the storage behind it, for one case.
#[async_trait]
pub trait Harness: Send + Sync + std::fmt::Debug {
    /// Opens the installation. The first call finds it empty; a later call closes the engine opened before and
    /// opens the same installation again, as a restart of our process does, perhaps with another lease time in
    /// the layout.
    async fn open(&self, layout: Layout) -> Arc<dyn Engine>;

    /// Stops the storage as a crash would and starts it again, and returns when it answers. Where
    /// [`Harness::survives_restart`] is false the engine opened before is of no use afterwards: open again.
    async fn restart(&self);

    /// Whether an engine opened before [`Harness::restart`] goes on working after it: so where the storage is a
    /// server apart from this process.
    fn survives_restart(&self) -> bool;

    /// Appends to a log of the engine opened last, in such a way that the storage stores the records but its
    /// acknowledgement is lost on the way; returns after they have been stored.
    ///
    /// Answers what the caller of `append` saw in the end; `None` where its future was dropped.
    async fn append_unacknowledged(
        &self,
        log: Log,
        records: Vec<NewRecord>,
    ) -> Option<Result<Vec<Appended>, AppendError>>;
}
