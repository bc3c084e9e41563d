//! An engine whose log of events does not say, when told so, whether it stored an append.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use broker::layout::{Bucket, Layout, Log};
use broker::{
    AppendError, Appended, DeadLetters, Engine, EventLog, Filter, Finding, KeyValue, LogState, NewRecord,
    ReadError, Record, RecordStream, Subject, WorkQueue,
};

/// What the next append does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Next {
    Normal,
    LostBefore,
    LostAfter,
}

#[derive(Debug, Clone)]
pub(crate) struct Wavering {
    pub(crate) engine: Arc<dyn Engine>,
    next: Arc<AtomicU8>,
}

impl Wavering {
    pub(crate) fn over(engine: &Arc<dyn Engine>) -> Self {
        Self {
            engine: Arc::clone(engine),
            next: Arc::default(),
        }
    }

    pub(crate) fn next(&self, next: Next) {
        self.next.store(next as u8, Ordering::SeqCst);
    }
}

#[async_trait]
impl Engine for Wavering {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn layout(&self) -> &Layout {
        self.engine.layout()
    }

    fn log(&self, log: Log) -> Arc<dyn EventLog> {
        Arc::new(WaveringLog {
            log: self.engine.log(log),
            next: Arc::clone(&self.next),
        })
    }

    fn queue(&self) -> Arc<dyn WorkQueue> {
        self.engine.queue()
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        self.engine.dead_letters()
    }

    fn bucket(&self, bucket: Bucket) -> Arc<dyn KeyValue> {
        self.engine.bucket(bucket)
    }

    async fn examine(&self) -> Vec<Finding> {
        self.engine.examine().await
    }

    async fn close(&self) {
        self.engine.close().await;
    }
}

#[derive(Debug)]
struct WaveringLog {
    log: Arc<dyn EventLog>,
    next: Arc<AtomicU8>,
}

#[async_trait]
impl EventLog for WaveringLog {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        let next = self.next.swap(Next::Normal as u8, Ordering::SeqCst);
        let unknown = || AppendError::Unknown("the test says so".into());
        if next == Next::LostBefore as u8 {
            return Err(unknown());
        }
        let appended = self.log.append(records).await?;
        if next == Next::LostAfter as u8 {
            return Err(unknown());
        }
        Ok(appended)
    }

    async fn read(
        &self,
        after: u64,
        filter: Option<&Filter>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.log.read(after, filter, limit).await
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Record>, ReadError> {
        self.log.last(subject).await
    }

    async fn at(&self, sequence: u64) -> Result<Option<Record>, ReadError> {
        self.log.at(sequence).await
    }

    async fn follow(&self, after: u64, filter: Option<Filter>) -> Result<RecordStream, ReadError> {
        self.log.follow(after, filter).await
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        self.log.state().await
    }
}
