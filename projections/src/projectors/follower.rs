//! One projection on one log: follow, cut batches, apply them, for ever.

use std::sync::Arc;
use std::time::Duration;

use broker::layout::Log;
use broker::{Distrust, EventLog, ReadError, Record, RecordStream};
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::batch::{self, BatchError};
use super::parked::{self, ResumeError};
use super::{Control, ParkedTenants, State};
use crate::generations;
use crate::read_models::ReadModels;

/// A batch takes what has arrived, up to this many records …
const BATCH_RECORDS: usize = 2_000;
/// … or this many bytes. It never waits for more: while one batch is written the next one gathers, so batches grow
/// with the load by themselves and a lone record is applied at once.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a follower left off.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("{0}")]
    Batch(#[from] BatchError),
    #[error("the log cannot be read: {0}")]
    Log(#[from] ReadError),
    #[error("the log ended its stream of records")]
    Ended,
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
        log: Arc<dyn EventLog>,
        state: Arc<State>,
        control: Control,
        stop: CancellationToken,
    ) -> Self {
        Self {
            changes: control.changes(),
            control,
            read_models,
            log,
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
                Interrupted::Decided => continue,
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
        // A log under trust finds out here whether it is still what it was, and tells everybody.
        let mut records = self.log.follow(self.at, None).await?;
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
        let mut left_over = None;
        loop {
            let first = if let Some(record) = left_over.take() {
                record
            } else {
                tokio::select! {
                    () = self.stop.cancelled() => return Ok(()),
                    _ = self.changes.changed() => return Err(Interrupted::Decided),
                    next = records.next() => next.ok_or(Interrupted::Ended)?,
                }
            };
            let mut batch = Vec::new();
            left_over = gather(&mut batch, first?, &mut records);
            self.check(&batch)?;
            self.apply(batch).await?;
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
    fn check(&self, batch: &[Record]) -> Result<(), Interrupted> {
        let log = self.state.line.log;
        let whole = matches!(log, Log::Events(_));
        let mut last = self.at;
        for record in batch {
            let found = record.sequence;
            if found <= last || (whole && found != last + 1) {
                return Err(Interrupted::Gap { log, last, found });
            }
            last = found;
        }
        Ok(())
    }

    /// Applies a batch; where another projector was faster, only what it has not applied.
    async fn apply(&mut self, mut batch: Vec<Record>) -> Result<(), Interrupted> {
        while let Some((to, stored_at)) = batch.last().map(|last| (last.sequence, last.stored_at)) {
            let (state, database) = (Arc::clone(&self.state), &self.read_models.database);
            let place = state.line.place(self.generation);
            match batch::apply(database, place, self.at, &batch, &mut self.parked, &self.control).await {
                Ok(()) => {
                    self.state.applied(self.at, to, stored_at, &self.parked);
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
                    batch.retain(|record| record.sequence > self.at);
                    // Past the batch, or at its end: what follows is checked against the new place.
                    self.state.stands_at(self.at, &self.parked);
                    self.tell();
                    if self.at > to {
                        return Err(BatchError::Fenced.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn tell(&self) {
        let name = self.state.line.projection.name();
        self.read_models.progress.tell(name, self.state.position(self.at));
    }
}

/// Adds to a batch what has arrived by now; answers what does not belong to it any more.
fn gather(
    batch: &mut Vec<Record>,
    first: Record,
    records: &mut RecordStream,
) -> Option<Result<Record, ReadError>> {
    let mut bytes = first.payload.len();
    batch.push(first);
    while batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
        match records.next().now_or_never() {
            Some(Some(Ok(record))) => {
                bytes += record.payload.len();
                batch.push(record);
            }
            Some(Some(Err(error))) => return Some(Err(error)),
            // Nothing yet, or the end, which the next look will find again.
            Some(None) | None => return None,
        }
    }
    None
}
