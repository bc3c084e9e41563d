//! Projectors: tasks that keep the read models at the head of the log.
//!
//! One task per projection and log follows the log after its checkpoint, so a slow projection holds up no other; at the
//! end of the log they share what one reader fetches and decodes ([`tail`]).
//! Several processes may run the same projectors: the checkpoint lets one of them through, the others look on.

mod batch;
mod chunk;
mod control;
mod follower;
mod parked;
mod state;
mod tail;
mod window;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker::layout::{Log, Retention};
use broker::{Engine, EventLog};
use domain::{Position, Timestamp};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use control::Control;

pub(crate) use batch::{Batch, BatchError, Decoded, Fold, ParkedTenants};
pub(crate) use chunk::Chunk;

use crate::checkpoints::{self, Parked, Place, Standpoints};
use crate::generations::{self, Standing};
use crate::models;
use crate::projection::{Projection, source_of};
use crate::read_models::ReadModels;
use crate::verify::VerifyError;
use follower::Follower;
use state::{Measured, State};
use tail::Tail;

/// How often the ends of the logs are asked for, to tell the lag.
const MEASURE: Duration = Duration::from_secs(1);

/// How many records a fold of a whole log reads at once.
const PAGE: usize = 1_000;

/// Logs to follow.
pub type Logs = Vec<(Log, Arc<dyn EventLog>)>;

/// The logs of an installation.
pub fn logs_of(engine: &dyn Engine) -> Logs {
    let logs = engine.layout().logs().into_iter();
    logs.map(|log| (log, engine.log(log))).collect()
}

/// How a projection is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProjectionStatus {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: i64,
    /// How far it has folded each log it follows.
    pub positions: Vec<Position>,
    /// How many records it had not applied when the logs were last asked, a moment ago.
    pub lag_records: u64,
    /// For how long it had missed some of them then, in seconds; 0 where none is missing. Of several logs, the one
    /// furthest behind.
    pub lag_seconds: f64,
    /// What went wrong last, while it does.
    pub last_error: Option<String>,
    /// Whether operators let it rest.
    pub paused: bool,
    /// Whether it has stopped for good: its log is not as it must be, and only an operator can help.
    pub stopped: bool,
    /// The tenants it has parked.
    pub parked: Vec<Parked>,
}

/// Running projectors. Dropped, their tasks end wherever they are, which harms nothing: what was not committed is
/// folded again.
#[derive(Debug)]
pub struct Projectors {
    states: Vec<Arc<State>>,
    tasks: JoinSet<()>,
}

/// One follower's projection, and the log it is for.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) projection: Arc<dyn Projection>,
    pub(crate) log: Log,
}

impl Line {
    /// The place of its live generation.
    pub(crate) fn place(&self, generation: i64) -> Place<'_> {
        Place {
            projection: self.projection.as_ref(),
            generation,
            log: self.log,
            standing: Standing::Live,
        }
    }
}

impl Projectors {
    /// Starts every projection on every log of the installation. When `stop` is cancelled, batches under way are
    /// finished and the tasks end.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what is started keeps clones; a caller hands over its own"
    )]
    pub fn start(
        read_models: ReadModels,
        engine: Arc<dyn Engine>,
        control: Control,
        stop: CancellationToken,
    ) -> Self {
        let mut projectors = Self::follow(&read_models, logs_of(engine.as_ref()), &control, &stop);
        if let Retention::Age(kept) = engine.layout().attempts {
            let forgetting = models::forgetting::run(read_models, kept, stop);
            projectors.tasks.spawn(forgetting);
        }
        projectors
    }

    /// Starts every projection on some logs.
    pub fn follow(read_models: &ReadModels, logs: Logs, control: &Control, stop: &CancellationToken) -> Self {
        let mut projectors = Self {
            states: Vec::new(),
            tasks: JoinSet::new(),
        };
        let tails: Vec<Tail> = logs
            .iter()
            .map(|(log, port)| {
                let tail = Tail::new();
                projectors
                    .tasks
                    .spawn(tail.clone().run(*log, Arc::clone(port), stop.clone()));
                tail
            })
            .collect();
        for projection in models::all() {
            for ((log, port), tail) in logs.iter().zip(&tails) {
                if !projection.sources().contains(&source_of(*log).0) {
                    continue;
                }
                let line = Line {
                    projection: Arc::clone(&projection),
                    log: *log,
                };
                let state = Arc::new(State::new(line));
                projectors.states.push(Arc::clone(&state));
                let follower = Follower::new(
                    read_models.clone(),
                    (Arc::clone(port), tail.clone()),
                    state,
                    control.clone(),
                    stop.clone(),
                );
                projectors.tasks.spawn(follower.run());
            }
        }
        let measure = measure(read_models.clone(), logs, projectors.states.clone(), stop.clone());
        projectors.tasks.spawn(measure);
        let removing = models::retention::run(read_models.clone(), stop.clone());
        projectors.tasks.spawn(removing);
        projectors
    }

    /// How each projection is doing.
    pub fn status(&self) -> Vec<ProjectionStatus> {
        let mut all: Vec<ProjectionStatus> = Vec::new();
        for state in &self.states {
            let projection = &state.line.projection;
            let seen = state.seen();
            if all.last().is_none_or(|last| last.name != projection.name()) {
                all.push(ProjectionStatus {
                    name: projection.name(),
                    version: projection.version(),
                    positions: Vec::new(),
                    lag_records: 0,
                    lag_seconds: 0.0,
                    last_error: None,
                    paused: false,
                    stopped: false,
                    parked: Vec::new(),
                });
            }
            let Some(status) = all.last_mut() else { continue };
            status.lag_records += seen.lag_records();
            status.lag_seconds = status.lag_seconds.max(seen.lag_seconds);
            status.positions.extend(seen.at.map(|at| state.position(at)));
            status.last_error = status.last_error.take().or(seen.last_error);
            status.paused |= seen.paused;
            status.stopped |= seen.stopped;
            status.parked.extend(seen.parked);
        }
        all
    }

    /// Waits until all tasks have ended, which they do after `stop` was cancelled.
    pub async fn join(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "A projector ended by a fault of the program.");
            }
        }
    }
}

/// Asks the logs for their ends and tells the lag and how fresh the read models are, until stopped.
async fn measure(read_models: ReadModels, logs: Logs, states: Vec<Arc<State>>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(MEASURE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for (log, port) in &logs {
            let asked = SystemTime::now();
            let state = tokio::select! {
                () = stop.cancelled() => return,
                state = port.state() => state,
            };
            // A log that cannot be asked is its followers' error to tell.
            let Ok(bounds) = state else { continue };
            let of_log: Vec<_> = states.iter().filter(|state| state.line.log == *log).collect();
            let known = refresh(&read_models, *log, bounds.last, asked.into()).await;
            let known = match known {
                Ok(known) => Some(places_of(&of_log, port.as_ref(), &known).await),
                Err(error) => {
                    tracing::debug!(%error, "How fresh the read models are could not be noted.");
                    None
                }
            };
            for (number, state) in of_log.into_iter().enumerate() {
                let place = known.as_ref().and_then(|known| known.get(number)).copied();
                state.measured(bounds.last, place, SystemTime::now());
            }
        }
    }
}

/// Notes which live read models have everything of a log; answers where each stands.
async fn refresh(
    read_models: &ReadModels,
    log: Log,
    end: u64,
    asked: Timestamp,
) -> Result<Standpoints, sqlx::Error> {
    let mut session = read_models.database.begin().await?;
    checkpoints::refresh(&mut session, log, end, asked).await?;
    let standpoints = checkpoints::standpoints(&mut session, log).await?;
    session.commit().await?;
    Ok(standpoints)
}

/// Where the read models of a log stand, and since when those have missed something that do.
async fn places_of(states: &[&Arc<State>], log: &dyn EventLog, known: &Standpoints) -> Vec<Measured> {
    let mut places = Vec::with_capacity(states.len());
    // When the record after a sequence was stored: projections that are new stand at the same one.
    let mut stored: BTreeMap<u64, Option<SystemTime>> = BTreeMap::new();
    for state in states {
        let projection = &state.line.projection;
        let standpoint = known.get(&(projection.name().to_owned(), projection.version()));
        let at = standpoint.map_or(0, |standpoint| standpoint.sequence);
        let mut since = standpoint
            .and_then(|standpoint| standpoint.fresh_at)
            .map(SystemTime::from);
        if since.is_none() {
            since = match stored.entry(at) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(unknown) => {
                    // A log that cannot be read is its followers' error to tell.
                    let next = log.read(at, None, 1).await.unwrap_or_default();
                    *unknown.insert(next.first().map(|record| record.stored_at))
                }
            };
        }
        let generation = standpoint.map(|standpoint| standpoint.generation);
        places.push(Measured {
            at,
            since,
            generation,
        });
    }
    places
}

/// Folds a whole log, as it is now, into a projection that nobody else folds.
pub(crate) async fn fold_all(
    read_models: &ReadModels,
    line: &Line,
    log: &dyn EventLog,
) -> Result<(), VerifyError> {
    let database = &read_models.database;
    let end = log.state().await?.last;
    let mut session = database.begin().await?;
    let generation = generations::live_or_new(&mut session, line.projection.as_ref(), line.log).await?;
    let place = line.place(generation);
    let mut at = place.load(&mut session).await?;
    session.commit().await?;
    let mut parked = ParkedTenants::new();
    while at < end {
        let mut records = log.read(at, None, PAGE).await?;
        records.retain(|record| record.sequence <= end);
        let Some(last) = records.last().map(|record| record.sequence) else {
            break;
        };
        let fold = Fold {
            database,
            place,
            control: &Control::default(),
        };
        fold.apply(at, &[Chunk::of(line.log, &records)], &mut parked)
            .await
            .map_err(|error| VerifyError::Fold(error.to_string()))?;
        at = last;
    }
    Ok(())
}
