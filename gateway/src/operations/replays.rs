//! Replays, one at a time in the order they were asked for. Any process with projectors may take one; who has it holds
//! a lease in the read database, and another goes on where it was killed.
//!
//! A replay folds records into tables and does nothing else: no delivery, no message, no fact but the replay's own.

use std::collections::BTreeSet;

use domain::projection::Reason;
use domain::replay::{
    Comparison, LeftOut, Replay, ReplayCommand, ReplayEnd, ReplayPlan, TableDifference, Until, Work,
};
use projections::rebuild::{self, Difference, NotCompared, Phase, Plan, RebuildError, RebuildRow};
use projections::{QueryError, Standing};
use tokio::sync::mpsc;

use super::Desk;
use super::facts::{self, Fact};

/// Works at the replays that were asked for.
pub(super) struct Replays {
    desk: Desk,
    facts: mpsc::Receiver<Fact>,
    /// Those that have not ended; their ids are in the order of their making.
    open: BTreeSet<String>,
}

/// Why a replay has not come to its end.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error(transparent)]
    Load(#[from] commands::LoadError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    #[error("another process works at it")]
    Elsewhere,
}

impl Replays {
    /// From the first replay there ever was.
    pub(super) fn new(desk: Desk) -> Self {
        let facts = facts::follow::<Replay>(desk.log.clone(), 0, desk.stop.clone());
        Self {
            desk,
            facts,
            open: BTreeSet::new(),
        }
    }

    /// Works until stopped.
    pub(super) async fn run(mut self) {
        loop {
            let Some(id) = self.open.first().cloned() else {
                let Some(fact) = self.facts.recv().await else {
                    return;
                };
                self.note(fact, None).await;
                continue;
            };
            // A task of its own: what is noted meanwhile must not hold up a run that holds the database.
            let mut working = tokio::spawn({
                let (desk, id) = (self.desk.clone(), id.clone());
                async move { desk.bring_to_its_end(&id).await }
            });
            loop {
                tokio::select! {
                    ended = &mut working => {
                        if let Err(error) = ended {
                            tracing::error!(replay = id, %error, "A replay ended by a fault of the program.");
                            self.desk.pause().await;
                        } else {
                            self.open.remove(&id);
                        }
                        break;
                    }
                    Some(fact) = self.facts.recv() => self.note(fact, Some(&id)).await,
                }
            }
            if self.desk.stop.is_cancelled() {
                return;
            }
        }
    }

    /// Looks at a replay to which something has happened, while another may be worked at.
    async fn note(&mut self, fact: Fact, at_work: Option<&str>) {
        let replay = loop {
            match self.desk.load::<Replay>(&fact.id, fact.sequence).await {
                Ok(loaded) => break loaded.aggregate,
                Err(error) => {
                    tracing::warn!(replay = fact.id, %error, "A replay's history cannot be read yet.");
                }
            }
            if !self.desk.pause().await {
                return;
            }
        };
        if replay.end().is_some() {
            // What is being worked at takes note of its end itself.
            if at_work != Some(&fact.id) {
                self.open.remove(&fact.id);
            }
            return;
        }
        if replay.is_cancelling() {
            self.cancel(&fact.id, at_work).await;
        }
        self.open.insert(fact.id);
    }

    /// What waits ends at once; what is worked at ends as soon as its run sees it.
    async fn cancel(&self, id: &str, at_work: Option<&str>) {
        let cancelled = self.desk.rebuild.cancel(id).await;
        if let Err(error) = cancelled {
            // Its turn comes, and finds that it is to be cancelled.
            tracing::warn!(replay = id, %error, "A replay could not be cancelled at once.");
        } else if at_work != Some(id) {
            match self.desk.attempt(id).await {
                Ok(Some(end)) => {
                    self.desk.say_end(id, end).await;
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(replay = id, %error, "A cancelled replay has not ended yet."),
            }
        }
    }
}

impl Desk {
    /// Works at a replay until the log says how it ended, or the process stops.
    async fn bring_to_its_end(&self, id: &str) {
        tracing::info!(replay = id, "A replay begins, or goes on.");
        loop {
            match self.attempt(id).await {
                Ok(None) => return,
                Ok(Some(end)) => {
                    if self.say_end(id, end).await {
                        return;
                    }
                }
                Err(_) if self.stop.is_cancelled() => return,
                Err(NotYet::Elsewhere) => {}
                Err(error) => {
                    tracing::warn!(replay = id, %error, "A replay was interrupted; it is tried again.");
                }
            }
            if !self.pause().await {
                return;
            }
        }
    }

    async fn say_end(&self, id: &str, end: ReplayEnd) -> bool {
        let command = match &end {
            ReplayEnd::Completed(_) => "CompleteReplay",
            ReplayEnd::Failed(_) => "FailReplay",
            ReplayEnd::Cancelled => "EndCancelledReplay",
        };
        tracing::info!(replay = id, ?end, "A replay has ended.");
        self.say::<Replay>(id, command, ReplayCommand::End(end)).await
    }

    /// Works at a replay; answers how it ended, or none where the log says so already.
    async fn attempt(&self, id: &str) -> Result<Option<ReplayEnd>, NotYet> {
        let replay = self.load::<Replay>(id, 0).await?.aggregate;
        let Some(work) = replay.work().filter(|_| replay.end().is_none()) else {
            return Ok(None);
        };
        let begun = self.read_models.rebuild(id).await?;
        if let Some(row) = begun.as_ref().filter(|row| row.phase.is_over()) {
            return self.ended(row).await.map(Some);
        }
        // What has begun to be switched is brought to its end.
        if replay.is_cancelling() && self.rebuild.cancel(id).await? {
            return match self.read_models.rebuild(id).await? {
                Some(row) => self.ended(&row).await.map(Some),
                None => Ok(Some(ReplayEnd::Cancelled)),
            };
        }
        let outcome = match (begun, work) {
            (Some(row), _) => self.rebuild.run(id, &row.plan, &self.stop).await,
            (None, Work::Rebuild(asked)) => self.rebuild.run(id, &plan(asked), &self.stop).await,
            (None, Work::RollBack(name)) => self.rebuild.roll_back(id, name.as_str(), &self.stop).await,
        };
        match outcome {
            Ok(outcome) => Ok(Some(completed(
                outcome.differences.as_deref(),
                &outcome.not_compared,
            ))),
            Err(RebuildError::Cancelled) => Ok(Some(ReplayEnd::Cancelled)),
            // Where another process was quicker, the run's row says how it ended.
            Err(RebuildError::Taken | RebuildError::Over(_)) => Err(NotYet::Elsewhere),
            Err(error) if error.passes() => Err(error.into()),
            Err(error) => Ok(Some(ReplayEnd::Failed(Reason::fitting(&error.to_string())))),
        }
    }

    /// How a run ended, as its row says.
    async fn ended(&self, row: &RebuildRow) -> Result<ReplayEnd, NotYet> {
        match row.phase {
            Phase::Done => Ok(completed(
                row.differences.as_deref(),
                row.not_compared.as_deref().unwrap_or_default(),
            )),
            Phase::Failed => {
                let error = row.error.as_deref().unwrap_or("it failed");
                Ok(ReplayEnd::Failed(Reason::fitting(error)))
            }
            // Whoever worked at it drops what it has built, unless it was killed before.
            Phase::Cancelled if row.running => Err(NotYet::Elsewhere),
            Phase::Cancelled => {
                self.drop_rest(row).await?;
                Ok(ReplayEnd::Cancelled)
            }
            _ => Err(NotYet::Elsewhere),
        }
    }

    async fn drop_rest(&self, row: &RebuildRow) -> Result<(), NotYet> {
        let all = self.read_models.generations().await?;
        for built in all.iter().filter(|known| known.standing == Standing::Building) {
            if row.generations.get(&built.projection) == Some(&built.generation) {
                let name = built.projection.as_str();
                self.rebuild.drop_generation(name, built.generation).await?;
            }
        }
        Ok(())
    }
}

fn plan(asked: &ReplayPlan) -> Plan {
    Plan {
        tenant: asked.tenant.clone(),
        until: asked.to.map(|to| match to {
            Until::Position(position) => rebuild::Until::Position(position),
            Until::Time(time) => rebuild::Until::Time(time),
        }),
        switch: asked.switch,
        ..Plan::of(asked.projections.iter().map(ToString::to_string))
    }
}

fn completed(differences: Option<&[Difference]>, not_compared: &[NotCompared]) -> ReplayEnd {
    let found = differences.unwrap_or_default().iter();
    let found = found.map(|difference| TableDifference {
        projection: difference.projection.clone(),
        table: difference.table.clone(),
        live: difference.live,
        rebuilt: difference.rebuilt,
    });
    let left_out = not_compared.iter().map(|left_out| LeftOut {
        projection: left_out.projection.clone(),
        table: left_out.table.clone(),
        reason: left_out.reason.as_str().to_owned(),
    });
    ReplayEnd::Completed(Comparison {
        differences: found.collect(),
        not_compared: left_out.collect(),
    })
}
