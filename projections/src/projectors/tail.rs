//! One reader at the end of a log for all its followers in this process: each record is fetched and decoded once,
//! however many projections fold it.
//!
//! A follower that is behind reads the log by itself until it stands where the tail stood when it listened; from there
//! on it takes what the tail hands out.

use std::sync::Arc;

use broker::layout::Log;
use broker::{EventLog, ReadError, RecordStream};
use futures::{FutureExt, StreamExt};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::chunk::Chunk;
use super::follower::{FIRST_PAUSE, LONGEST_PAUSE};

/// A chunk takes what has arrived, up to this many records …
pub(super) const MOST_RECORDS: usize = 2_000;
/// … or this many bytes. It never waits for more: while one chunk is folded the next one gathers, so chunks grow with
/// the load by themselves and a lone record is handed out at once.
const MOST_BYTES: usize = 1024 * 1024;
/// How many chunks wait for the slowest follower; one that is further behind reads the log by itself again. With
/// [`MOST_BYTES`] this bounds what a tail holds, and is enough for many small chunks.
const WAITING: usize = 64;

/// What a tail hands out: records, or why it cannot for the moment.
pub(super) type Handed = Result<Chunk, Arc<ReadError>>;

/// The end of a log.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    handed: broadcast::Sender<Handed>,
    /// The last sequence handed out, once there is a tail.
    reached: watch::Sender<Option<u64>>,
}

impl Tail {
    pub(super) fn new() -> Self {
        Self {
            handed: broadcast::Sender::new(WAITING),
            reached: watch::Sender::new(None),
        }
    }

    /// What is handed out from now on; and how far the tail has come, which is looked at afterwards so that nothing
    /// falls between the two.
    pub(super) fn listen(&self) -> (broadcast::Receiver<Handed>, watch::Receiver<Option<u64>>) {
        let handed = self.handed.subscribe();
        (handed, self.reached.subscribe())
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
                    // Nobody may be listening.
                    let _unheard = self.handed.send(Err(Arc::new(error)));
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
        let reached = *self.reached.borrow();
        let start = match reached {
            Some(reached) => reached,
            None => port.state().await?.last,
        };
        let mut records = port.follow(start, None).await?;
        self.reached.send_replace(Some(start));
        while let Some(first) = records.next().await {
            let (batch, ended) = gather(first?, &mut records);
            let chunk = Chunk::of(log, &batch);
            if let Some((end, _)) = chunk.end() {
                // First how far, then what: see `listen`.
                self.reached.send_replace(Some(end));
                let _unheard = self.handed.send(Ok(chunk));
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
