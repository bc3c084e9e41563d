//! One reader at the end of a log for all its followers in this process: each record is fetched and decoded once,
//! however many projections fold it.
//!
//! What it reads stands in a [`Window`] until all followers have taken it, within a bound; a follower that is behind
//! that reads the log by itself until the window reaches back to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::layout::Log;
use broker::{EventLog, ReadError, RecordStream};
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::chunk::Chunk;
use super::follower::{FIRST_PAUSE, LONGEST_PAUSE};
use super::window::{Found, Window};

/// A chunk takes what has arrived, up to this many records …
pub(super) const MOST_RECORDS: usize = 2_000;
/// … or this many bytes. It never waits for more: while one chunk is folded the next one gathers, so chunks grow with
/// the load by themselves and a lone record is handed out at once.
const MOST_BYTES: usize = 1024 * 1024;
/// A transaction takes chunks up to so many bytes.
pub(super) const MOST_TOGETHER: usize = 4 * MOST_BYTES;

/// The end of a log.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    window: Arc<Mutex<Window>>,
    /// Tells that there is something new: records, or why they cannot be read for the moment.
    news: watch::Sender<Option<Arc<ReadError>>>,
}

/// A follower at the end of a log.
#[derive(Debug)]
pub(super) struct Listener {
    window: Arc<Mutex<Window>>,
    news: watch::Receiver<Option<Arc<ReadError>>>,
    number: u64,
}

impl Listener {
    /// What follows a sequence, where the follower stands now.
    pub(super) fn after(&mut self, at: u64) -> Found {
        // Looked at before the window is, so that what comes meanwhile is news.
        self.news.mark_unchanged();
        locked(&self.window).after(self.number, at)
    }

    /// Waits for something new since [`after`](Self::after).
    pub(super) async fn news(&mut self) -> Result<(), Arc<ReadError>> {
        if self.news.changed().await.is_err() {
            // The reader is gone only where all is being stopped.
            return std::future::pending().await;
        }
        self.news.borrow().clone().map_or(Ok(()), Err)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        locked(&self.window).leave(self.number);
    }
}

fn locked(window: &Mutex<Window>) -> MutexGuard<'_, Window> {
    window.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tail {
    pub(super) fn new() -> Self {
        Self {
            window: Arc::default(),
            news: watch::Sender::new(None),
        }
    }

    /// A follower that stands at a sequence.
    pub(super) fn listen(&self, at: u64) -> Listener {
        Listener {
            number: locked(&self.window).join(at),
            window: Arc::clone(&self.window),
            news: self.news.subscribe(),
        }
    }

    /// Reads the log until stopped.
    pub(super) async fn run(self, log: Log, port: Arc<dyn EventLog>, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.follow(log, port.as_ref()) => ended,
            };
            match ended {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    tracing::debug!(log = log.name(), %error, "The end of a log cannot be read; trying again.");
                    self.news.send_replace(Some(Arc::new(error)));
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn follow(&self, log: Log, port: &dyn EventLog) -> Result<(), ReadError> {
        let reached = locked(&self.window).reached();
        let start = match reached {
            Some(reached) => reached,
            None => port.state().await?.last,
        };
        let mut records = port.follow(start, None).await?;
        locked(&self.window).begin(start);
        self.news.send_replace(None);
        while let Some(first) = records.next().await {
            let (batch, ended) = gather(first?, &mut records);
            let chunk = Chunk::of(log, &batch);
            if let Some((end, _)) = chunk.end() {
                locked(&self.window).push(chunk, end);
                self.news.send_replace(None);
            }
            ended?;
        }
        Ok(())
    }
}

/// A record and what has arrived behind it; and the error that ended it, if one did.
pub(super) fn gather(
    first: broker::Record,
    records: &mut RecordStream,
) -> (Vec<broker::Record>, Result<(), ReadError>) {
    let mut bytes = first.payload.len();
    let mut batch = vec![first];
    while batch.len() < MOST_RECORDS && bytes < MOST_BYTES {
        match records.next().now_or_never() {
            Some(Some(Ok(record))) => {
                bytes += record.payload.len();
                batch.push(record);
            }
            Some(Some(Err(error))) => return (batch, Err(error)),
            // Nothing yet, or the end, which the next look will find again.
            Some(None) | None => break,
        }
    }
    (batch, Ok(()))
}
