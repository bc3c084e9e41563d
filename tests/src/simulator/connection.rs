//! A process's view of the engine: the same ports, over a line on which everything can go wrong that may.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use broker::layout::{Bucket, Layout, Log};
use broker::{Cause, DeadLetters, Engine, EventLog, Finding, KeyValue, WorkQueue};

use super::memory::{Memory, Storage};
use super::network::{Call, Line};

mod bucket;
mod letters;
mod log;
mod queue;

/// An engine as one process reaches it.
#[derive(Debug)]
pub struct Connection {
    storage: Arc<Storage>,
    engine: Arc<Memory>,
    line: Arc<Line>,
}

impl Connection {
    /// A line to an engine that is open on a storage.
    pub fn new(storage: Arc<Storage>, engine: Arc<Memory>, line: Arc<Line>) -> Self {
        Self {
            storage,
            engine,
            line,
        }
    }
}

#[async_trait]
impl Engine for Connection {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn layout(&self) -> &Layout {
        self.engine.layout()
    }

    fn log(&self, log: Log) -> Arc<dyn EventLog> {
        Arc::new(log::DistantLog {
            log,
            inner: self.engine.log(log),
            ledger: self.storage.ledger(log).cloned(),
            line: Arc::clone(&self.line),
        })
    }

    fn queue(&self) -> Arc<dyn WorkQueue> {
        Arc::new(queue::DistantQueue {
            inner: self.engine.queue(),
            line: Arc::clone(&self.line),
        })
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::new(letters::DistantLetters {
            inner: self.engine.dead_letters(),
            line: Arc::clone(&self.line),
        })
    }

    fn bucket(&self, bucket: Bucket) -> Arc<dyn KeyValue> {
        Arc::new(bucket::DistantBucket {
            bucket,
            inner: self.engine.bucket(bucket),
            line: Arc::clone(&self.line),
        })
    }

    async fn examine(&self) -> Vec<Finding> {
        self.engine.examine().await
    }

    async fn close(&self) {
        self.engine.close().await;
    }
}

/// Why a call failed that the network lost.
fn away() -> Cause {
    "the network lost it".into()
}

impl Line {
    /// Carries a call there and its answer back, or loses one of the two: then `failed` is the answer.
    async fn carry<T: fmt::Debug, E: fmt::Debug>(
        &self,
        what: String,
        call: impl Future<Output = Result<T, E>>,
        failed: impl FnOnce(Cause) -> E,
    ) -> Result<T, E> {
        self.travel().await;
        let fate = self.network.call();
        let answer = match fate {
            Call::Refused => Err(failed(away())),
            Call::Unheard => {
                call.await.ok();
                Err(failed(away()))
            }
            Call::Answered => call.await,
        };
        self.note(format_args!("{what}: {fate:?}, {answer:?}"));
        self.travel().await;
        answer
    }
}
