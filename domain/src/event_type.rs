//! Registered event types: what a tenant says its messages of a type look like.
//!
//! Rules:
//! * A type is registered under its name with a JSON Schema, version 1; each further schema is the next version, and
//!   the latest is what messages are checked with. A type has at most [`MAX_VERSIONS`].
//! * A type can be deprecated, which only tells people; its messages are still taken.
//! * A retired type counts as unregistered. It can be registered again, and its versions go on counting.
//!
//! The aggregate's id is derived from the name, so that a name is one type without any claim on it.

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::{EventType, Root, Text};

mod schema;

pub use schema::{Dialect, InvalidSchema, Schema};

/// What people say about a type.
pub type Description = Text<500>;

/// The most versions a type can have.
pub const MAX_VERSIONS: u32 = 1_000;

/// The state of one event type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EventTypeRegistration {
    state: State,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
enum State {
    #[default]
    Absent,
    Registered(Registered),
    Retired {
        /// The number of its last version.
        version: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Registered {
    version: u32,
    schema: Schema,
    description: Option<Description>,
    deprecated: bool,
}

impl EventTypeRegistration {
    /// The number of the latest version and its schema, while the type is registered.
    pub fn latest(&self) -> Option<(u32, &Schema)> {
        match &self.state {
            State::Registered(known) => Some((known.version, &known.schema)),
            State::Absent | State::Retired { .. } => None,
        }
    }

    /// The number of the last version there ever was; 0: none.
    pub fn last_version(&self) -> u32 {
        match &self.state {
            State::Absent => 0,
            State::Registered(known) => known.version,
            State::Retired { version } => *version,
        }
    }
}

/// What can be asked of an event type.
#[derive(Debug, Clone, PartialEq)]
pub enum EventTypeCommand {
    /// Make the type known, or known again.
    Register {
        /// Its name.
        name: EventType,
        /// What people say about it.
        description: Option<Description>,
        /// What its messages look like.
        schema: Schema,
    },
    /// Give it another schema from now on.
    AddVersion {
        /// The number this version is to have: the one after the latest. Naming it tells its sender which it became.
        number: u32,
        /// What its messages look like from now on.
        schema: Schema,
    },
    /// Change what is given, leave what is not.
    Describe {
        /// The new description; `Some(None)` takes it away.
        description: Option<Option<Description>>,
        /// Whether people should go over to another type.
        deprecated: Option<bool>,
    },
    /// Make it count as unregistered.
    Retire,
}

/// What has happened to an event type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum EventTypeEvent {
    /// It became known.
    #[serde(rename = "event_type.registered")]
    Registered {
        /// Its name.
        name: EventType,
        /// What people say about it.
        description: Option<Description>,
        /// The number of its version: 1, unless it was retired before.
        version: u32,
        /// What its messages look like.
        schema: Schema,
    },
    /// It has another schema.
    #[serde(rename = "event_type.version_added")]
    VersionAdded {
        /// The number of the version.
        version: u32,
        /// What its messages look like.
        schema: Schema,
    },
    /// People say something else about it.
    #[serde(rename = "event_type.described")]
    Described {
        /// What they said.
        from: Option<Description>,
        /// What they say.
        to: Option<Description>,
    },
    /// People should go over to another type.
    #[serde(rename = "event_type.deprecated")]
    Deprecated {},
    /// It is of use after all.
    #[serde(rename = "event_type.reinstated")]
    Reinstated {},
    /// It counts as unregistered.
    #[serde(rename = "event_type.retired")]
    Retired {},
}

domain_event!(EventTypeEvent {
    Registered => ("event_type.registered", 1),
    VersionAdded => ("event_type.version_added", 1),
    Described => ("event_type.described", 1),
    Deprecated => ("event_type.deprecated", 1),
    Reinstated => ("event_type.reinstated", 1),
    Retired => ("event_type.retired", 1),
});

/// Why an event type says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventTypeRejection {
    /// It is registered.
    #[error("this event type is registered already; add a version to it")]
    AlreadyRegistered,
    /// There is none of this name.
    #[error("there is no such event type")]
    NotFound,
    /// Another version was added meanwhile.
    #[error("the next version of this event type has another number")]
    OtherNumber,
    /// It has all the versions it can have.
    #[error("an event type can have at most {MAX_VERSIONS} versions")]
    TooManyVersions,
}

impl cqrs_es::Aggregate for EventTypeRegistration {
    const TYPE: &'static str = "event_type";
    type Command = EventTypeCommand;
    type Event = EventTypeEvent;
    type Error = EventTypeRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: EventTypeCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), EventTypeRejection> {
        let events = match (&self.state, command) {
            (State::Registered(known), command) => decide(known, command)?,
            (
                _,
                EventTypeCommand::Register {
                    name,
                    description,
                    schema,
                },
            ) => vec![EventTypeEvent::Registered {
                name,
                description,
                version: next(self.last_version())?,
                schema,
            }],
            (State::Absent | State::Retired { .. }, _) => return Err(EventTypeRejection::NotFound),
        };
        for event in events {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: EventTypeEvent) {
        match (event, &mut self.state) {
            (
                EventTypeEvent::Registered {
                    description,
                    version,
                    schema,
                    ..
                },
                state,
            ) => {
                *state = State::Registered(Registered {
                    version,
                    schema,
                    description,
                    deprecated: false,
                });
            }
            (EventTypeEvent::VersionAdded { version, schema }, State::Registered(known)) => {
                known.version = version;
                known.schema = schema;
            }
            (EventTypeEvent::Described { to, .. }, State::Registered(known)) => known.description = to,
            (EventTypeEvent::Deprecated {}, State::Registered(known)) => known.deprecated = true,
            (EventTypeEvent::Reinstated {}, State::Registered(known)) => known.deprecated = false,
            (EventTypeEvent::Retired {}, State::Registered(known)) => {
                self.state = State::Retired {
                    version: known.version,
                };
            }
            (_, State::Absent | State::Retired { .. }) => {}
        }
    }
}

/// What a registered type makes of a command; nothing where it is so already.
fn decide(known: &Registered, command: EventTypeCommand) -> Result<Vec<EventTypeEvent>, EventTypeRejection> {
    Ok(match command {
        EventTypeCommand::Register { .. } => return Err(EventTypeRejection::AlreadyRegistered),
        EventTypeCommand::AddVersion { schema, .. } if schema == known.schema => Vec::new(),
        EventTypeCommand::AddVersion { number, schema } => {
            let version = next(known.version)?;
            if number != version {
                return Err(EventTypeRejection::OtherNumber);
            }
            vec![EventTypeEvent::VersionAdded { version, schema }]
        }
        EventTypeCommand::Describe {
            description,
            deprecated,
        } => {
            let described = description.filter(|to| *to != known.description);
            let described = described.map(|to| EventTypeEvent::Described {
                from: known.description.clone(),
                to,
            });
            let judged = deprecated.filter(|to| *to != known.deprecated);
            let judged = judged.map(|deprecated| {
                if deprecated {
                    EventTypeEvent::Deprecated {}
                } else {
                    EventTypeEvent::Reinstated {}
                }
            });
            described.into_iter().chain(judged).collect()
        }
        EventTypeCommand::Retire => vec![EventTypeEvent::Retired {}],
    })
}

/// The number after this one.
fn next(version: u32) -> Result<u32, EventTypeRejection> {
    if version < MAX_VERSIONS {
        Ok(version + 1)
    } else {
        Err(EventTypeRejection::TooManyVersions)
    }
}

impl Root for EventTypeRegistration {}

#[cfg(test)]
mod tests;
