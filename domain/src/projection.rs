//! What operators decide about a projection. The aggregate's id is the projection's name, and it lives in the log of
//! the platform's own tenant: so a decision is audited by itself, survives restarts, and reaches every process.
//!
//! Rules:
//! * A projection can be paused and resumed, as often as wanted; what is so already changes nothing.
//! * A record that it cannot fold can be skipped, for a reason, and only one of a named tenant at a named position.
//!   A skipped record is skipped for ever, by replays too; at most [`MAX_SKIPPED`] of one projection.
//! * Tables are changed by whoever runs projectors, not by whoever decides. That a generation of its tables be dropped is
//!   therefore asked for, one at a time, and ended by what came of it.

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::{Position, Root, TenantId, Text, Timestamp};

mod name;

pub use name::{InvalidProjectionName, ProjectionName};

/// Why an operator decided so.
pub type Reason = Text<500>;

/// The most records that can be skipped in one projection: whoever needs more needs another program.
pub const MAX_SKIPPED: usize = 1_000;

/// What has been decided about one projection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    paused: Option<Paused>,
    skipped: Vec<Skipped>,
    dropping: Option<u64>,
}

/// That a projection stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Why, where it was said.
    pub reason: Option<Reason>,
    /// Since when.
    pub at: Timestamp,
}

/// A record that is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Whose it is.
    pub tenant: TenantId,
    /// Where it stands.
    pub position: Position,
    /// Why.
    pub reason: Reason,
    /// When this was decided.
    pub at: Timestamp,
}

impl Projection {
    /// Whether it stands still, and why.
    pub fn paused(&self) -> Option<&Paused> {
        self.paused.as_ref()
    }

    /// The records it passes over, in the order of the decisions.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The generation of its tables that is to be dropped, and has not been yet.
    pub fn dropping(&self) -> Option<u64> {
        self.dropping
    }
}

/// What can be asked of a projection.
#[derive(Debug, Clone, PartialEq)]
pub enum ProjectionCommand {
    /// Let it stand still.
    Pause(Paused),
    /// Let it go on; and why, where it is said.
    Resume(Option<Reason>),
    /// Pass over a record.
    SkipEvent(Skipped),
    /// Drop a generation of its tables.
    Drop {
        /// Which.
        generation: u64,
        /// Why, where it is said.
        reason: Option<Reason>,
    },
    /// Say that it is gone.
    Dropped {
        /// Which.
        generation: u64,
    },
    /// Say that it cannot be dropped.
    DropFailed {
        /// Which.
        generation: u64,
        /// Why not.
        reason: Reason,
    },
}

/// What has happened to a projection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum ProjectionEvent {
    /// It stands still.
    #[serde(rename = "projection.paused")]
    Paused(Paused),
    /// It goes on.
    #[serde(rename = "projection.resumed")]
    Resumed {
        /// Why, where it was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
    },
    /// A record is passed over.
    #[serde(rename = "projection.event_skipped")]
    EventSkipped(Skipped),
    /// A generation is to be removed.
    #[serde(rename = "projection.drop_requested")]
    DropRequested {
        /// Which.
        generation: u64,
        /// Why, where it was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
    },
    /// It is gone.
    #[serde(rename = "projection.generation_dropped")]
    GenerationDropped {
        /// Which.
        generation: u64,
    },
    /// It cannot be removed.
    #[serde(rename = "projection.drop_failed")]
    DropFailed {
        /// Which.
        generation: u64,
        /// Why not.
        reason: Reason,
    },
}

domain_event!(ProjectionEvent {
    Paused => ("projection.paused", 1),
    Resumed => ("projection.resumed", 1),
    EventSkipped => ("projection.event_skipped", 1),
    DropRequested => ("projection.drop_requested", 1),
    GenerationDropped => ("projection.generation_dropped", 1),
    DropFailed => ("projection.drop_failed", 1),
});

/// Why a projection says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProjectionRejection {
    /// All that can be skipped is.
    #[error("at most {MAX_SKIPPED} records of a projection can be skipped")]
    TooManySkipped,
    /// Another generation is being dropped.
    #[error("another generation of it is being dropped at this moment")]
    Dropping,
    /// What is said to be done was not asked for.
    #[error("this was not asked for, or is done already")]
    NotAskedFor,
}

impl cqrs_es::Aggregate for Projection {
    const TYPE: &'static str = "projection";
    type Command = ProjectionCommand;
    type Event = ProjectionEvent;
    type Error = ProjectionRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: ProjectionCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), ProjectionRejection> {
        if let Some(event) = self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ProjectionEvent) {
        match event {
            ProjectionEvent::Paused(paused) => self.paused = Some(paused),
            ProjectionEvent::Resumed { .. } => self.paused = None,
            ProjectionEvent::EventSkipped(skipped) => self.skipped.push(skipped),
            ProjectionEvent::DropRequested { generation, .. } => self.dropping = Some(generation),
            ProjectionEvent::GenerationDropped { .. } | ProjectionEvent::DropFailed { .. } => {
                self.dropping = None;
            }
        }
    }
}

impl Projection {
    fn decide(&self, command: ProjectionCommand) -> Result<Option<ProjectionEvent>, ProjectionRejection> {
        let event = match command {
            ProjectionCommand::Pause(_) if self.paused.is_some() => return Ok(None),
            ProjectionCommand::Pause(paused) => ProjectionEvent::Paused(paused),
            ProjectionCommand::Resume(_) if self.paused.is_none() => return Ok(None),
            ProjectionCommand::Resume(reason) => ProjectionEvent::Resumed { reason },
            ProjectionCommand::SkipEvent(skip) => {
                let same = |known: &Skipped| (&known.tenant, known.position) == (&skip.tenant, skip.position);
                if self.skipped.iter().any(same) {
                    return Ok(None);
                }
                if self.skipped.len() >= MAX_SKIPPED {
                    return Err(ProjectionRejection::TooManySkipped);
                }
                ProjectionEvent::EventSkipped(skip)
            }
            ProjectionCommand::Drop { generation, reason } => match self.dropping {
                Some(pending) if pending == generation => return Ok(None),
                Some(_) => return Err(ProjectionRejection::Dropping),
                None => ProjectionEvent::DropRequested { generation, reason },
            },
            ProjectionCommand::Dropped { generation } if self.dropping == Some(generation) => {
                ProjectionEvent::GenerationDropped { generation }
            }
            ProjectionCommand::DropFailed { generation, reason } if self.dropping == Some(generation) => {
                ProjectionEvent::DropFailed { generation, reason }
            }
            ProjectionCommand::Dropped { .. } | ProjectionCommand::DropFailed { .. } => {
                return Err(ProjectionRejection::NotAskedFor);
            }
        };
        Ok(Some(event))
    }
}

impl Root for Projection {}

#[cfg(test)]
mod tests;
