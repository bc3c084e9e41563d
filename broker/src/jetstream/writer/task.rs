//! The writer's task: fills one batch while the one before is being stored.
//!
//! A server's work on a batch begins with its first record, and most of what does not depend on the batch's size
//! (making the place where it is kept until its commit, synced) falls there. So a batch is opened as soon as it is
//! certain to be worth it, and takes what comes until the batch before is stored and those it answered had the time
//! to come again: they think and write while the server makes room. Only then does its last record, which commits
//! it, go out. Two batches never commit at once: each would be half as large and cost as much.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::open::Open;
use super::{ALONE, Lane, Request, Turn, WAITING};
use crate::MAX_APPEND;
use crate::jetstream::append::Appender;

/// How long after the answer to a batch the next one waits for all who were in it: about as long as the server
/// takes to make room for it.
const LINGER: Duration = Duration::from_millis(1);

/// How long appends that are too few for a batch wait for others, where the last batch was worth it.
const PAUSE: Duration = Duration::from_micros(300);

struct Task {
    appender: Arc<Appender>,
    lane: Arc<Lane>,
    receiver: mpsc::Receiver<Request>,
    waiting: VecDeque<Request>,
    /// How many appends the last batch had; 0: there was none lately.
    last: usize,
    /// The batch that is being stored; it ends with the time of its answer.
    storing: Option<JoinHandle<Instant>>,
}

/// Starts the task; it ends when all senders are gone and everyone is answered.
pub(super) fn start(appender: Arc<Appender>, lane: Arc<Lane>) -> mpsc::Sender<Request> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let task = Task {
        appender,
        lane,
        receiver,
        waiting: VecDeque::new(),
        last: 0,
        storing: None,
    };
    tokio::spawn(task.run());
    sender
}

impl Task {
    async fn run(mut self) {
        while self.somebody_waits().await {
            if !self.gather().await {
                continue;
            }
            let open = self.fill().await;
            self.last = open.len();
            self.lane.grouping.store(self.last >= ALONE, Ordering::Relaxed);
            self.storing = Some(tokio::spawn(async move {
                open.commit().await;
                Instant::now()
            }));
        }
    }

    async fn somebody_waits(&mut self) -> bool {
        if self.waiting.is_empty() {
            self.waiting.extend(self.receiver.recv().await);
        }
        !self.waiting.is_empty()
    }

    /// Takes in all that have come, as far as one batch can hold them.
    fn take_in(&mut self) {
        while self.waiting.len() < MAX_APPEND
            && let Ok(request) = self.receiver.try_recv()
        {
            self.waiting.push_back(request);
        }
    }

    /// Lets appends come together until they are worth a batch. Where too few come, they go by themselves as soon
    /// as there are places; `false`: all of them did.
    async fn gather(&mut self) -> bool {
        let patience = Instant::now() + PAUSE;
        let mut patient = self.last >= ALONE;
        loop {
            self.take_in();
            if self.waiting.is_empty() {
                return false;
            }
            if self.waiting.len() >= ALONE || (!patient && self.waiting.iter().any(is_several)) {
                return true;
            }
            tokio::select! {
                biased;
                request = self.receiver.recv() => match request {
                    Some(request) => self.waiting.push_back(request),
                    None => return true,
                },
                place = Arc::clone(&self.lane.places).acquire_owned(), if !patient => {
                    self.last = 0;
                    self.lane.grouping.store(false, Ordering::Relaxed);
                    if let Some(request) = self.waiting.pop_front() {
                        go_alone(request, false, place.ok());
                    }
                }
                () = tokio::time::sleep_until(patience), if patient => patient = false,
            }
        }
    }

    /// Opens a batch and fills it until it is time to commit it: no other is being stored, and those the one before
    /// answered have come again, or had the time to.
    async fn fill(&mut self) -> Open {
        let mut open = Open::new(Arc::clone(&self.appender));
        let (mut enough, mut patience) = (MAX_APPEND, Instant::now());
        loop {
            self.take_in();
            open.take(&mut self.waiting).await;
            let may_commit = self.storing.is_none();
            if may_commit && (open.is_full() || open.len() >= enough || Instant::now() >= patience) {
                return open;
            }
            let may_take = !open.is_full() && self.waiting.len() < MAX_APPEND && !self.receiver.is_closed();
            tokio::select! {
                biased;
                answered = stored(&mut self.storing) => {
                    self.storing = None;
                    (enough, patience) = (open.len() + self.last, answered + LINGER);
                }
                request = self.receiver.recv(), if may_take => match request {
                    Some(request) => self.waiting.push_back(request),
                    None => patience = Instant::now(),
                },
                () = tokio::time::sleep_until(patience), if may_commit => {}
            }
        }
    }
}

/// When the batch that is being stored was answered; never, where there is none.
async fn stored(storing: &mut Option<JoinHandle<Instant>>) -> Instant {
    match storing {
        Some(batch) => batch.await.unwrap_or_else(|_| Instant::now()),
        None => std::future::pending().await,
    }
}

pub(super) fn is_several(request: &Request) -> bool {
    request.records.len() > 1
}

pub(super) fn go_alone(request: Request, maybe_stored: bool, place: Option<OwnedSemaphorePermit>) {
    // A caller that has gone away gives its place back by not taking it.
    drop(request.reply.send(Turn::Alone {
        records: request.records,
        room: request.room,
        maybe_stored,
        place,
    }));
}
