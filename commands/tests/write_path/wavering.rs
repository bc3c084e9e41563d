//! An engine whose log of events does not say, when told so, whether it stored an append.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use broker::{
    AppendError, Appended, Engine, EventLog, Filter, LogState, NewRecord, ReadError, Record, RecordStream,
    Subject,
};

use crate::under::Under;

/// What the next append does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Next {
    Normal,
    LostBefore,
    LostAfter,
}

/// What is told of the next append.
#[derive(Debug, Default)]
pub(crate) struct Wavering(Arc<AtomicU8>);

impl Wavering {
    pub(crate) fn over(&self, engine: &Arc<dyn Engine>) -> Under {
        let next = Arc::clone(&self.0);
        Under::new(engine, move |log| {
            let next = Arc::clone(&next);
            Arc::new(WaveringLog { log, next })
        })
    }

    pub(crate) fn next(&self, next: Next) {
        self.0.store(next as u8, Ordering::SeqCst);
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
