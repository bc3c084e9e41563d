//! One projection on one log: follow, cut batches, apply them, for ever.

use std::sync::Arc;
use std::time::Duration;

use broker::layout::Log;
use broker::{Distrust, EventLog, ReadError, RecordStream};
use futures::StreamExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::batch::{BatchError, Fold};
use super::chunk::Chunk;
use super::parked::{self, ResumeError};
use super::tail::{self, Listener, Tail};
use super::window::Found;
use super::{Control, ParkedTenants, State};
use crate::generations;
use crate::read_models::ReadModels;

/// The longest time for which a follower waits for more records after a transaction.
const LONGEST_GAP: Duration = Duration::from_millis(40);
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
        let mut listener = self.tail.listen(self.at);
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
        let mut own = Some(records);
        while !self.stop.is_cancelled() {
            match listener.after(self.at) {
                Found::Chunk(first) => {
                    own = None;
                    let chunks = gather(first, &mut listener);
                    let records = chunks.iter().map(Chunk::len).sum();
                    let began = tokio::time::Instant::now();
                    self.apply(chunks).await?;
                    self.pace(records, began).await;
                }
                Found::Behind => own = self.catch_up(own, &mut listener).await?,
                Found::Nothing => {
                    own = None;
                    tokio::select! {
                        () = self.stop.cancelled() => {}
                        _ = self.changes.changed() => return Err(Interrupted::Decided),
                        () = self.state.switched_from(self.generation) => return Err(Interrupted::Decided),
                        news = listener.news() => news.map_err(Interrupted::Tail)?,
                    }
                }
            }
            if self.changes.has_changed().unwrap_or(true) {
                return Err(Interrupted::Decided);
            }
        }
        Ok(())
    }

    /// Reads the next records from the log by itself; answers the stream they came from.
    async fn catch_up(
        &mut self,
        own: Option<RecordStream>,
        listener: &mut Listener,
    ) -> Result<Option<RecordStream>, Interrupted> {
        let mut records = match own {
            Some(records) => records,
            None => self.log.follow(self.at, None).await?,
        };
        let first = tokio::select! {
            () = self.stop.cancelled() => return Ok(None),
            _ = self.changes.changed() => return Err(Interrupted::Decided),
            next = records.next() => next.ok_or(Interrupted::Ended)?,
            // What is missing here may be gone from the log, and the next record be one of these.
            news = listener.news() => {
                news.map_err(Interrupted::Tail)?;
                return Ok(Some(records));
            }
        };
        let (batch, ended) = tail::gather(first?, &mut records);
        self.apply(vec![Chunk::of(self.state.line.log, &batch)]).await?;
        ended?;
        Ok(Some(records))
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
        self.state.folds(self.generation);
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

/// A chunk and those that wait behind it, as many as one transaction should have.
fn gather(first: Chunk, listener: &mut Listener) -> Vec<Chunk> {
    let (mut records, mut bytes) = (first.len(), first.bytes());
    let mut end = first.end();
    let mut chunks = vec![first];
    while records < tail::MOST_RECORDS
        && bytes < tail::MOST_TOGETHER
        && let Some((at, _)) = end
        && let Found::Chunk(next) = listener.after(at)
    {
        records += next.len();
        bytes += next.bytes();
        end = next.end();
        chunks.push(next);
    }
    chunks
}
