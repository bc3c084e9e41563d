//! Making read models again from the log, beside the live ones, while those serve.
//!
//! A run builds a new generation of each projection's tables at bulk speed up to where the live one stands, gives it
//! its indexes, compares the two at one and the same position, goes on to the end of the log, and switches: in one
//! transaction per projection the new generation becomes the live one and the old one its predecessor, which a
//! rollback brings back. Each step is written down with the rows it is about, so that a run goes on after a kill where
//! it stood, in this process or another. Nothing but tables is touched: what has once gone out does not go out again.
//!
//! With a tenant, only its rows are made and exchanged. With an end, the copy stays at that past position and is never
//! switched.

mod build;
mod compare;
mod ends;
mod job;
mod switch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::layout::Log;
use broker::{EventLog, ReadError};
use domain::{Position, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use compare::Difference;
pub use job::{Phase, RebuildRow};

use crate::checkpoints::Place;
use crate::engine::copies;
use crate::generations::{self, Standing};
use crate::models;
use crate::projection::{Projection, source_of};
use crate::projectors::{Control, Logs};
use crate::read_models::ReadModels;
use build::Build;
use job::Job;

/// Up to where a copy for inspection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// This record of its log, and of other logs what was stored by then.
    Position(Position),
    /// What was stored by then.
    Time(Timestamp),
}

/// What to rebuild.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The projections, by their names; they are built together, in one pass over the logs.
    pub projections: Vec<String>,
    /// Only this tenant's rows.
    pub tenant: Option<TenantId>,
    /// A copy as of then, for inspection.
    pub until: Option<Until>,
    /// Whether to switch; otherwise the copy is compared and dropped.
    pub switch: bool,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The generation of each projection.
    pub generations: BTreeMap<String, i64>,
    /// Records gone past, of all logs.
    pub records: u64,
    /// What the live models said otherwise; none where there was nothing to compare with.
    pub differences: Option<Vec<Difference>>,
}

/// Why a run ended without one.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The plan cannot be carried out.
    #[error("{0}")]
    Refused(String),
    /// It was asked to stop; run again under the same id, it goes on.
    #[error("the rebuild was interrupted; it goes on when it is run again")]
    Interrupted,
    /// It was cancelled, and what it had built is gone.
    #[error("the rebuild was cancelled")]
    Cancelled,
    /// Another process works at it.
    #[error("another process works at this rebuild")]
    Taken,
    /// The log failed; run again, the rebuild goes on.
    #[error("the log cannot be read")]
    Log(#[from] ReadError),
    /// Records are missing in the log.
    #[error(
        "record {found} follows {last} in the log {log}: records are missing, and the log must be restored first"
    )]
    Gap {
        /// Which log.
        log: String,
        /// The record before the gap.
        last: u64,
        /// The record after it.
        found: u64,
    },
    /// The database failed; run again, the rebuild goes on.
    #[error("the read database failed: {0}")]
    Database(#[from] sqlx::Error),
}

impl RebuildError {
    /// Whether running it again can help.
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Log(_) | Self::Database(_) | Self::Interrupted | Self::Taken
        )
    }
}

/// Rebuilds read models.
#[derive(Debug, Clone)]
pub struct Rebuild {
    read_models: ReadModels,
    logs: Logs,
    control: Control,
    lease: Duration,
}

/// How long a process keeps a run without telling that it lives.
const LEASE: Duration = Duration::from_secs(15);

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

/// How far behind the end of the log a copy may be when the switch begins, in records: the rest is folded in it.
const NEAR: u64 = 2_000;

impl Rebuild {
    /// Rebuilds from these logs; what `control` says is to be passed over is passed over here too.
    pub fn new(read_models: ReadModels, logs: Logs, control: Control) -> Self {
        Self {
            read_models,
            logs,
            control,
            lease: LEASE,
        }
    }

    /// With another time after which a run whose process is no longer heard of is another's; 15 seconds otherwise.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
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
        let result = self.work(&job, plan, &projections, &keeping.stop).await;
        let cancelled = keeping.cancelled() || (result.is_err() && job.is_cancelled().await?);
        drop(keeping);
        match result {
            Ok(outcome) => {
                job.end(Phase::Done, None).await?;
                Ok(outcome)
            }
            Err(_) if cancelled => {
                self.drop_built(&job.members(&projections).await?).await?;
                job.forsake().await?;
                Err(RebuildError::Cancelled)
            }
            Err(error) => {
                if error.passes() {
                    job.let_go().await?;
                } else {
                    self.drop_built(&job.members(&projections).await?).await?;
                    job.end(Phase::Failed, Some(error.to_string())).await?;
                }
                Err(error)
            }
        }
    }

    async fn work(
        &self,
        job: &Job,
        plan: &Plan,
        projections: &[Arc<dyn Projection>],
        stop: &CancellationToken,
    ) -> Result<Outcome, RebuildError> {
        let all = job.begin(projections).await?;
        let members = self.unfinished(&all).await?;
        let mut outcome = Outcome {
            generations: job.generations().await?,
            records: 0,
            differences: job.compared().await?.flatten(),
        };
        if !members.is_empty() {
            self.finish_rest(job, plan, &members, &mut outcome, stop).await?;
        }
        if plan.until.is_none() && plan.switch {
            for member in &all {
                switch::drop_older(self, member).await?;
            }
        }
        Ok(outcome)
    }

    /// Takes those that are still being built through all the steps.
    async fn finish_rest(
        &self,
        job: &Job,
        plan: &Plan,
        members: &[Member],
        outcome: &mut Outcome,
        stop: &CancellationToken,
    ) -> Result<(), RebuildError> {
        let ends = match plan.until {
            Some(until) => Some(ends::of(&self.logs, until).await?),
            None => None,
        };
        let build = Build::new(self, job, plan, members, stop);
        build
            .to(&ends.clone().map_or(self.live_or_end(members).await?, |ends| ends))
            .await?;
        // A run that was killed behind the comparison is past it: what it found still holds.
        if job.compared().await?.is_none() {
            job.enter(Phase::Indexing).await?;
            for member in members {
                self.finish(member).await?;
            }
            if ends.is_none() {
                job.enter(Phase::Comparing).await?;
                outcome.differences = compare::run(self, &build, members, plan.tenant.as_ref()).await?;
                job.found(outcome.differences.as_deref()).await?;
            }
        }
        if ends.is_some() {
            self.stand(members, Standing::Inspection).await?;
        } else if plan.switch {
            self.switch_in(job, plan, &build, members).await?;
        } else {
            self.drop_built(members).await?;
        }
        outcome.records = build.records();
        Ok(())
    }

    /// Those that this run has still to finish: one that was killed may have switched some.
    async fn unfinished(&self, members: &[Member]) -> Result<Vec<Member>, RebuildError> {
        let mut session = self.read_models.database.begin_beside().await?;
        let mut unfinished = Vec::with_capacity(members.len());
        for member in members {
            let projection = member.projection.as_ref();
            let standing = generations::standing(&mut session, projection, member.generation).await?;
            if standing == Some(Standing::Building) {
                unfinished.push(member.clone());
            }
        }
        Ok(unfinished)
    }

    async fn switch_in(
        &self,
        job: &Job,
        plan: &Plan,
        build: &Build<'_>,
        members: &[Member],
    ) -> Result<(), RebuildError> {
        job.enter(Phase::CatchingUp).await?;
        while build.behind(&self.ends().await?).await? > NEAR {
            build.to(&self.ends().await?).await?;
        }
        job.enter(Phase::Switching).await?;
        for member in members {
            match &plan.tenant {
                None => switch::whole(self, build, member).await?,
                Some(tenant) => switch::tenant(self, build, member, tenant).await?,
            }
        }
        Ok(())
    }

    /// Drops what a run built that has ended without a switch, or was cancelled, or a generation nobody needs.
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
        let plan = Plan {
            projections: vec![projection.name().to_owned()],
            tenant: None,
            until: None,
            switch: true,
        };
        let mut session = self.read_models.database.begin().await?;
        let previous = generations::previous(&mut session, projection.as_ref()).await?;
        let Some(generation) = previous else {
            let name = projection.name();
            return Err(RebuildError::Refused(format!(
                "{name} has no generation before the live one"
            )));
        };
        Job::adopt(&mut session, id, &plan, projection.as_ref(), generation).await?;
        session.commit().await?;
        self.run(id, &plan, stop).await
    }

    /// Asks the run of this id to end, wherever it runs; what it has built is dropped.
    pub async fn cancel(&self, id: &str) -> Result<(), RebuildError> {
        let plan = Job::cancel(&self.read_models, id).await?;
        // Whoever works at it drops what it built; where nobody does, it is done here.
        let Some((plan, generations)) = plan else {
            return Ok(());
        };
        for projection in named(&plan)? {
            if let Some(generation) = generations.get(projection.name()) {
                self.drop_generation(projection.name(), *generation).await?;
            }
        }
        Ok(())
    }

    /// Where the live models stand, per log; where there is none, the end of the log.
    async fn live_or_end(&self, members: &[Member]) -> Result<BTreeMap<Log, u64>, RebuildError> {
        let mut ends = self.ends().await?;
        let mut session = self.read_models.database.begin_beside().await?;
        for member in members {
            let live = generations::live_sequences(&mut session, member.projection.as_ref()).await?;
            for (log, sequence) in live {
                let end = ends.entry(log).or_insert(sequence);
                *end = (*end).min(sequence);
            }
        }
        Ok(ends)
    }

    /// The ends of the logs.
    async fn ends(&self) -> Result<BTreeMap<Log, u64>, RebuildError> {
        let mut ends = BTreeMap::new();
        for (log, port) in &self.logs {
            ends.insert(*log, port.state().await?.last);
        }
        Ok(ends)
    }

    fn port(&self, log: Log) -> Option<&Arc<dyn EventLog>> {
        self.logs
            .iter()
            .find(|(known, _)| *known == log)
            .map(|(_, port)| port)
    }

    /// Gives a copy its indexes and protection.
    async fn finish(&self, member: &Member) -> Result<(), RebuildError> {
        for table in member.projection.tables() {
            let mut session = self.read_models.database.begin().await?;
            copies::finish(&mut session, table, member.generation).await?;
            session.commit().await?;
        }
        Ok(())
    }

    async fn stand(&self, members: &[Member], standing: Standing) -> Result<(), RebuildError> {
        for member in members {
            let mut session = self.read_models.database.begin().await?;
            let projection = member.projection.as_ref();
            generations::stand(&mut session, projection, member.generation, standing).await?;
            session.commit().await?;
        }
        Ok(())
    }

    async fn drop_built(&self, members: &[Member]) -> Result<(), RebuildError> {
        for member in members {
            switch::drop_one(self, member).await?;
        }
        Ok(())
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
