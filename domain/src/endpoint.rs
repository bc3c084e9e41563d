//! Webhook endpoints: where a tenant's messages go.
//!
//! Rules:
//! * An endpoint has an `http` or `https` URL and at least one event type it wants; everything else is its policy, of
//!   which every part has a default.
//! * While disabled or after its removal it gets nothing new; a removed endpoint never comes back.
//! * Its secret can be rotated: the new one signs from now on, the one before beside it for an overlap, and one still
//!   older no longer.
//! * What its policy keeps secret only has names here; names that a change replaces are remembered, so that what they
//!   stand for can be erased.
//! * Dead letters can be redriven while it is enabled, since they would only die again otherwise, deliveries asked for
//!   again while it exists, and dead letters discarded even afterwards; this is said here as a fact, and the delivery
//!   side acts on it.

use std::time::Duration;

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::settings::OverlapHours;
use crate::{DeliveryId, MessageRef, Root, SecretId, Text, Timestamp};

mod automatic;
mod condition;
mod dead_letters;
mod filter;
mod pointer;
pub mod policy;
mod secrets;
mod target;

pub use automatic::Automatic;
pub use condition::{Condition, ContentFilter, InvalidCondition, Limit, Test};
pub use dead_letters::{Matching, Rate, Selection};
pub use filter::{EventTypeFilter, InvalidFilter};
pub use pointer::{InvalidPointer, JsonPointer};
pub use policy::{InvalidPolicy, Policy, PolicyChange};
pub use secrets::Secrets;
pub use target::{InvalidHost, InvalidUrl, TargetUrl};

/// What people call an endpoint.
pub type Description = Text<500>;
/// Why an endpoint was disabled.
pub type Reason = Text<200>;

/// The most event types an endpoint can name, and the most deliveries one request can.
pub const MAX_LIST: usize = 1_000;

/// What an endpoint is set to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointSettings {
    /// Where messages are posted.
    pub url: TargetUrl,
    /// Which messages it wants: at least one filter.
    pub event_types: Vec<EventTypeFilter>,
    /// What people call it.
    pub description: Option<Description>,
    /// How it wants them.
    #[serde(flatten)]
    pub policy: Box<Policy>,
}

impl EndpointSettings {
    /// Refuses what no endpoint can be set to.
    pub fn check(&self) -> Result<(), EndpointRejection> {
        match self.event_types.len() {
            0 => return Err(EndpointRejection::NoEventTypes),
            1..=MAX_LIST => {}
            _ => return Err(EndpointRejection::ListTooLong),
        }
        self.policy.check(&self.url).map_err(EndpointRejection::Policy)
    }
}

/// What of an endpoint's settings is to be another; what is not given stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EndpointChange {
    /// The new URL.
    pub url: Option<TargetUrl>,
    /// All filters from now on.
    pub event_types: Option<Vec<EventTypeFilter>>,
    /// The new description; `Some(None)` takes it away.
    pub description: Option<Option<Description>>,
    /// What of the policy is to be another.
    pub policy: Box<PolicyChange>,
}

impl EndpointChange {
    fn apply_to(self, settings: &EndpointSettings) -> EndpointSettings {
        EndpointSettings {
            url: self.url.unwrap_or_else(|| settings.url.clone()),
            event_types: self.event_types.unwrap_or_else(|| settings.event_types.clone()),
            description: self.description.unwrap_or_else(|| settings.description.clone()),
            policy: Box::new(self.policy.apply_to((*settings.policy).clone())),
        }
    }
}

/// The state of one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    state: State,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
enum State {
    #[default]
    Absent,
    Present {
        settings: EndpointSettings,
        enabled: bool,
        secrets: Secrets,
    },
    Removed {
        secrets: Secrets,
    },
}

impl Endpoint {
    /// Its settings, while it exists.
    pub fn settings(&self) -> Option<&EndpointSettings> {
        match &self.state {
            State::Present { settings, .. } => Some(settings),
            State::Absent | State::Removed { .. } => None,
        }
    }

    /// Whether it gets messages.
    pub fn is_enabled(&self) -> bool {
        matches!(self.state, State::Present { enabled: true, .. })
    }

    /// The names of its secrets, also after it was removed.
    pub fn secrets(&self) -> Option<&Secrets> {
        match &self.state {
            State::Present { secrets, .. } | State::Removed { secrets } => Some(secrets),
            State::Absent => None,
        }
    }
}

/// What can be asked of an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum EndpointCommand {
    /// Bring it into being, enabled.
    Create(EndpointSettings),
    /// Change some of its settings.
    Change(EndpointChange),
    /// Send it nothing from now on.
    Disable {
        /// Why.
        reason: Reason,
    },
    /// The same, decided by Tidings itself.
    DisableItself(Automatic),
    /// Send it messages again, from now on.
    Enable,
    /// Sign with another secret from now on.
    RotateSecret {
        /// The new one's name; it is kept already.
        secret: SecretId,
        /// When this is asked.
        at: Timestamp,
        /// How long the present one signs beside it.
        overlap: OverlapHours,
    },
    /// Take it away for ever.
    Remove,
    /// Put dead letters back into the queue.
    Redrive {
        /// Which.
        selection: Selection,
        /// How fast; all at once, unless given.
        rate: Option<Rate>,
    },
    /// Give dead letters up for good.
    Discard(Selection),
    /// Deliver a message once more, whatever became of it before.
    Resend {
        /// Which delivery.
        delivery: DeliveryId,
        /// The message it carries.
        message: MessageRef,
    },
}

/// What has happened to an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum EndpointEvent {
    /// It came into being, enabled.
    #[serde(rename = "endpoint.created")]
    Created {
        /// What it was set to.
        settings: EndpointSettings,
    },
    /// Its settings changed.
    #[serde(rename = "endpoint.changed")]
    Changed {
        /// The old settings.
        from: EndpointSettings,
        /// The new settings.
        to: EndpointSettings,
    },
    /// It gets nothing from now on.
    #[serde(rename = "endpoint.disabled")]
    Disabled {
        /// Why.
        reason: Reason,
        /// Why Tidings itself did it; none where somebody asked for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        automatic: Option<Automatic>,
    },
    /// It gets messages again.
    #[serde(rename = "endpoint.enabled")]
    Enabled {},
    /// Another secret signs from now on.
    #[serde(rename = "endpoint.secret_rotated")]
    SecretRotated {
        /// Its name.
        secret: SecretId,
        /// Until when the one before it signs too.
        previous_valid_until: Timestamp,
    },
    /// It is gone for ever.
    #[serde(rename = "endpoint.removed")]
    Removed {},
    /// Its dead letters shall go back into the queue.
    #[serde(rename = "endpoint.redrive_requested")]
    RedriveRequested {
        /// Which.
        selection: Selection,
        /// How fast; all at once, unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rate: Option<Rate>,
    },
    /// Its dead letters shall be given up.
    #[serde(rename = "endpoint.discard_requested")]
    DiscardRequested {
        /// Which.
        selection: Selection,
    },
    /// A message shall be delivered to it once more.
    #[serde(rename = "endpoint.resend_requested")]
    ResendRequested {
        /// Which delivery.
        delivery: DeliveryId,
        /// The message it carries.
        message: MessageRef,
    },
}

domain_event!(EndpointEvent {
    Created => ("endpoint.created", 2, since 1),
    Changed => ("endpoint.changed", 2, since 1),
    Disabled => ("endpoint.disabled", 2, since 1),
    Enabled => ("endpoint.enabled", 1),
    SecretRotated => ("endpoint.secret_rotated", 1),
    Removed => ("endpoint.removed", 1),
    RedriveRequested => ("endpoint.redrive_requested", 2, since 1),
    DiscardRequested => ("endpoint.discard_requested", 2, since 1),
    ResendRequested => ("endpoint.resend_requested", 1),
});

/// Why an endpoint says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointRejection {
    /// There is an endpoint of this id.
    #[error("the endpoint exists already")]
    AlreadyCreated,
    /// There is none, or no longer.
    #[error("there is no such endpoint")]
    NotFound,
    /// It gets nothing while it is disabled.
    #[error("the endpoint is disabled; enable it first")]
    Disabled,
    /// It names no event type.
    #[error("an endpoint needs at least one event type; `*` means all")]
    NoEventTypes,
    /// No receiver can have its URL.
    #[error("{0}")]
    Url(InvalidHost),
    /// Its policy asks for what cannot be.
    #[error("{0}")]
    Policy(InvalidPolicy),
    /// A list in the command is too long.
    #[error("a list may hold at most {MAX_LIST} entries")]
    ListTooLong,
}

impl cqrs_es::Aggregate for Endpoint {
    const TYPE: &'static str = "endpoint";
    type Command = EndpointCommand;
    type Event = EndpointEvent;
    type Error = EndpointRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: EndpointCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), EndpointRejection> {
        let event = match (&self.state, command) {
            (State::Absent, EndpointCommand::Create(settings)) => {
                settings.url.check_host().map_err(EndpointRejection::Url)?;
                settings.check()?;
                Some(EndpointEvent::Created { settings })
            }
            (_, EndpointCommand::Create(_)) => return Err(EndpointRejection::AlreadyCreated),
            // What it left behind can still be cleared away.
            (State::Removed { .. }, EndpointCommand::Discard(selection)) => {
                Some(EndpointEvent::DiscardRequested {
                    selection: selection.bounded()?,
                })
            }
            (State::Absent | State::Removed { .. }, _) => return Err(EndpointRejection::NotFound),
            (
                State::Present {
                    settings,
                    enabled,
                    secrets,
                },
                command,
            ) => match command {
                EndpointCommand::RotateSecret { secret, at, overlap } => rotate(secrets, secret, at, overlap),
                command => decide(settings, *enabled, command)?,
            },
        };
        if let Some(event) = event {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: EndpointEvent) {
        match (event, &mut self.state) {
            (EndpointEvent::Created { settings }, state) => {
                *state = State::Present {
                    settings,
                    enabled: true,
                    secrets: Secrets::default(),
                }
            }
            (EndpointEvent::Removed {}, state) => {
                let secrets = match state {
                    State::Present {
                        secrets, settings, ..
                    } => {
                        let mut secrets = std::mem::take(secrets);
                        secrets.release(settings.policy.secrets());
                        secrets
                    }
                    State::Removed { secrets } => std::mem::take(secrets),
                    State::Absent => Secrets::default(),
                };
                *state = State::Removed { secrets };
            }
            (
                EndpointEvent::SecretRotated {
                    secret,
                    previous_valid_until,
                },
                State::Present { secrets, .. },
            ) => secrets.rotate(secret, previous_valid_until),
            (
                EndpointEvent::Changed { to, .. },
                State::Present {
                    settings, secrets, ..
                },
            ) => {
                let kept = |name: &&SecretId| to.policy.secrets().any(|other| other == *name);
                secrets.release(settings.policy.secrets().filter(|name| !kept(name)));
                *settings = to;
            }
            (EndpointEvent::Disabled { .. }, State::Present { enabled, .. }) => *enabled = false,
            (EndpointEvent::Enabled {}, State::Present { enabled, .. }) => *enabled = true,
            // Requests are for the delivery side; they change nothing the endpoint decides by.
            _ => {}
        }
    }
}

/// What an existing endpoint makes of a command; nothing where it is so already.
fn decide(
    settings: &EndpointSettings,
    enabled: bool,
    command: EndpointCommand,
) -> Result<Option<EndpointEvent>, EndpointRejection> {
    Ok(match command {
        EndpointCommand::Create(_) => return Err(EndpointRejection::AlreadyCreated),
        EndpointCommand::RotateSecret { .. } => None,
        EndpointCommand::Change(change) => {
            if let Some(url) = change.url.as_ref().filter(|url| **url != settings.url) {
                url.check_host().map_err(EndpointRejection::Url)?;
            }
            let to = change.apply_to(settings);
            to.check()?;
            (to != *settings).then(|| EndpointEvent::Changed {
                from: settings.clone(),
                to,
            })
        }
        EndpointCommand::Disable { reason } => enabled.then_some(EndpointEvent::Disabled {
            reason,
            automatic: None,
        }),
        EndpointCommand::DisableItself(why) => enabled.then(|| EndpointEvent::Disabled {
            reason: why.reason(),
            automatic: Some(why),
        }),
        EndpointCommand::Enable => (!enabled).then_some(EndpointEvent::Enabled {}),
        EndpointCommand::Remove => Some(EndpointEvent::Removed {}),
        EndpointCommand::Redrive { .. } if !enabled => return Err(EndpointRejection::Disabled),
        EndpointCommand::Redrive { selection, rate } => Some(EndpointEvent::RedriveRequested {
            selection: selection.bounded()?,
            rate,
        }),
        EndpointCommand::Discard(selection) => Some(EndpointEvent::DiscardRequested {
            selection: selection.bounded()?,
        }),
        EndpointCommand::Resend { delivery, message } => {
            Some(EndpointEvent::ResendRequested { delivery, message })
        }
    })
}

/// What becomes of a rotation; nothing where the secret signs already, as when the command is repeated.
fn rotate(secrets: &Secrets, to: SecretId, at: Timestamp, overlap: OverlapHours) -> Option<EndpointEvent> {
    let overlap = Duration::from_secs(u64::from(overlap.get()) * 60 * 60);
    (secrets.current() != Some(&to)).then(|| EndpointEvent::SecretRotated {
        secret: to,
        previous_valid_until: at.saturating_add(overlap),
    })
}

impl Root for Endpoint {
    const FOLD: u32 = 3;
}

#[cfg(test)]
mod tests;
