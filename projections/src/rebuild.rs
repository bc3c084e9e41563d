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
mod switch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::layout::Log;
use broker::{EventLog, ReadError};
use domain::{Position, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use compare::{Difference, NotCompared, Unknown};
pub use job::{Phase, RebuildRow};

use crate::checkpoints::Place;
use crate::engine::copies;
use crate::generations::{self, Standing};
use crate::models;
use crate::projection::{Projection, source_of};
use crate::projectors::{Control, Logs};
use crate::read_models::ReadModels;
use build::{Build, Ends};
use carry::Carried;
use compare::Findings;
use job::{Cancelling, Job};

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
    /// Whether it goes on with the generation before the live one instead of a new one.
    #[serde(default)]
    pub back: bool,
}

impl Plan {
    /// All rows of these projections, from the beginning, to be switched to.
    pub fn of<N: Into<String>>(projections: impl IntoIterator<Item = N>) -> Self {
        Self {
            projections: projections.into_iter().map(Into::into).collect(),
            tenant: None,
            until: None,
            switch: true,
            back: false,
        }
    }
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
    /// What was not compared.
    pub not_compared: Vec<NotCompared>,
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
    /// It has ended before, in this process or another.
    #[error("the rebuild {0} is over")]
    Over(String),
    /// It was begun by a program whose fold makes other rows of the same records.
    #[error(
        "{projection} was begun by a program whose fold has version {began}, and this one's has version {this}: \
         ask for it again"
    )]
    OtherFold {
        /// Of which projection.
        projection: String,
        /// The version it was begun with.
        began: i64,
        /// This program's.
        this: i64,
    },
    /// The log has dropped records by their age that the live model has and the copy lacks.
    #[error(
        "{log} has dropped the records {from} to {} by their age, which {projection} has folded and the copy has not: \
         ask for it again, and what came of them is taken over",
        first - 1
    )]
    Aged {
        /// Of which projection.
        projection: String,
        /// Which log.
        log: String,
        /// The first record that the copy lacks.
        from: u64,
        /// The first record that the log still has.
        first: u64,
    },
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

/// How far behind the end of the log a copy may be when the switch begins, in records: the rest is folded in it.
const NEAR: u64 = 2_000;
/// How often a live model that is behind is looked at.
const AGAIN: Duration = Duration::from_millis(50);

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

    async fn work(
        &self,
        job: &Job,
        plan: &Plan,
        projections: &[Arc<dyn Projection>],
        stop: &CancellationToken,
    ) -> Result<Outcome, RebuildError> {
        let all = job.begin(projections).await?;
        let found = job.compared().await?.unwrap_or_default();
        let mut outcome = Outcome {
            generations: job.generations().await?,
            records: 0,
            differences: found.differences,
            not_compared: found.not_compared,
        };
        if job.phase().await? != Phase::Finishing {
            let members = self.unfinished(&all).await?;
            if !members.is_empty() {
                self.finish_rest(job, plan, &members, &mut outcome, stop).await?;
            }
        }
        for member in &all {
            if plan.until.is_some() {
                self.keep_for_inspection(member).await?;
            } else if plan.switch {
                switch::drop_older(self, member).await?;
            } else {
                switch::drop_built(self, member).await?;
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
        let tenant = plan.tenant.as_ref();
        let carried = self.carry(job, plan, members).await?;
        for member in members {
            carry::take_over(self, member, tenant, &carried).await?;
        }
        let build = Build::new(self, job, plan, members, stop);
        let (goals, after) = match plan.until {
            Some(until) => {
                let ends = ends::of(&self.logs, until).await?;
                (vec![ends; members.len()], Phase::Finishing)
            }
            None if plan.switch => (self.live_or_end(members).await?, Phase::CatchingUp),
            None => (self.live_or_end(members).await?, Phase::Finishing),
        };
        build.to(&goals).await?;
        // A run that was killed behind the comparison is past it: what it found still holds.
        if job.compared().await?.is_none() {
            job.enter(Phase::Indexing).await?;
            for member in members {
                self.finish(member).await?;
            }
            let mut findings = None;
            if plan.until.is_none() {
                job.enter(Phase::Comparing).await?;
                findings = Some(compare::run(self, &build, members, tenant, &carried).await?);
            }
            job.found(findings.as_ref(), after).await?;
            let Findings {
                differences,
                not_compared,
            } = findings.unwrap_or_default();
            (outcome.differences, outcome.not_compared) = (differences, not_compared);
        }
        if after == Phase::CatchingUp {
            self.switch_in(job, plan, &build, members).await?;
        }
        outcome.records = build.records();
        Ok(())
    }

    /// What the copies take over from the live models, which is decided once: before anything is built.
    async fn carry(&self, job: &Job, plan: &Plan, members: &[Member]) -> Result<Carried, RebuildError> {
        if let Some(carried) = job.carried().await? {
            return Ok(carried);
        }
        // What is gone back to has it, and a past position is not that of the live rows.
        let carried = if plan.back || plan.until.is_some() {
            Carried::default()
        } else {
            carry::find(self, members).await?
        };
        job.carry(&carried).await?;
        Ok(carried)
    }

    /// Those that this run has still to finish: one that was killed may have switched some.
    async fn unfinished(&self, members: &[Member]) -> Result<Vec<Member>, RebuildError> {
        let mut session = self.read_models.database.begin_beside().await?;
        let mut unfinished = Vec::with_capacity(members.len());
        for member in members {
            let projection = member.projection.as_ref();
            match generations::standing(&mut session, projection, member.generation).await? {
                Some(Standing::Building) => unfinished.push(member.clone()),
                Some(Standing::Live | Standing::Previous | Standing::Inspection) => {}
                None => {
                    let (name, generation) = (projection.name(), member.generation);
                    return Err(RebuildError::Refused(format!(
                        "generation {generation} of {name} was dropped meanwhile"
                    )));
                }
            }
        }
        Ok(unfinished)
    }

    /// Switches, once the copies have caught up and none of the projections is paused. What has begun to be switched is
    /// switched.
    async fn switch_in(
        &self,
        job: &Job,
        plan: &Plan,
        build: &Build<'_>,
        members: &[Member],
    ) -> Result<(), RebuildError> {
        if job.phase().await? != Phase::Switching {
            self.catch_up(plan, build, members).await?;
            while self.is_paused(members) {
                job.enter(Phase::Paused).await?;
                self.resumed(build, members).await?;
                job.enter(Phase::CatchingUp).await?;
                self.catch_up(plan, build, members).await?;
            }
            job.enter(Phase::Switching).await?;
        }
        for member in members {
            match &plan.tenant {
                None => switch::whole(self, build, member).await?,
                Some(tenant) => self.exchange(build, member, tenant).await?,
            }
        }
        Ok(())
    }

    /// Folds what has been stored meanwhile, but for what can be folded within the switch. One tenant's rows go up to
    /// where the live model stands, since they are exchanged there.
    async fn catch_up(&self, plan: &Plan, build: &Build<'_>, members: &[Member]) -> Result<(), RebuildError> {
        loop {
            let goals = match plan.tenant {
                Some(_) => self.live_or_end(members).await?,
                None => vec![self.ends().await?; members.len()],
            };
            if build.behind(&goals).await? <= NEAR {
                return Ok(());
            }
            build.to(&goals).await?;
        }
    }

    fn is_paused(&self, members: &[Member]) -> bool {
        let mut names = members.iter().map(|member| member.projection.name());
        names.any(|name| self.control.is_paused(name))
    }

    /// Waits until none of the projections is paused.
    async fn resumed(&self, build: &Build<'_>, members: &[Member]) -> Result<(), RebuildError> {
        let mut changes = self.control.changes();
        while self.is_paused(members) {
            tokio::select! {
                () = build.stopped() => return Err(RebuildError::Interrupted),
                // The control outlives this loop, so its sender does too.
                _ = changes.changed() => {}
            }
        }
        Ok(())
    }

    /// Exchanges a tenant's rows, as soon as the live model is not behind the copy.
    async fn exchange(
        &self,
        build: &Build<'_>,
        member: &Member,
        tenant: &TenantId,
    ) -> Result<(), RebuildError> {
        while !switch::tenant(self, build, member, tenant).await? {
            build.going_on()?;
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }

    /// Marks a copy that shows a past position.
    async fn keep_for_inspection(&self, member: &Member) -> Result<(), RebuildError> {
        let mut session = self.read_models.database.begin().await?;
        let projection = member.projection.as_ref();
        generations::stand(&mut session, projection, member.generation, Standing::Inspection).await?;
        Ok(session.commit().await?)
    }

    /// Drops what a run built that ends without having switched it; what was to be gone back to is left as it was found.
    /// Answers what the run has switched nevertheless.
    async fn undo(
        &self,
        job: &Job,
        plan: &Plan,
        projections: &[Arc<dyn Projection>],
    ) -> Result<Vec<&'static str>, RebuildError> {
        let mut switched = Vec::new();
        for member in job.members(projections).await? {
            if plan.back {
                switch::give_back(self, &member).await?;
            } else {
                switch::drop_built(self, &member).await?;
            }
            let mut session = self.read_models.database.begin_beside().await?;
            let projection = member.projection.as_ref();
            let standing = generations::standing(&mut session, projection, member.generation).await?;
            if standing == Some(Standing::Live) || (standing == Some(Standing::Inspection) && plan.switch) {
                switched.push(projection.name());
            }
        }
        Ok(switched)
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

    /// Where the live model of each member stands; where there is none, the ends of the logs.
    async fn live_or_end(&self, members: &[Member]) -> Result<Vec<Ends>, RebuildError> {
        let ends = self.ends().await?;
        let mut session = self.read_models.database.begin_beside().await?;
        let mut all = Vec::with_capacity(members.len());
        for member in members {
            let live = generations::live_sequences(&mut session, member.projection.as_ref()).await?;
            all.push(if live.is_empty() { ends.clone() } else { live });
        }
        Ok(all)
    }

    /// The ends of the logs.
    async fn ends(&self) -> Result<Ends, RebuildError> {
        let mut ends = Ends::new();
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
