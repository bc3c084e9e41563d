//! An engine whose delivery log takes no attempts while told so: what a worker sees that dies, or loses the log,
//! between a POST and its record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use broker::layout::{Bucket, Layout, Log};
use broker::{
    AppendError, Appended, DeadLetters, Engine, EventLog, Filter, Finding, KeyValue, LogState, NewRecord,
    ReadError, Record, RecordStream, Subject, WorkQueue,
};

#[derive(Debug)]
pub(crate) struct Outage {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) down: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Forgetful {
    log: Arc<dyn EventLog>,
    down: Arc<AtomicBool>,
}

#[async_trait]
impl Engine for Outage {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn layout(&self) -> &Layout {
        self.engine.layout()
    }

    fn log(&self, log: Log) -> Arc<dyn EventLog> {
        let inner = self.engine.log(log);
        if log != Log::Attempts {
            return inner;
        }
        let down = self.down.clone();
        Arc::new(Forgetful { log: inner, down })
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

#[async_trait]
impl EventLog for Forgetful {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        let attempts = records
            .iter()
            .any(|record| !record.message_id.ends_with(":created"));
        if attempts && self.down.load(Ordering::Relaxed) {
            return Err(AppendError::Unavailable("the test says so".into()));
        }
        self.log.append(records).await
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
