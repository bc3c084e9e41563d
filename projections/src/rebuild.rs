//! Making read models again from the log, beside the live ones, while those serve.
//!
//! A run builds a new generation of each projection's tables at bulk speed up to where the live one stands, gives it
//! its indexes, compares the two at one and the same position, goes on to the end of the log, and switches: in one
//! transaction per projection the new generation becomes the live one and the old one its predecessor, which a
//! rollback brings back. Each step is written down with the rows it is about, so that a run goes on after a kill where
//! it stood, in this process or another. Nothing but tables is touched: what has once gone out does not go out again.
//!
//! With a tenant, only its rows are made and exchanged. With an end, the copy stays at that past position and is never
//! switched. What a log has forgotten by its age is taken over from the live model (`carry`), never lost. While one of
//! its projections is paused, a run does everything but the switch.

mod build;
mod carry;
mod compare;
mod ends;
mod job;
mod plan;
mod steps;
mod switch;

use std::sync::Arc;
use std::time::Duration;

use broker::EventLog;
use broker::layout::Log;
use tokio_util::sync::CancellationToken;

pub use compare::{Difference, NotCompared, Unknown};
pub use job::{Phase, RebuildRow};
pub use plan::{Outcome, Plan, RebuildError, Until};

use crate::checkpoints::Place;
use crate::generations::{self, Standing};
use crate::models;
use crate::projection::{Projection, source_of};
use crate::projectors::{Control, Logs};
use crate::read_models::ReadModels;
use job::{Cancelling, Job};

/// Rebuilds read models.
#[derive(Debug, Clone)]
pub struct Rebuild {
    read_models: ReadModels,
    logs: Logs,
    control: Control,
    lease: Duration,
    patience: Duration,
}

/// How long a process keeps a run without telling that it lives.
const LEASE: Duration = Duration::from_secs(15);
/// How long a comparison waits for a live model that stands behind the copy.
const PATIENCE: Duration = Duration::from_secs(10);

/// A projection in a run, and the generation it fills.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) projection: Arc<dyn Projection>,
    pub(crate) generation: i64,
}

impl Member {
    pub(crate) fn place(&self, log: Log, standing: Standing) -> Place<'_> {
        Place {
            projection: self.projection.as_ref(),
            generation: self.generation,
            log,
            standing,
        }
    }

    pub(crate) fn follows(&self, log: Log) -> bool {
        self.projection.sources().contains(&source_of(log).0)
    }
}

impl Rebuild {
    /// Rebuilds from these logs; what `control` says is to be passed over is passed over here too.
    pub fn new(read_models: ReadModels, logs: Logs, control: Control) -> Self {
        Self {
            read_models,
            logs,
            control,
            lease: LEASE,
            patience: PATIENCE,
        }
    }

    /// With another time after which a run whose process is no longer heard of is another's; 15 seconds otherwise.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// With another time for which a comparison waits for a live model that stands behind the copy; 10 seconds otherwise.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Begins a run under an id, or goes on with it; answers when it has ended.
    pub async fn run(
        &self,
        id: &str,
        plan: &Plan,
        stop: &CancellationToken,
    ) -> Result<Outcome, RebuildError> {
        let projections = named(plan)?;
        let job = Job::take(&self.read_models, self.lease, id, plan).await?;
        let keeping = job.keep(stop);
        self.read_models.database.favour_bulk(true).await;
        let result = self.work(&job, plan, &projections, &keeping.stop).await;
        self.read_models.database.favour_bulk(false).await;
        let cancelled = keeping.cancelled() || (result.is_err() && job.is_cancelled().await?);
        drop(keeping);
        match result {
            Ok(outcome) => {
                job.end(Phase::Done, None).await?;
                Ok(outcome)
            }
            Err(_) if cancelled => {
                self.undo(&job, plan, &projections).await?;
                job.forsake().await?;
                Err(RebuildError::Cancelled)
            }
            Err(error) => {
                if error.passes() {
                    job.let_go().await?;
                } else {
                    let done = self.undo(&job, plan, &projections).await?;
                    let mut told = error.to_string();
                    if !done.is_empty() {
                        told = format!("{told} (switched before: {})", done.join(", "));
                    }
                    job.end(Phase::Failed, Some(told)).await?;
                }
                Err(error)
            }
        }
    }

    /// Drops a generation that is not needed: one that queries of this program do not read and no run fills.
    pub async fn drop_generation(&self, projection: &str, generation: i64) -> Result<(), RebuildError> {
        let projection = known(projection)?;
        let member = Member {
            projection,
            generation,
        };
        switch::drop_one(self, &member).await
    }

    /// Makes the generation before the live one live again, once it has caught up.
    pub async fn roll_back(
        &self,
        id: &str,
        projection: &str,
        stop: &CancellationToken,
    ) -> Result<Outcome, RebuildError> {
        let projection = known(projection)?;
        let name = projection.name();
        let plan = Plan {
            back: true,
            ..Plan::of([name])
        };
        let mut session = self.read_models.database.begin().await?;
        generations::alone(&mut session, name).await?;
        // Another process may have adopted the generation under this id, and even have switched to it.
        if !Job::is_known(&mut session, id).await? {
            if self.control.is_paused(name) {
                return Err(RebuildError::Refused(format!(
                    "{name} is paused: resume it first"
                )));
            }
            let previous = generations::previous(&mut session, projection.as_ref()).await?;
            let Some(generation) = previous else {
                return Err(RebuildError::Refused(format!(
                    "{name} has no generation before the live one"
                )));
            };
            Job::adopt(&mut session, id, &plan, projection.as_ref(), generation).await?;
        }
        session.commit().await?;
        self.run(id, &plan, stop).await
    }

    fn port(&self, log: Log) -> Option<&Arc<dyn EventLog>> {
        self.logs
            .iter()
            .find(|(known, _)| *known == log)
            .map(|(_, port)| port)
    }

    /// Asks the run of this id to end, wherever it runs; what it has built is dropped. `false` where it is too late:
    /// what has begun to be switched is brought to its end.
    pub async fn cancel(&self, id: &str) -> Result<bool, RebuildError> {
        match Job::cancel(&self.read_models, id).await? {
            Cancelling::TooLate => Ok(false),
            // Whoever works at it drops what it built; where nobody does, it is done here.
            Cancelling::Done => Ok(true),
            Cancelling::Abandoned(plan, generations) => {
                for projection in named(&plan)? {
                    if let Some(generation) = generations.get(projection.name()).copied() {
                        let member = Member {
                            projection,
                            generation,
                        };
                        switch::drop_built(self, &member).await?;
                    }
                }
                Ok(true)
            }
        }
    }
}

/// The projection of a name.
fn known(name: &str) -> Result<Arc<dyn Projection>, RebuildError> {
    let all = models::all();
    let names = || {
        let names = models::all();
        let names: Vec<_> = names
            .iter()
            .filter(|known| !known.lasting())
            .map(|known| known.name())
            .collect();
        names.join(", ")
    };
    match all.into_iter().find(|known| known.name() == name) {
        Some(known) if known.lasting() => Err(RebuildError::Refused(format!(
            "{name} is a check on the log, not a view of it, and is never made again; there are {}",
            names()
        ))),
        Some(known) => Ok(known),
        None => Err(RebuildError::Refused(format!(
            "there is no projection {name}; there are {}",
            names()
        ))),
    }
}

fn named(plan: &Plan) -> Result<Vec<Arc<dyn Projection>>, RebuildError> {
    if plan.projections.is_empty() {
        return Err(RebuildError::Refused("no projection is named".to_owned()));
    }
    plan.projections.iter().map(|name| known(name)).collect()
}
