//! The writer's task: gathers what waits, and sends one batch after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::{ALONE, Lane, Request, Turn, WAITING, group};
use crate::jetstream::append::Appender;
use crate::jetstream::connection::PublishError;
use crate::{MAX_APPEND, NewRecord};

/// Batches under way at a time: while the server stores one, the next is put together and sent. Of one, two and four,
/// two did best (`docs/benchmarks.md`).
const BATCHES: usize = 2;

/// How long a batch waits for as many appends as the last one had: those who were answered just now come again.
const LINGER: Duration = Duration::from_micros(300);

struct Task {
    appender: Arc<Appender>,
    lane: Arc<Lane>,
    receiver: mpsc::Receiver<Request>,
    waiting: VecDeque<Request>,
    /// How many appends the last batch had; 0: there was none lately.
    last: usize,
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
    };
    tokio::spawn(task.run());
    sender
}

impl Task {
    async fn run(mut self) {
        let slots = Arc::new(Semaphore::new(BATCHES));
        while self.somebody_waits().await {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            if self.gather().await {
                let group = group::take(&mut self.waiting);
                self.last = group.len();
                self.lane.grouping.store(self.last >= ALONE, Ordering::Relaxed);
                tokio::spawn(send(Arc::clone(&self.appender), group, slot));
            }
        }
    }

    async fn somebody_waits(&mut self) -> bool {
        if self.waiting.is_empty() {
            self.waiting.extend(self.receiver.recv().await);
        }
        !self.waiting.is_empty()
    }

    /// Lets appends come together until they are worth a batch. Where too few come, they go by themselves as soon
    /// as there are places; `false`: all of them did.
    async fn gather(&mut self) -> bool {
        let patience = Instant::now() + LINGER;
        let mut patient = self.last >= ALONE;
        loop {
            while self.waiting.len() < MAX_APPEND
                && let Ok(request) = self.receiver.try_recv()
            {
                self.waiting.push_back(request);
            }
            if self.waiting.is_empty() {
                return false;
            }
            let enough = if patient { self.last } else { ALONE };
            if self.waiting.len() >= enough || (!patient && self.waiting.iter().any(is_several)) {
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
}

fn is_several(request: &Request) -> bool {
    request.records.len() > 1
}

/// Sends one batch and answers everyone in it.
async fn send(appender: Arc<Appender>, mut group: Vec<Request>, slot: OwnedSemaphorePermit) {
    let now = Instant::now();
    // Nobody waits for the answer to an append whose caller has gone away.
    group.retain(|request| !request.reply.is_closed());
    let late = group.extract_if(.., |request| request.deadline <= now);
    for request in late {
        drop(request.reply.send(Turn::Late));
    }
    if group.len() == 1
        && let Some(request) = group.pop_if(|request| !is_several(request))
    {
        go_alone(request, false, None);
        return;
    }
    let Some(deadline) = group.iter().map(|request| request.deadline).min() else {
        return;
    };
    let records: Vec<&NewRecord> = group.iter().flat_map(|request| &request.records).collect();
    let outcome = appender.publish_batch(&records, deadline).await;
    drop(slot);
    match outcome {
        Ok(appended) => {
            let mut places = appended.into_iter();
            for request in group {
                let own = places.by_ref().take(request.records.len()).collect();
                drop(request.reply.send(Turn::Stored(own)));
            }
        }
        Err(error) => {
            tracing::debug!(%error, appends = group.len(), "A batch was not stored as one; its appends go on by themselves.");
            let maybe_stored = matches!(error, PublishError::NoAnswer(_));
            for request in group {
                go_alone(request, maybe_stored, None);
            }
        }
    }
}

fn go_alone(request: Request, maybe_stored: bool, place: Option<OwnedSemaphorePermit>) {
    // A caller that has gone away gives its place back by not taking it.
    drop(request.reply.send(Turn::Alone {
        records: request.records,
        room: request.room,
        maybe_stored,
        place,
    }));
}
