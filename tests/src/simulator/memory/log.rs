//! `EventLog` over a ledger.

use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use broker::layout::Waiting;
use broker::{
    AppendError, Appended, EventLog, Filter, LogState, NewRecord, ReadError, Record, RecordStream, Subject,
};
use futures::stream;

use super::{Gate, Ledger, awaiting, lock};

/// Records that a follower takes at once.
const PAGE: usize = 256;

/// A log of an open engine.
#[derive(Debug)]
pub(super) struct MemoryLog {
    pub(super) ledger: Option<Arc<Ledger>>,
    pub(super) room: Arc<Room>,
    pub(super) gate: Arc<Gate>,
}

impl MemoryLog {
    fn ledger(&self) -> Result<&Arc<Ledger>, ReadError> {
        self.gate.pass().map_err(ReadError::Unavailable)?;
        self.ledger
            .as_ref()
            .ok_or_else(|| ReadError::Unavailable("the layout has no such log".into()))
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        let away = |error| AppendError::Unavailable(Box::new(error));
        self.ledger().map_err(away)?.check_form(&records)?;
        let _room = self.room.enter(&records)?;
        // As long as a disk would take: others come in meanwhile, and find the room taken.
        tokio::task::yield_now().await;
        self.ledger().map_err(away)?.append(records)
    }

    async fn read(
        &self,
        after: u64,
        filter: Option<&Filter>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        Ok(self.ledger()?.read(after, u64::MAX, filter, limit))
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Record>, ReadError> {
        Ok(self.ledger()?.last(subject))
    }

    async fn at(&self, sequence: u64) -> Result<Option<Record>, ReadError> {
        let before = sequence.checked_sub(1);
        let ledger = self.ledger()?;
        Ok(before.and_then(|before| ledger.read(before, sequence, None, 1).pop()))
    }

    async fn follow(&self, after: u64, filter: Option<Filter>) -> Result<RecordStream, ReadError> {
        let ledger = Arc::clone(self.ledger()?);
        let follower = Follower {
            ledger,
            gate: Arc::clone(&self.gate),
            after,
            filter,
            ready: Vec::new().into_iter(),
        };
        Ok(Box::pin(stream::unfold(Some(follower), async |follower| {
            let mut follower = follower?;
            match follower.next().await {
                Ok(record) => Some((Ok(record), Some(follower))),
                Err(error) => Some((Err(error), None)),
            }
        })))
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        Ok(self.ledger()?.state())
    }
}

/// Somebody who follows a log.
struct Follower {
    ledger: Arc<Ledger>,
    gate: Arc<Gate>,
    after: u64,
    filter: Option<Filter>,
    ready: std::vec::IntoIter<Record>,
}

impl Follower {
    async fn next(&mut self) -> Result<Record, ReadError> {
        loop {
            if let Some(record) = self.ready.next() {
                self.after = record.sequence;
                return Ok(record);
            }
            let grown = awaiting(self.ledger.grown());
            self.gate.pass().map_err(ReadError::Unavailable)?;
            let page = self.ledger.read(self.after, u64::MAX, self.filter.as_ref(), PAGE);
            if page.is_empty() {
                grown.await;
            }
            self.ready = page.into_iter();
        }
    }
}

/// The room for what waits to be appended to one log.
#[derive(Debug, Default)]
pub(super) struct Room {
    limit: Waiting,
    taken: Mutex<(usize, usize)>,
}

/// Room that was taken; given back when dropped.
struct Taken<'a> {
    room: &'a Room,
    records: usize,
    bytes: usize,
}

impl Room {
    pub(super) fn new(limit: Waiting) -> Self {
        Self {
            limit,
            taken: Mutex::default(),
        }
    }

    fn enter(&self, append: &[NewRecord]) -> Result<Taken<'_>, AppendError> {
        let own = append.iter().map(|record| record.payload.len()).sum::<usize>();
        let mut taken = lock(&self.taken);
        let (records, bytes) = (taken.0 + append.len(), taken.1 + own);
        // What alone is larger than the bound goes in when nothing else is there.
        if taken.0 > 0 && (records > self.limit.records || bytes > self.limit.bytes) {
            return Err(AppendError::Busy);
        }
        *taken = (records, bytes);
        Ok(Taken {
            room: self,
            records: append.len(),
            bytes: own,
        })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut taken = lock(&self.room.taken);
        taken.0 -= self.records;
        taken.1 -= self.bytes;
    }
}
