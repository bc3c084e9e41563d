//! Replays: making read models again from the log, beside the live ones. Asked for by operators, carried out by whoever
//! runs projectors, and recorded in the log of the platform's own tenant.
//!
//! Rules:
//! * A replay is asked for once: which projections, for one tenant or all, up to where, and whether queries shall read
//!   what it builds. A copy that stands at a past position is for inspection and is never switched to.
//! * Going back to the generation of a projection's tables before the live one is a replay too: what came since is folded
//!   into it before queries read it. That is not cancelled: what it would drop is what queries read before.
//! * It ends once: completed, failed or cancelled. Cancelling is asked for, and has happened when the runner says so;
//!   what ends otherwise before that has ended so.

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::projection::{ProjectionName, Reason};
use crate::{Position, Root, TenantId, Timestamp};

/// The state of one replay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    requested: Option<Requested>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Requested {
    work: Work,
    cancelling: bool,
    end: Option<ReplayEnd>,
}

/// What a replay is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Make tables from the log.
    Rebuild(ReplayPlan),
    /// Let queries read again what they read before the last switch.
    RollBack(ProjectionName),
}

/// What is made, and from what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplayPlan {
    /// Which projections, each once; never empty.
    pub projections: Vec<ProjectionName>,
    /// Whose records alone; none: everyone's.
    pub tenant: Option<TenantId>,
    /// Up to where; none: to the head of the log.
    pub to: Option<Until>,
    /// Whether queries read what was built, once it is there. Otherwise it is compared with what they read.
    pub switch: bool,
}

/// Up to where a log is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// To this record, with it.
    Position(Position),
    /// To what was stored at this time, with it.
    Time(Timestamp),
}

/// That a live table was not a fold of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDifference {
    /// Whose table it is.
    pub projection: String,
    /// The table.
    pub table: String,
    /// How many rows it had.
    pub live: u64,
    /// How many the log gives.
    pub rebuilt: u64,
}

/// What could not be compared with the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Of which projection.
    pub projection: String,
    /// Which table; all of them where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Why not, as one word: `no_live_model`, `behind` or `aged`.
    pub reason: String,
}

/// What a comparison of live tables with the log said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// The live tables that said otherwise than the log, when both stood at the same position.
    pub differences: Vec<TableDifference>,
    /// What it says nothing about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_compared: Vec<LeftOut>,
}

/// How a replay ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayEnd {
    /// What was asked for is done; and how the live tables compared.
    Completed(Comparison),
    /// It cannot be done.
    Failed(Reason),
    /// It was given up, and what it had built is gone.
    Cancelled,
}

impl Replay {
    /// What it is to do; none if there is no such replay.
    pub fn work(&self) -> Option<&Work> {
        self.requested.as_ref().map(|requested| &requested.work)
    }

    /// Whether it is to be given up.
    pub fn is_cancelling(&self) -> bool {
        self.requested
            .as_ref()
            .is_some_and(|requested| requested.cancelling)
    }

    /// How it ended; none while it has not.
    pub fn end(&self) -> Option<&ReplayEnd> {
        self.requested.as_ref()?.end.as_ref()
    }
}

/// What can be asked of a replay.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplayCommand {
    /// Begin it; and why, where it is said.
    Request(Work, Option<Reason>),
    /// Give it up; and why, where it is said.
    Cancel(Option<Reason>),
    /// Say how it ended.
    End(ReplayEnd),
}

/// What has happened to a replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum ReplayEvent {
    /// It was asked for.
    #[serde(rename = "replay.requested")]
    Requested {
        /// What was.
        #[serde(flatten)]
        plan: ReplayPlan,
        /// Why, where it was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
    },
    /// It was asked for, to go back.
    #[serde(rename = "replay.rollback_requested")]
    RollbackRequested {
        /// Of which projection.
        projection: ProjectionName,
        /// Why, where it was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
    },
    /// It is to be given up.
    #[serde(rename = "replay.cancel_requested")]
    CancelRequested {
        /// Why, where it was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
    },
    /// It is done.
    #[serde(rename = "replay.completed")]
    Completed(Comparison),
    /// It cannot be done.
    #[serde(rename = "replay.failed")]
    Failed {
        /// Why not.
        reason: Reason,
    },
    /// It was given up, and what it had built is gone.
    #[serde(rename = "replay.cancelled")]
    Cancelled {},
}

domain_event!(ReplayEvent {
    Requested => ("replay.requested", 1),
    RollbackRequested => ("replay.rollback_requested", 1),
    CancelRequested => ("replay.cancel_requested", 1),
    Completed => ("replay.completed", 1),
    Failed => ("replay.failed", 1),
    Cancelled => ("replay.cancelled", 1),
});

/// Why a replay says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayRejection {
    /// There is one of this id.
    #[error("the replay was asked for already")]
    AlreadyRequested,
    /// There is none.
    #[error("there is no such replay")]
    NotFound,
    /// It has ended.
    #[error("the replay has ended")]
    Ended,
    /// It names no projection, or one twice.
    #[error("a replay is of at least one projection, each named once")]
    Projections,
    /// It goes back, which is done or not done.
    #[error("a rollback is not cancelled; roll back once more")]
    NotToBeCancelled,
    /// It would let queries read the past.
    #[error("a copy up to a past position is for inspection: it cannot be switched to")]
    NotToBeSwitched,
}

impl cqrs_es::Aggregate for Replay {
    const TYPE: &'static str = "replay";
    type Command = ReplayCommand;
    type Event = ReplayEvent;
    type Error = ReplayRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: ReplayCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), ReplayRejection> {
        if let Some(event) = self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ReplayEvent) {
        let end = match event {
            ReplayEvent::Requested { plan, .. } => return self.begin(Work::Rebuild(plan)),
            ReplayEvent::RollbackRequested { projection, .. } => {
                return self.begin(Work::RollBack(projection));
            }
            ReplayEvent::CancelRequested { .. } => {
                if let Some(requested) = &mut self.requested {
                    requested.cancelling = true;
                }
                return;
            }
            ReplayEvent::Completed(comparison) => ReplayEnd::Completed(comparison),
            ReplayEvent::Failed { reason } => ReplayEnd::Failed(reason),
            ReplayEvent::Cancelled {} => ReplayEnd::Cancelled,
        };
        if let Some(requested) = &mut self.requested {
            requested.end = Some(end);
        }
    }
}

impl Replay {
    fn begin(&mut self, work: Work) {
        self.requested = Some(Requested {
            work,
            cancelling: false,
            end: None,
        });
    }

    fn decide(&self, command: ReplayCommand) -> Result<Option<ReplayEvent>, ReplayRejection> {
        let event = match (command, &self.requested) {
            (ReplayCommand::Request(..), Some(_)) => return Err(ReplayRejection::AlreadyRequested),
            (ReplayCommand::Request(Work::Rebuild(plan), reason), None) => {
                plan.check()?;
                ReplayEvent::Requested { plan, reason }
            }
            (ReplayCommand::Request(Work::RollBack(projection), reason), None) => {
                ReplayEvent::RollbackRequested { projection, reason }
            }
            (_, None) => return Err(ReplayRejection::NotFound),
            (_, Some(requested)) if requested.end.is_some() => return Err(ReplayRejection::Ended),
            (ReplayCommand::Cancel(_), Some(requested)) if requested.cancelling => return Ok(None),
            (ReplayCommand::Cancel(_), Some(requested)) if matches!(requested.work, Work::RollBack(_)) => {
                return Err(ReplayRejection::NotToBeCancelled);
            }
            (ReplayCommand::Cancel(reason), Some(_)) => ReplayEvent::CancelRequested { reason },
            (ReplayCommand::End(ReplayEnd::Completed(comparison)), Some(_)) => {
                ReplayEvent::Completed(comparison)
            }
            (ReplayCommand::End(ReplayEnd::Failed(reason)), Some(_)) => ReplayEvent::Failed { reason },
            (ReplayCommand::End(ReplayEnd::Cancelled), Some(_)) => ReplayEvent::Cancelled {},
        };
        Ok(Some(event))
    }
}

impl ReplayPlan {
    fn check(&self) -> Result<(), ReplayRejection> {
        let mut names: Vec<_> = self.projections.iter().collect();
        names.sort();
        names.dedup();
        if names.is_empty() || names.len() != self.projections.len() {
            return Err(ReplayRejection::Projections);
        }
        if self.switch && self.to.is_some() {
            return Err(ReplayRejection::NotToBeSwitched);
        }
        Ok(())
    }
}

impl Root for Replay {
    fn creates(command: &ReplayCommand) -> bool {
        matches!(command, ReplayCommand::Request(..))
    }
}

#[cfg(test)]
mod tests;
