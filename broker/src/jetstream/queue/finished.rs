//! Taking settled jobs out of the stream, many at once.
//!
//! A settled job is acknowledged to the consumer, which then delivers it no more; its message stays in the stream until
//! the next sweep purges all that lie before the first unsettled one. A work-queue stream would remove each message
//! with its acknowledgement, and a server with `sync_interval: always` would wait for the disk each time: that was three
//! in four of all its syncs.
//!
//! **What a crash of the server costs.** The consumer writes what was acknowledged within a tenth of a second or so; a
//! server that is killed before has forgotten it and delivers those jobs again. A process that settled them itself
//! recognises them and hands them out no more; only one that did not works on them once more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::jetstream::connection::{AskError, Connection};
use crate::jetstream::names::Names;

use super::consumer::CONSUMER;

/// How often a process sweeps, at most.
const PAUSE: Duration = Duration::from_millis(500);
/// How many settled jobs a process recognises: those of some seconds at the highest rates measured.
const KNOWN: usize = 100_000;

/// A message of the stream. Its time tells it from one of a stream that was made anew and counts from one again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    /// When the stream stored it, in nanoseconds since 1970.
    pub(super) stored: i128,
}

/// The jobs this process has settled, and the sweeps.
#[derive(Debug)]
pub(super) struct Finished {
    connection: Arc<Connection>,
    stream: String,
    jobs: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When each was stored, by its sequence; those that a sweep has taken away are gone from here too.
    settled: BTreeMap<u64, i128>,
    /// Whether something was settled since the last sweep began.
    fresh: bool,
    begun: Option<Instant>,
    sweeping: bool,
    /// Whether the last sweep failed, so that it is told once.
    failed: bool,
}

#[derive(Deserialize)]
struct Info {
    ack_floor: Floor,
}

#[derive(Deserialize)]
struct Floor {
    /// Up to this sequence of the stream everything the consumer delivers was acknowledged.
    stream_seq: u64,
}

impl Finished {
    pub(super) fn new(connection: Arc<Connection>, names: &Names) -> Self {
        Self {
            connection,
            stream: names.deliveries(),
            jobs: names.queue_space().wire("job.>"),
            state: Mutex::default(),
        }
    }

    /// Remembers a message whose acknowledgement was answered.
    pub(super) fn note(&self, entry: Entry) {
        let mut state = self.state();
        state.settled.insert(entry.sequence, entry.stored);
        if state.settled.len() > KNOWN {
            state.settled.pop_first();
        }
        state.fresh = true;
    }

    /// Whether this process has settled it; then it is delivered again, and has to be acknowledged and swept again.
    pub(super) fn knows(&self, entry: Entry) -> bool {
        let mut state = self.state();
        let known = state.settled.get(&entry.sequence) == Some(&entry.stored);
        state.fresh |= known;
        known
    }

    /// Begins a sweep in the background if there is something to sweep and the last one is long enough ago.
    pub(super) fn sweep(self: &Arc<Self>) {
        let now = Instant::now();
        {
            let mut state = self.state();
            // What an earlier process has settled and not swept is swept with the first of this one.
            let due = state
                .begun
                .is_none_or(|begun| state.fresh && now.duration_since(begun) >= PAUSE);
            if !due || state.sweeping {
                return;
            }
            state.fresh = false;
            state.begun = Some(now);
            state.sweeping = true;
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let swept = this.purge().await;
            this.ended(swept);
        });
    }

    fn ended(&self, swept: Result<u64, AskError>) {
        let mut state = self.state();
        state.sweeping = false;
        let failed_before = std::mem::replace(&mut state.failed, swept.is_err());
        match swept {
            Ok(kept) => state.settled = state.settled.split_off(&kept),
            Err(error) => {
                // Nothing is lost by it but room: the next sweep takes these along.
                state.fresh = true;
                if !failed_before {
                    tracing::warn!(
                        stream = self.stream,
                        %error,
                        "Settled jobs cannot be taken out of their stream for now. If this goes on while NATS is well, \
                         allow this account to purge the stream."
                    );
                }
            }
        }
    }

    /// Purges the settled jobs before the first unsettled one, and answers from which sequence on jobs are kept.
    async fn purge(&self) -> Result<u64, AskError> {
        let asked = format!("CONSUMER.INFO.{}.{CONSUMER}", self.stream);
        let info: Info = self.connection.ask(&asked, &json!({})).await?;
        let kept = info.ack_floor.stream_seq + 1;
        if kept > 1 {
            let purge = json!({ "filter": self.jobs, "seq": kept });
            let request = format!("STREAM.PURGE.{}", self.stream);
            self.connection.ask::<Value>(&request, &purge).await?;
        }
        Ok(kept)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
