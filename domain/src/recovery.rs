//! Recoveries: delivering past messages to an endpoint that did not get them. Asked for by the tenant, carried out by
//! the delivery side, and told of in the log.
//!
//! Rules:
//! * A recovery is asked for once: for which endpoint, of which time, which messages, and how fast. It covers what was
//!   published up to its making, whatever comes later.
//! * It can be paused and resumed for as long as it has not ended. It ends once: completed, cancelled or failed.
//! * How far it is is told now and then, and exactly when it stands still; a figure only ever grows. What is told late,
//!   or again, changes nothing.

use std::time::Duration;

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::endpoint::{EventTypeFilter, MAX_LIST, Rate};
use crate::{EndpointId, Root, Text, Timestamp};

/// Why a recovery cannot be done.
pub type Reason = Text<200>;

/// Which messages of the time are delivered, by what became of them at the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// Those that never arrived, and of which nothing is under way: with a dead letter, or without any delivery.
    Missing,
    /// Those that were given up: dead letters, and discarded ones.
    Failed,
    /// All of which nothing is under way, also what has arrived.
    All,
}

/// What a recovery is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryPlan {
    /// To whom.
    pub endpoint: EndpointId,
    /// What was published at this time or later.
    pub since: Timestamp,
    /// What was published before this time.
    pub until: Timestamp,
    /// Of which types, among those that the endpoint wants; empty: of all those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<EventTypeFilter>,
    /// Which of them.
    pub only: Only,
    /// How many become due in a second; as fast as they are found, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// How far a recovery is. Its messages are found by going through the tenant's messages in their log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How many messages were looked at.
    pub scanned: u64,
    /// How many of them are to be delivered.
    pub matched: u64,
    /// How many of those were put into the queue.
    pub enqueued: u64,
    /// After which sequence of the log of messages it began.
    pub from: u64,
    /// Up to which sequence it has come.
    pub at: u64,
    /// At which sequence it ends.
    pub to: u64,
    /// When it began to be carried out.
    pub began_at: Timestamp,
    /// When this was so.
    pub told_at: Timestamp,
}

impl Progress {
    /// How long the rest will take if it goes on as it went so far; none while nothing can be said.
    pub fn rest(&self) -> Option<Duration> {
        let (done, rest) = (self.at.saturating_sub(self.from), self.to.saturating_sub(self.at));
        let taken = self.told_at.as_millis().saturating_sub(self.began_at.as_millis());
        let taken = u64::try_from(taken).ok()?;
        let millis = u128::from(taken) * u128::from(rest) / u128::from(done).max(1);
        (done > 0).then(|| Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }

    fn is_beyond(&self, other: &Self) -> bool {
        (self.at, self.enqueued) > (other.at, other.enqueued)
    }
}

/// How a recovery ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryEnd {
    /// Everything that was to be delivered is in the queue.
    Completed,
    /// It was given up; what was put into the queue before is delivered.
    Cancelled,
    /// It cannot be done.
    Failed(Reason),
}

/// The state of one recovery.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    requested: Option<Requested>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Requested {
    plan: RecoveryPlan,
    paused: bool,
    progress: Progress,
    end: Option<RecoveryEnd>,
}

impl Recovery {
    /// What it is to do; none if there is no such recovery.
    pub fn plan(&self) -> Option<&RecoveryPlan> {
        self.requested.as_ref().map(|requested| &requested.plan)
    }

    /// Whether it stands still until it is resumed.
    pub fn is_paused(&self) -> bool {
        self.requested.as_ref().is_some_and(|requested| requested.paused)
    }

    /// How far it was when that was last told.
    pub fn progress(&self) -> Progress {
        let requested = self.requested.as_ref();
        requested.map(|requested| requested.progress).unwrap_or_default()
    }

    /// Takes in what has happened to it.
    pub fn take(&mut self, event: RecoveryEvent) {
        cqrs_es::Aggregate::apply(self, event);
    }

    /// How it ended; none while it has not.
    pub fn end(&self) -> Option<&RecoveryEnd> {
        self.requested.as_ref()?.end.as_ref()
    }
}

/// What can be asked of a recovery.
#[derive(Debug, Clone, PartialEq)]
pub enum RecoveryCommand {
    /// Begin it.
    Request(RecoveryPlan),
    /// Let it stand still.
    Pause,
    /// Let it go on.
    Resume,
    /// Give it up.
    Cancel,
    /// Say how far it is.
    Report(Progress),
    /// Say that it is done.
    Complete(Progress),
    /// Say that it cannot be done.
    Fail {
        /// Why not.
        reason: Reason,
        /// How far it came.
        progress: Progress,
    },
}

/// What has happened to a recovery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum RecoveryEvent {
    /// It was asked for.
    #[serde(rename = "recovery.requested")]
    Requested(RecoveryPlan),
    /// It stands still.
    #[serde(rename = "recovery.paused")]
    Paused {},
    /// It goes on.
    #[serde(rename = "recovery.resumed")]
    Resumed {},
    /// It was given up.
    #[serde(rename = "recovery.cancelled")]
    Cancelled {},
    /// It has come so far.
    #[serde(rename = "recovery.progressed")]
    Progressed(Progress),
    /// It is done.
    #[serde(rename = "recovery.completed")]
    Completed(Progress),
    /// It cannot be done.
    #[serde(rename = "recovery.failed")]
    Failed {
        /// Why not.
        reason: Reason,
        /// How far it came.
        progress: Progress,
    },
}

domain_event!(RecoveryEvent {
    Requested => ("recovery.requested", 1),
    Paused => ("recovery.paused", 1),
    Resumed => ("recovery.resumed", 1),
    Cancelled => ("recovery.cancelled", 1),
    Progressed => ("recovery.progressed", 1),
    Completed => ("recovery.completed", 1),
    Failed => ("recovery.failed", 1),
});

/// Why a recovery says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryRejection {
    /// There is one of this id.
    #[error("the recovery was asked for already")]
    AlreadyRequested,
    /// There is none.
    #[error("there is no such recovery")]
    NotFound,
    /// It has ended.
    #[error("the recovery has ended")]
    Ended,
    /// Its time ends before it begins.
    #[error("must be later than `since`")]
    NoTime,
    /// It names too many types.
    #[error("a list may hold at most {MAX_LIST} entries")]
    ListTooLong,
}

impl cqrs_es::Aggregate for Recovery {
    const TYPE: &'static str = "recovery";
    type Command = RecoveryCommand;
    type Event = RecoveryEvent;
    type Error = RecoveryRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: RecoveryCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), RecoveryRejection> {
        let event = match (command, &self.requested) {
            (RecoveryCommand::Request(_), Some(_)) => return Err(RecoveryRejection::AlreadyRequested),
            (RecoveryCommand::Request(plan), None) => Some(RecoveryEvent::Requested(checked(plan)?)),
            (_, None) => return Err(RecoveryRejection::NotFound),
            (command, Some(requested)) => requested.decide(command)?,
        };
        if let Some(event) = event {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: RecoveryEvent) {
        if let RecoveryEvent::Requested(plan) = event {
            self.requested = Some(Requested {
                plan,
                paused: false,
                progress: Progress::default(),
                end: None,
            });
        } else if let Some(requested) = &mut self.requested {
            requested.apply(event);
        }
    }
}

impl Requested {
    fn decide(&self, command: RecoveryCommand) -> Result<Option<RecoveryEvent>, RecoveryRejection> {
        Ok(match command {
            RecoveryCommand::Request(_) => return Err(RecoveryRejection::AlreadyRequested),
            // How far it came is told of one that was cancelled, too.
            RecoveryCommand::Report(progress) => progress
                .is_beyond(&self.progress)
                .then_some(RecoveryEvent::Progressed(progress)),
            RecoveryCommand::Complete(_) | RecoveryCommand::Fail { .. } if self.end.is_some() => None,
            RecoveryCommand::Complete(progress) => Some(RecoveryEvent::Completed(progress)),
            RecoveryCommand::Fail { reason, progress } => Some(RecoveryEvent::Failed { reason, progress }),
            _ if self.end.is_some() => return Err(RecoveryRejection::Ended),
            RecoveryCommand::Pause => (!self.paused).then_some(RecoveryEvent::Paused {}),
            RecoveryCommand::Resume => self.paused.then_some(RecoveryEvent::Resumed {}),
            RecoveryCommand::Cancel => Some(RecoveryEvent::Cancelled {}),
        })
    }

    fn apply(&mut self, event: RecoveryEvent) {
        match event {
            RecoveryEvent::Requested(_) => {}
            RecoveryEvent::Paused {} => self.paused = true,
            RecoveryEvent::Resumed {} => self.paused = false,
            RecoveryEvent::Cancelled {} => self.end = Some(RecoveryEnd::Cancelled),
            RecoveryEvent::Progressed(progress) => self.progress = progress,
            RecoveryEvent::Completed(progress) => {
                (self.progress, self.end) = (progress, Some(RecoveryEnd::Completed));
            }
            RecoveryEvent::Failed { reason, progress } => {
                (self.progress, self.end) = (progress, Some(RecoveryEnd::Failed(reason)));
            }
        }
    }
}

fn checked(plan: RecoveryPlan) -> Result<RecoveryPlan, RecoveryRejection> {
    if plan.until <= plan.since {
        return Err(RecoveryRejection::NoTime);
    }
    if plan.event_types.len() > MAX_LIST {
        return Err(RecoveryRejection::ListTooLong);
    }
    Ok(plan)
}

impl Root for Recovery {
    /// The delivery side tells them how far they are, and has no snapshots.
    const SNAPSHOTS: bool = false;

    fn creates(command: &RecoveryCommand) -> bool {
        matches!(command, RecoveryCommand::Request(_))
    }
}

#[cfg(test)]
mod tests;
