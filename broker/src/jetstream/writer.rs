//! Group commit: the independent appends that wait in this process share one atomic batch.
//!
//! The server syncs per message or per batch, so that a batch of hundreds costs little more than a batch of two, but
//! that as much as a dozen plain publishes. Hence two ways. While few appends are under way, each goes by itself,
//! from its caller's own task, as a plain publish. When more come than that, they queue for the writer's task,
//! which packs all that wait into one batch and fills the next while the server stores it.
//!
//! A batch only ever says "all stored". Whatever else happens to it, each of its appends goes on by itself in its
//! caller's task, with the same records under the same ids: a stale one conflicts, the others are stored (or found
//! stored, where the batch was not answered). So no caller can fail or hold up another by more than one retry, and
//! one that goes away disturbs nobody.
//!
//! **Deadlines.** Appends are taken in the order they came, and a batch ends by the deadline of its oldest append.
//! Whoever waits is therefore answered by its own deadline.

mod group;
mod open;
mod task;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::append::Appender;
use crate::backlog::{Backlog, Room};
use crate::{AppendError, Appended, NewRecord};

/// Appends that go by themselves at a time: about as many as cost what a batch does.
const ALONE: usize = 16;

/// Appends that may wait for the writer before callers wait for a slot; how many may wait at all, the backlog says.
const WAITING: usize = 4_096;

/// An append that waits for the writer.
struct Request {
    records: Vec<NewRecord>,
    deadline: Instant,
    room: Room,
    reply: oneshot::Sender<Turn>,
}

/// What became of an append that waited.
enum Turn {
    /// It is stored.
    Stored(Vec<Appended>),
    /// It goes on by itself.
    Alone {
        /// What was handed over.
        records: Vec<NewRecord>,
        /// Held until it is answered.
        room: Room,
        /// A batch that held it was not answered.
        maybe_stored: bool,
        /// Its place among those that go by themselves, where it never was in a batch.
        place: Option<OwnedSemaphorePermit>,
    },
    /// Its deadline came before its turn; it was never sent.
    Late,
}

/// Who may go by itself.
#[derive(Debug)]
struct Lane {
    places: Arc<Semaphore>,
    /// Appends come in numbers: they all queue, so that batches are full.
    grouping: AtomicBool,
}

impl Lane {
    /// A place, if the append may go by itself at once.
    fn enter(&self, records: &[NewRecord]) -> Option<OwnedSemaphorePermit> {
        if records.len() > 1 || self.grouping.load(Ordering::Relaxed) {
            return None;
        }
        Arc::clone(&self.places).try_acquire_owned().ok()
    }
}

/// The one way to append to a stream in this process.
pub(super) struct Writer {
    appender: Arc<Appender>,
    backlog: Backlog,
    lane: Arc<Lane>,
    /// To the task, which the first append that needs it starts, and which ends with the writer.
    queue: OnceLock<mpsc::Sender<Request>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn new(appender: Arc<Appender>, backlog: Backlog) -> Self {
        let lane = Lane {
            places: Arc::new(Semaphore::new(ALONE)),
            grouping: AtomicBool::new(false),
        };
        Self {
            appender,
            backlog,
            lane: Arc::new(lane),
            queue: OnceLock::new(),
        }
    }

    /// See [`crate::EventLog::append`].
    pub(super) async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        self.appender.check(&records)?;
        let room = self.backlog.enter(&records)?;
        let deadline = Instant::now() + self.appender.connection.timeouts.append;
        if let Some(_place) = self.lane.enter(&records) {
            return self.appender.append_until(&records, deadline, false).await;
        }
        match self.wait_for_turn(records, room, deadline).await? {
            Turn::Stored(appended) => Ok(appended),
            Turn::Alone {
                records,
                room: _room,
                maybe_stored,
                place: _place,
            } => self.appender.append_until(&records, deadline, maybe_stored).await,
            Turn::Late => Err(AppendError::Busy),
        }
    }

    async fn wait_for_turn(
        &self,
        records: Vec<NewRecord>,
        room: Room,
        deadline: Instant,
    ) -> Result<Turn, AppendError> {
        let queue = self
            .queue
            .get_or_init(|| task::start(Arc::clone(&self.appender), Arc::clone(&self.lane)));
        let slot = tokio::time::timeout_at(deadline, queue.reserve()).await;
        let slot = slot.map_err(|_| AppendError::Busy)?;
        let slot = slot.map_err(|closed| AppendError::Unavailable(closed.into()))?;
        let (reply, turn) = oneshot::channel();
        slot.send(Request {
            records,
            deadline,
            room,
            reply,
        });
        turn.await.map_err(|lost| AppendError::Unknown(lost.into()))
    }
}
