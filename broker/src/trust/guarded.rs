//! An engine that stops where trust ends: its logs check in passing what costs nothing, and refuse once it is lost.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::{StreamExt, future, stream};

use crate::layout::{Bucket, Layout, Log, Shard};
use crate::{
    AppendError, Appended, Cause, DeadLetters, Engine, EventLog, Filter, Finding, Job, KeyValue, Lease,
    LogState, NewRecord, QueueError, ReadError, Record, RecordStream, Settlement, Subject, Token, WorkQueue,
};

use super::{Distrust, Fence, Trust};

/// Another engine, as far as its logs are trusted.
///
/// Where they are not, logs of events are neither read nor written, messages are not taken, and no job is leased.
/// What is under way comes to its end: attempts are recorded and jobs settled.
#[derive(Debug)]
pub struct Trusted {
    engine: Arc<dyn Engine>,
    trust: Trust,
}

impl Trusted {
    /// An engine under a trust.
    pub fn new(engine: Arc<dyn Engine>, trust: Trust) -> Self {
        Self { engine, trust }
    }
}

#[async_trait]
impl Engine for Trusted {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn layout(&self) -> &Layout {
        self.engine.layout()
    }

    fn log(&self, log: Log) -> Arc<dyn EventLog> {
        let (inner, trust) = (self.engine.log(log), self.trust.clone());
        match log {
            Log::Events(shard) => Arc::new(Events { inner, trust, shard }),
            Log::Messages(_) => Arc::new(Messages { inner, trust }),
            Log::Attempts => inner,
        }
    }

    fn queue(&self) -> Arc<dyn WorkQueue> {
        Arc::new(Queue {
            inner: self.engine.queue(),
            trust: self.trust.clone(),
        })
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

/// A log of events.
#[derive(Debug)]
struct Events {
    inner: Arc<dyn EventLog>,
    trust: Trust,
    shard: Shard,
}

impl Events {
    fn readable(&self) -> Result<(), ReadError> {
        self.trust.require().map_err(unreadable)
    }

    fn log(&self) -> Log {
        Log::Events(self.shard)
    }

    /// Whether the log still goes as far as the follower has come, and is still the one it was.
    async fn reaches(&self, after: u64) -> Result<(), ReadError> {
        let fence = Fence {
            end: after,
            ..Fence::default()
        };
        match self
            .trust
            .compare(self.shard, self.inner.as_ref(), &fence)
            .await?
        {
            None => Ok(()),
            Some(why) => Err(unreadable(self.trust.lose(why))),
        }
    }
}

#[async_trait]
impl EventLog for Events {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        self.trust
            .require()
            .map_err(|why| AppendError::Unavailable(Box::new(why)))?;
        let expected = self.trust.seen(self.shard).end;
        let appended = self.inner.append(records).await?;
        // What is stored now stands behind everything that was there before; else the log has lost its end.
        let stored = appended.iter().filter(|record| !record.duplicate);
        if let Some(end) = stored
            .map(|record| record.sequence)
            .min()
            .filter(|end| *end <= expected)
        {
            let (log, end) = (self.log(), end.saturating_sub(1));
            let why = self.trust.lose(Distrust::Backwards { log, expected, end });
            return Err(AppendError::Unavailable(Box::new(why)));
        }
        let ends = appended.iter().map(|record| record.sequence);
        self.trust.reached(self.shard, ends.max().unwrap_or_default());
        Ok(appended)
    }

    async fn read(
        &self,
        after: u64,
        filter: Option<&Filter>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.readable()?;
        self.inner.read(after, filter, limit).await
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Record>, ReadError> {
        self.readable()?;
        self.inner.last(subject).await
    }

    async fn at(&self, sequence: u64) -> Result<Option<Record>, ReadError> {
        self.readable()?;
        self.inner.at(sequence).await
    }

    async fn follow(&self, after: u64, filter: Option<Filter>) -> Result<RecordStream, ReadError> {
        self.readable()?;
        self.reaches(after).await?;
        let whole = filter.is_none();
        let records = self.inner.follow(after, filter).await?;
        let (trust, log) = (self.trust.clone(), self.log());
        let checked = records.scan((after, trust.clone()), move |(last, trust), record| {
            future::ready(Some(check(trust, log, whole, last, record)))
        });
        let lost = stream::once(async move { Err(unreadable(trust.until_lost().await)) });
        // The loss ends the stream, whatever is still to come of it.
        let both = stream::select(checked, lost);
        let ended = both.scan(false, |ended, record| {
            let going = !*ended;
            *ended = record.is_err();
            future::ready(going.then_some(record))
        });
        Ok(ended.boxed())
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        self.readable()?;
        self.inner.state().await
    }
}

/// Records of a log without a filter follow each other without a gap.
fn check(
    trust: &Trust,
    log: Log,
    whole: bool,
    last: &mut u64,
    record: Result<Record, ReadError>,
) -> Result<Record, ReadError> {
    let record = match record {
        Ok(record) => record,
        Err(error) => {
            // It may have lost its end under the follower.
            trust.look_again();
            return Err(error);
        }
    };
    trust.require().map_err(unreadable)?;
    let found = record.sequence;
    if found <= *last || (whole && found != *last + 1) {
        let (last, found) = (*last, Some(found));
        return Err(unreadable(trust.lose(Distrust::Missing { log, last, found })));
    }
    *last = found;
    Ok(record)
}

fn unreadable(why: Arc<Distrust>) -> ReadError {
    ReadError::Unavailable(Box::new(why))
}

/// A log of messages: what is published is taken only while commands are.
#[derive(Debug)]
struct Messages {
    inner: Arc<dyn EventLog>,
    trust: Trust,
}

#[async_trait]
impl EventLog for Messages {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        self.trust
            .require()
            .map_err(|why| AppendError::Unavailable(Box::new(why)))?;
        self.inner.append(records).await
    }

    async fn read(
        &self,
        after: u64,
        filter: Option<&Filter>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.inner.read(after, filter, limit).await
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Record>, ReadError> {
        self.inner.last(subject).await
    }

    async fn at(&self, sequence: u64) -> Result<Option<Record>, ReadError> {
        self.inner.at(sequence).await
    }

    async fn follow(&self, after: u64, filter: Option<Filter>) -> Result<RecordStream, ReadError> {
        self.inner.follow(after, filter).await
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        self.inner.state().await
    }
}

/// The queue: no new work where trust is lost.
#[derive(Debug)]
struct Queue {
    inner: Arc<dyn WorkQueue>,
    trust: Trust,
}

#[async_trait]
impl WorkQueue for Queue {
    async fn enqueue(&self, jobs: Vec<(Job, Option<SystemTime>)>) -> Result<(), QueueError> {
        self.inner.enqueue(jobs).await
    }

    async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Lease>, QueueError> {
        match self.trust.require() {
            Ok(()) => self.inner.lease(max, wait).await,
            Err(why) => Err(QueueError::Unavailable(Box::new(why) as Cause)),
        }
    }

    async fn extend(&self, lease: &Lease) -> Result<SystemTime, QueueError> {
        self.inner.extend(lease).await
    }

    async fn settle(&self, lease: &Lease, settlement: Settlement) -> Result<(), QueueError> {
        self.inner.settle(lease, settlement).await
    }

    async fn hasten(&self, tenant: &Token, lane: &Token, job: &Token) -> Result<bool, QueueError> {
        self.inner.hasten(tenant, lane, job).await
    }
}
