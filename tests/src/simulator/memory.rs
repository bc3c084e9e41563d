//! An engine in memory, true to the ports' contracts: the ground that the simulator shakes.
//!
//! [`Storage`] is what lasts: records, jobs, letters, keys. [`Memory`] is an engine opened on it, as a process opens
//! one; several can be open at once, as clients of one server are. Nothing here fails, waits or loses anything but
//! what the contract says; that is [`network`](super::network)'s affair. The conformance suite runs against it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use broker::layout::{Bucket, Layout, Log};
use broker::{Cause, DeadLetters, Engine, EventLog, Finding, KeyValue, WorkQueue};
use tokio::sync::Notify;

use super::Clock;

mod bucket;
mod harness;
mod jobs;
mod ledger;
mod letters;
mod log;
mod queue;

pub use harness::MemoryHarness;
pub use ledger::{Breach, Ledger, Manner};

use bucket::{Buckets, MemoryBucket};
use jobs::Jobs;
use letters::MemoryLetters;
use log::{MemoryLog, Room};
use queue::MemoryQueue;

/// What lasts when every process is gone.
#[derive(Debug)]
pub struct Storage {
    logs: BTreeMap<Log, Arc<Ledger>>,
    jobs: Arc<Jobs>,
    buckets: Arc<Buckets>,
}

impl Storage {
    /// An empty one with the logs of a layout, by a clock.
    pub fn new(layout: &Layout, clock: Clock, manner: Manner) -> Self {
        let logs = layout.logs().into_iter();
        Self {
            logs: logs
                .map(|log| (log, Arc::new(Ledger::new(log, clock, manner))))
                .collect(),
            jobs: Arc::new(Jobs::new(clock)),
            buckets: Arc::new(Buckets::new(clock)),
        }
    }

    /// A log as it stands, for those who judge it.
    pub fn ledger(&self, log: Log) -> Option<&Arc<Ledger>> {
        self.logs.get(&log)
    }

    /// Jobs and dead letters as they stand.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }
}

/// An engine opened on a storage.
#[derive(Debug)]
pub struct Memory {
    storage: Arc<Storage>,
    layout: Layout,
    gate: Arc<Gate>,
    rooms: BTreeMap<Log, Arc<Room>>,
}

impl Memory {
    /// Opens one.
    pub fn open(storage: &Arc<Storage>, layout: Layout) -> Self {
        let logs = storage.logs.keys();
        Self {
            rooms: logs
                .map(|log| (*log, Arc::new(Room::new(layout.waiting))))
                .collect(),
            storage: Arc::clone(storage),
            layout,
            gate: Arc::default(),
        }
    }
}

#[async_trait]
impl Engine for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn log(&self, log: Log) -> Arc<dyn EventLog> {
        Arc::new(MemoryLog {
            ledger: self.storage.logs.get(&log).cloned(),
            room: self.rooms.get(&log).cloned().unwrap_or_default(),
            gate: Arc::clone(&self.gate),
        })
    }

    fn queue(&self) -> Arc<dyn WorkQueue> {
        Arc::new(MemoryQueue {
            jobs: Arc::clone(&self.storage.jobs),
            lease: self.layout.lease,
            gate: Arc::clone(&self.gate),
        })
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::new(MemoryLetters {
            jobs: Arc::clone(&self.storage.jobs),
            gate: Arc::clone(&self.gate),
        })
    }

    fn bucket(&self, bucket: Bucket) -> Arc<dyn KeyValue> {
        Arc::new(MemoryBucket {
            bucket,
            buckets: Arc::clone(&self.storage.buckets),
            gate: Arc::clone(&self.gate),
        })
    }

    async fn examine(&self) -> Vec<Finding> {
        Vec::new()
    }

    async fn close(&self) {
        self.gate.close();
        for ledger in self.storage.logs.values() {
            ledger.wake();
        }
        self.storage.jobs.wake();
    }
}

/// Whether an engine is open.
#[derive(Debug, Default)]
pub(super) struct Gate {
    closed: AtomicBool,
}

impl Gate {
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Refuses whoever comes after the engine was closed.
    pub(super) fn pass(&self) -> Result<(), Cause> {
        if self.closed.load(Ordering::SeqCst) {
            return Err("the engine is closed".into());
        }
        Ok(())
    }
}

/// A lock that outlives a panic of whoever held it: a failed check must not hide behind a poisoned lock.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a wake-up that comes after this call, whether before or after it is awaited.
pub(super) fn awaiting(notify: &Notify) -> std::pin::Pin<Box<tokio::sync::futures::Notified<'_>>> {
    let mut waiting = Box::pin(notify.notified());
    waiting.as_mut().enable();
    waiting
}
