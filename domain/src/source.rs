//! Sources: other systems whose webhooks a tenant receives and publishes as its own messages.
//!
//! Rules:
//! * How a source's requests prove themselves is settled when it is created: another way is another source, whose
//!   address its sender must be given anyway.
//! * While disabled, or after its removal, nothing of it is taken; a removed source never comes back.
//! * Its secret can be rotated: the new one counts from now on, the one before beside it for an overlap, and one still
//!   older no longer.

use std::time::Duration;

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::api_key::RateLimit;
use crate::endpoint::{Reason, Secrets};
use crate::settings::OverlapHours;
use crate::{Bounded, Root, SecretId, Text, Timestamp};

mod rule;
mod verification;

pub use rule::{EventTypeRule, NoEventType, text_at};
pub use verification::{
    Ed25519Scheme, Encoding, Hash, Header, HmacScheme, InvalidHeader, InvalidPrefix, KeyForm, Prefix,
    Verification,
};

/// What people call a source.
pub type SourceName = Text<100>;

/// How many seconds the time that a request names may be off: up to half of the day for which requests are recognised
/// when they come again.
pub type ToleranceSeconds = Bounded<1, 43_200>;

/// How a source is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSettings {
    /// What people call it.
    pub name: SourceName,
    /// How its requests prove themselves.
    pub verification: Verification,
    /// Of which type its messages are.
    pub event_type: EventTypeRule,
    /// How far the time of a request may be off, where its scheme has one.
    pub tolerance_seconds: ToleranceSeconds,
    /// How many requests are taken; none: as many as come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

impl SourceSettings {
    /// What the Standard Webhooks specification and most senders recommend.
    pub const TOLERANCE: ToleranceSeconds = ToleranceSeconds::fixed::<300>();
}

/// What of a source's settings is to be another; what is not given stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceChange {
    /// The new name.
    pub name: Option<SourceName>,
    /// Of which type its messages are from now on.
    pub event_type: Option<EventTypeRule>,
    /// The new tolerance.
    pub tolerance_seconds: Option<ToleranceSeconds>,
    /// The new limit; `Some(None)` takes it away.
    pub rate_limit: Option<Option<RateLimit>>,
}

impl SourceChange {
    fn apply_to(self, settings: &SourceSettings) -> SourceSettings {
        SourceSettings {
            name: self.name.unwrap_or_else(|| settings.name.clone()),
            verification: settings.verification.clone(),
            event_type: self.event_type.unwrap_or_else(|| settings.event_type.clone()),
            tolerance_seconds: self.tolerance_seconds.unwrap_or(settings.tolerance_seconds),
            rate_limit: self.rate_limit.unwrap_or(settings.rate_limit),
        }
    }
}

/// The state of one source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    state: State,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
enum State {
    #[default]
    Absent,
    Present {
        settings: SourceSettings,
        enabled: bool,
        secrets: Secrets,
    },
    Removed {
        secrets: Secrets,
    },
}

impl Source {
    /// Its settings, while it exists.
    pub fn settings(&self) -> Option<&SourceSettings> {
        match &self.state {
            State::Present { settings, .. } => Some(settings),
            State::Absent | State::Removed { .. } => None,
        }
    }

    /// Whether what it sends is taken.
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

/// What can be asked of a source.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceCommand {
    /// Bring it into being, enabled.
    Create(SourceSettings),
    /// Change some of its settings.
    Change(SourceChange),
    /// Take nothing of it from now on.
    Disable {
        /// Why.
        reason: Reason,
    },
    /// Take what it sends again.
    Enable,
    /// Check its requests with another secret from now on.
    RotateSecret {
        /// The new one's name; it is kept already.
        secret: SecretId,
        /// When this is asked.
        at: Timestamp,
        /// How long the present one counts beside it.
        overlap: OverlapHours,
    },
    /// Take it away for ever.
    Remove,
}

/// What has happened to a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum SourceEvent {
    /// It came into being, enabled.
    #[serde(rename = "source.created")]
    Created {
        /// What it was set to.
        settings: SourceSettings,
    },
    /// Its settings changed.
    #[serde(rename = "source.changed")]
    Changed {
        /// The old settings.
        from: SourceSettings,
        /// The new settings.
        to: SourceSettings,
    },
    /// Nothing of it is taken from now on.
    #[serde(rename = "source.disabled")]
    Disabled {
        /// Why.
        reason: Reason,
    },
    /// What it sends is taken again.
    #[serde(rename = "source.enabled")]
    Enabled {},
    /// Its requests are checked with another secret from now on.
    #[serde(rename = "source.secret_rotated")]
    SecretRotated {
        /// Its name.
        secret: SecretId,
        /// Until when the one before it counts too.
        previous_valid_until: Timestamp,
    },
    /// It is gone for ever.
    #[serde(rename = "source.removed")]
    Removed {},
}

domain_event!(SourceEvent {
    Created => ("source.created", 1),
    Changed => ("source.changed", 1),
    Disabled => ("source.disabled", 1),
    Enabled => ("source.enabled", 1),
    SecretRotated => ("source.secret_rotated", 1),
    Removed => ("source.removed", 1),
});

/// Why a source says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SourceRejection {
    /// There is a source of this id.
    #[error("the source exists already")]
    AlreadyCreated,
    /// There is none, or no longer.
    #[error("there is no such source")]
    NotFound,
}

impl cqrs_es::Aggregate for Source {
    const TYPE: &'static str = "source";
    type Command = SourceCommand;
    type Event = SourceEvent;
    type Error = SourceRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: SourceCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), SourceRejection> {
        let event = match (&self.state, command) {
            (State::Absent, SourceCommand::Create(settings)) => Some(SourceEvent::Created { settings }),
            (_, SourceCommand::Create(_)) => return Err(SourceRejection::AlreadyCreated),
            (State::Absent | State::Removed { .. }, _) => return Err(SourceRejection::NotFound),
            (
                State::Present {
                    settings,
                    enabled,
                    secrets,
                },
                command,
            ) => decide(settings, *enabled, secrets, command),
        };
        if let Some(event) = event {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: SourceEvent) {
        match (event, &mut self.state) {
            (SourceEvent::Created { settings }, state) => {
                *state = State::Present {
                    settings,
                    enabled: true,
                    secrets: Secrets::default(),
                }
            }
            (SourceEvent::Removed {}, state) => {
                let secrets = match state {
                    State::Present { secrets, .. } | State::Removed { secrets } => std::mem::take(secrets),
                    State::Absent => Secrets::default(),
                };
                *state = State::Removed { secrets };
            }
            (
                SourceEvent::SecretRotated {
                    secret,
                    previous_valid_until,
                },
                State::Present { secrets, .. },
            ) => secrets.rotate(secret, previous_valid_until),
            (SourceEvent::Changed { to, .. }, State::Present { settings, .. }) => *settings = to,
            (SourceEvent::Disabled { .. }, State::Present { enabled, .. }) => *enabled = false,
            (SourceEvent::Enabled {}, State::Present { enabled, .. }) => *enabled = true,
            (_, State::Absent | State::Removed { .. }) => {}
        }
    }
}

/// What an existing source makes of a command; nothing where it is so already.
fn decide(
    settings: &SourceSettings,
    enabled: bool,
    secrets: &Secrets,
    command: SourceCommand,
) -> Option<SourceEvent> {
    match command {
        SourceCommand::Create(_) => None,
        SourceCommand::Change(change) => {
            let to = change.apply_to(settings);
            (to != *settings).then(|| SourceEvent::Changed {
                from: settings.clone(),
                to,
            })
        }
        SourceCommand::Disable { reason } => enabled.then_some(SourceEvent::Disabled { reason }),
        SourceCommand::Enable => (!enabled).then_some(SourceEvent::Enabled {}),
        SourceCommand::RotateSecret { secret, at, overlap } => {
            let overlap = Duration::from_secs(u64::from(overlap.get()) * 60 * 60);
            (secrets.current() != Some(&secret)).then(|| SourceEvent::SecretRotated {
                secret,
                previous_valid_until: at.saturating_add(overlap),
            })
        }
        SourceCommand::Remove => Some(SourceEvent::Removed {}),
    }
}

impl Root for Source {}

#[cfg(test)]
mod tests;
