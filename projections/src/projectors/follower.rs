//! One projection on one log: follow, cut batches, apply them, for ever.

use std::sync::Arc;
use std::time::Duration;

use broker::layout::Log;
use broker::{Distrust, EventLog, ReadError, RecordStream};
use futures::StreamExt;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::batch::{BatchError, Fold};
use super::chunk::Chunk;
use super::parked::{self, ResumeError};
use super::tail::{self, Handed, Tail};
use super::{Control, ParkedTenants, State};
use crate::generations;
use crate::read_models::ReadModels;

/// The longest time for which a follower waits for more records after a transaction.
const LONGEST_GAP: Duration = Duration::from_millis(20);
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a follower left off.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("{0}")]
    Batch(#[from] BatchError),
    #[error("the log cannot be read: {0}")]
    Log(#[from] ReadError),
    #[error("the log ended its stream of records")]
    Ended,
    #[error("the log cannot be read: {0}")]
    Tail(Arc<ReadError>),
    #[error("it fell behind what is read for all")]
    Overrun,
    #[error("an operator has decided something about the projection")]
    Decided,
    #[error(
        "record {found} follows {last} in the log {log}: records are missing, and the log must be restored before \
         this projection can go on"
    )]
    Gap { log: Log, last: u64, found: u64 },
    #[error(
        "the log {log} ends at {end}, but {at} records of it were folded: it has gone backwards, and must be \
         restored before this projection can go on"
    )]
    Backwards { log: Log, at: u64, end: u64 },
}

impl From<sqlx::Error> for Interrupted {
    fn from(error: sqlx::Error) -> Self {
        Self::Batch(error.into())
    }
}

impl From<ResumeError> for Interrupted {
    fn from(error: ResumeError) -> Self {
        match error {
            ResumeError::Batch(error) => error.into(),
            ResumeError::Log(error) => error.into(),
        }
    }
}

/// The task.
pub(super) struct Follower {
    read_models: ReadModels,
    log: Arc<dyn EventLog>,
    tail: Tail,
    state: Arc<State>,
    control: Control,
    changes: watch::Receiver<()>,
    stop: CancellationToken,
    /// The generation it folds into.
    generation: i64,
    /// The checkpoint as this follower knows it.
    at: u64,
    parked: ParkedTenants,
}

impl Follower {
    pub(super) fn new(
        read_models: ReadModels,
        (log, tail): (Arc<dyn EventLog>, Tail),
        state: Arc<State>,
        control: Control,
        stop: CancellationToken,
    ) -> Self {
        Self {
            changes: control.changes(),
            control,
            read_models,
            log,
            tail,
            state,
            stop,
            generation: 0,
            at: 0,
            parked: ParkedTenants::new(),
        }
    }

    /// Follows until stopped, or until something is wrong that trying again cannot mend.
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        while !self.stop.is_cancelled() {
            if !self.rested().await {
                return;
            }
            let began = tokio::time::Instant::now();
            let Err(error) = self.follow().await else { return };
            let projection = self.state.line.projection.name();
            let log = self.state.line.log.name();
            match error {
                Interrupted::Gap { .. } | Interrupted::Backwards { .. } => {
                    tracing::error!(projection, log, %error, "A projection has stopped.");
                    self.state.stopped(error.to_string());
                    return;
                }
                // Told once, by whoever has found it out.
                Interrupted::Log(ref error) if let Some(why) = Distrust::behind(error) => {
                    self.state.stopped(why.to_string());
                    return;
                }
                Interrupted::Tail(ref error) if let Some(why) = Distrust::behind(error) => {
                    self.state.stopped(why.to_string());
                    return;
                }
                Interrupted::Decided | Interrupted::Overrun => continue,
                // Not a fault: whoever was faster has done the work.
                Interrupted::Batch(BatchError::Fenced) => {
                    tracing::debug!(
                        projection,
                        log,
                        "Another projector is ahead; following from its checkpoint."
                    );
                }
                error => {
                    tracing::warn!(projection, log, %error, "A projection was interrupted; it tries again.");
                    self.state.failed(error.to_string());
                }
            }
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits while operators let the projection rest; `false` where it is stopped meanwhile.
    async fn rested(&mut self) -> bool {
        let name = self.state.line.projection.name();
        loop {
            self.changes.borrow_and_update();
            let paused = self.control.is_paused(name);
            self.state.rests(paused);
            if !paused {
                return !self.stop.is_cancelled();
            }
            tokio::select! {
                () = self.stop.cancelled() => return false,
                changed = self.changes.changed() => if changed.is_err() { return false },
            }
        }
    }

    /// From the checkpoint on, until stopped.
    async fn follow(&mut self) -> Result<(), Interrupted> {
        self.begin().await?;
        let (mut handed, reached) = self.tail.listen();
        // A log under trust finds out here whether it is still what it was, and tells everybody.
        let records = self.log.follow(self.at, None).await?;
        let end = self.log.state().await?.last;
        if end < self.at {
            return Err(Interrupted::Backwards {
                log: self.state.line.log,
                at: self.at,
                end,
            });
        }
        let (state, database) = (Arc::clone(&self.state), &self.read_models.database);
        let place = state.line.place(self.generation);
        parked::resume(
            database,
            place,
            self.log.as_ref(),
            self.at,
            &mut self.parked,
            &self.control,
        )
        .await?;
        self.state.stands_at(self.at, &self.parked);
        self.state.recovered();
        self.tell();
        self.catch_up(records, reached).await?;
        loop {
            let first = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                _ = self.changes.changed() => return Err(Interrupted::Decided),
                handed = handed.recv() => handed,
            };
            let mut chunks = vec![taken(first)?];
            let mut records = chunks.iter().map(Chunk::len).sum::<usize>();
            while records < tail::MOST_RECORDS {
                let Ok(next) = handed.try_recv() else { break };
                let next = taken(Ok(next))?;
                records += next.len();
                chunks.push(next);
            }
            let began = tokio::time::Instant::now();
            self.apply(chunks).await?;
            self.pace(records, began).await;
        }
    }

    /// Reads the log by itself until the tail's next records are the next.
    async fn catch_up(
        &mut self,
        mut records: RecordStream,
        mut reached: watch::Receiver<Option<u64>>,
    ) -> Result<(), Interrupted> {
        loop {
            if reached
                .borrow_and_update()
                .is_some_and(|reached| self.at >= reached)
            {
                return Ok(());
            }
            let first = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                _ = self.changes.changed() => return Err(Interrupted::Decided),
                next = records.next() => next.ok_or(Interrupted::Ended)?,
                // The tail keeps its sender as long as this follower lives.
                _ = reached.changed() => continue,
            };
            let (batch, ended) = tail::gather(first?, &mut records);
            self.apply(vec![Chunk::of(self.state.line.log, &batch)]).await?;
            ended?;
        }
    }

    /// Under load, waits a moment for more, so that each transaction pays for many records: a millisecond for each
    /// record of the last one, so that whoever writes one after the other is not held up.
    async fn pace(&self, records: usize, began: tokio::time::Instant) {
        let gap = Duration::from_millis(records as u64).min(LONGEST_GAP);
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep_until(began + gap) => {}
        }
    }

    /// Reads which generation is live and where it stands.
    async fn begin(&mut self) -> Result<(), Interrupted> {
        let line = &self.state.line;
        let mut session = self.read_models.database.begin().await?;
        self.generation = generations::live_or_new(&mut session, line.projection.as_ref(), line.log).await?;
        let place = line.place(self.generation);
        self.at = place.load(&mut session).await?;
        let parked = place.parked(&mut session).await?;
        session.commit().await?;
        self.parked = parked
            .into_iter()
            .map(|parked| (parked.tenant.clone(), parked))
            .collect();
        Ok(())
    }

    /// Sequences must grow, and in a log that keeps all its records must not leave one out: what the log has lost
    /// must never be folded over.
    fn check(&self, chunks: &[Chunk]) -> Result<(), Interrupted> {
        let log = self.state.line.log;
        let whole = matches!(log, Log::Events(_));
        let mut last = self.at;
        for found in chunks.iter().flat_map(Chunk::sequences) {
            if found <= last || (whole && found != last + 1) {
                return Err(Interrupted::Gap { log, last, found });
            }
            last = found;
        }
        Ok(())
    }

    /// Applies records; where some were applied before, here or by another projector, only the others.
    async fn apply(&mut self, mut chunks: Vec<Chunk>) -> Result<(), Interrupted> {
        loop {
            chunks = chunks.into_iter().map(|chunk| chunk.after(self.at)).collect();
            let Some((to, stored_at)) = chunks.iter().rev().find_map(Chunk::end) else {
                return Ok(());
            };
            self.check(&chunks)?;
            let (state, database) = (Arc::clone(&self.state), &self.read_models.database);
            let fold = Fold {
                database,
                place: state.line.place(self.generation),
                control: &self.control,
            };
            match fold.apply(self.at, &chunks, &mut self.parked).await {
                Ok(()) => {
                    self.state.applied(self.at, to, stored_at.into(), &self.parked);
                    self.at = to;
                    self.tell();
                    return Ok(());
                }
                Err(BatchError::Fenced) => {
                    let before = self.at;
                    self.begin().await?;
                    if self.at <= before {
                        // Another generation was switched in: follow from its place.
                        return Err(BatchError::Fenced.into());
                    }
                    self.state.stands_at(self.at, &self.parked);
                    self.tell();
                    if self.at > to {
                        return Err(BatchError::Fenced.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn tell(&self) {
        let name = self.state.line.projection.name();
        self.read_models.progress.tell(name, self.state.position(self.at));
    }
}

/// What the tail handed out.
fn taken(handed: Result<Handed, RecvError>) -> Result<Chunk, Interrupted> {
    match handed {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(Interrupted::Tail(error)),
        Err(RecvError::Lagged(_)) => Err(Interrupted::Overrun),
        Err(RecvError::Closed) => Err(Interrupted::Ended),
    }
}
