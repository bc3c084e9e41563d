//! The steps of a run, from the first record to the switch. Each begins with what the rows say is done already.

use std::sync::Arc;
use std::time::Duration;

use domain::TenantId;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::build::{Build, Ends};
use super::carry::Carried;
use super::compare::Findings;
use super::job::Job;
use super::{Member, Outcome, Phase, Plan, Rebuild, RebuildError, carry, compare, ends, switch};
use crate::engine::{Kind, copies};
use crate::generations::{self, Standing};
use crate::projection::Projection;
use crate::table::Table;

/// How far behind the end of the log a copy may be when the switch begins, in records: the rest is folded in it.
const NEAR: u64 = 2_000;
/// How often a live model that is behind is looked at.
pub(super) const AGAIN: Duration = Duration::from_millis(50);

/// How many tables are made ready for queries at once: SQLite has one writer, for which the others would only wait.
const fn tables_at_once(kind: Kind) -> usize {
    match kind {
        Kind::Postgres => 2,
        Kind::Sqlite => 1,
    }
}

impl Rebuild {
    /// Takes a run from where it stands to its end.
    pub(super) async fn work(
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
        build.patiently_to(&goals).await?;
        // A run that was killed behind the comparison is past it: what it found still holds.
        if job.compared().await?.is_none() {
            job.enter(Phase::Indexing).await?;
            self.finish(members).await?;
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
    pub(super) async fn undo(
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

    /// Makes the copies ready for queries, a few tables at once: where the database makes an index with one processor,
    /// others are free.
    async fn finish(&self, members: &[Member]) -> Result<(), RebuildError> {
        let tables = members.iter().flat_map(|member| {
            let tables = member.projection.tables().iter();
            tables.map(move |table| (*table, member.generation))
        });
        let finished: Vec<_> = tables
            .map(|(table, generation)| self.finish_table(table, generation).boxed())
            .collect();
        stream::iter(finished)
            .buffer_unordered(tables_at_once(self.read_models.database.kind))
            .try_collect()
            .await
    }

    /// Gives one table of a copy its indexes and protection.
    async fn finish_table(&self, table: &'static Table, generation: i64) -> Result<(), RebuildError> {
        let mut session = self.read_models.database.begin().await?;
        copies::finish(&mut session, table, generation).await?;
        Ok(session.commit().await?)
    }
}
