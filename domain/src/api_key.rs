//! API keys: how programs prove which tenant they act for.
//!
//! Rules:
//! * A key is issued once, and may do what its scopes grant: nothing, unless it was given some.
//! * Nobody can give a key a scope that does not follow from their own, nor change or rotate a key that may do more
//!   than they may.
//! * A key is valid no longer than the tenant's settings allow; one that names no expiry gets the latest.
//! * A revoked key stays revoked, an expired one expired; neither can be changed.
//! * Rotating a key gives it a new text. The text before is good until the overlap ends; the one before that ends at
//!   once.
//! * Nothing of its secret is in the log, which all parts of the installation read: what proves that somebody holds
//!   it is kept apart, under the name of a credential.

#[cfg(test)]
mod tests;

use std::time::Duration;

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::settings::KeyLifetimeDays;
use crate::{Bounded, CredentialId, Grant, Root, Text, Timestamp};

/// What a key is called by people.
pub type KeyName = Text<100>;

/// For how many seconds the text before a rotation stays good: up to seven days.
pub type Overlap = Bounded<0, 604_800>;

/// More scopes than a key may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must hold at most {} scopes", Scopes::MAX)]
pub struct TooManyScopes;

/// What a key may be used for: each scope once, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Grant>", into = "Vec<Grant>")]
pub struct Scopes(Vec<Grant>);

impl Scopes {
    /// The most scopes a key may have.
    pub const MAX: usize = 64;

    /// Everything: what an owner's key has.
    pub fn everything() -> Self {
        Self(vec![Grant::everything()])
    }

    /// The scopes.
    pub fn as_slice(&self) -> &[Grant] {
        &self.0
    }

    /// The first scope that does not follow from these grants.
    fn beyond(&self, grants: &[Grant]) -> Option<&Grant> {
        let covered = |scope: &Grant| grants.iter().any(|grant| grant.implies(scope));
        self.0.iter().find(|scope| !covered(scope))
    }
}

impl TryFrom<Vec<Grant>> for Scopes {
    type Error = TooManyScopes;

    fn try_from(mut scopes: Vec<Grant>) -> Result<Self, TooManyScopes> {
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.len() > Self::MAX {
            return Err(TooManyScopes);
        }
        Ok(Self(scopes))
    }
}

impl From<Scopes> for Vec<Grant> {
    fn from(scopes: Scopes) -> Self {
        scopes.0
    }
}

/// How many requests a key may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// At once, and in that time: 1 to 1,000,000.
    pub requests: Bounded<1, 1_000_000>,
    /// The time, in seconds: 1 to 86,400.
    pub per_seconds: Bounded<1, 86_400>,
}

/// How a key is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySettings {
    /// What people call it.
    pub name: KeyName,
    /// What it may be used for.
    pub scopes: Scopes,
    /// From when on it is worth nothing; none: it does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How many requests it may make; none: as many as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// Who asks for something of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct By {
    /// When.
    pub at: Timestamp,
    /// What they may do themselves.
    pub grants: Vec<Grant>,
    /// The longest a key can be valid that they issue.
    pub longest: Option<KeyLifetimeDays>,
}

impl By {
    /// The latest expiry they can give.
    fn latest(&self) -> Option<Timestamp> {
        let days = u64::from(self.longest?.get());
        Some(self.at.saturating_add(Duration::from_hours(24 * days)))
    }

    /// Whether they may do all that a key so set may.
    fn covers(&self, settings: &KeySettings) -> Result<(), ApiKeyRejection> {
        match settings.scopes.beyond(&self.grants) {
            Some(scope) => Err(ApiKeyRejection::BeyondOwn(scope.clone())),
            None => Ok(()),
        }
    }

    fn allows_expiry(&self, expiry: Option<Timestamp>) -> Result<(), ApiKeyRejection> {
        if expiry.is_some_and(|expiry| expiry <= self.at) {
            return Err(ApiKeyRejection::ExpiryPast);
        }
        match self.latest() {
            Some(latest) if expiry.is_none_or(|expiry| expiry > latest) => {
                Err(ApiKeyRejection::ExpiryTooLate(latest))
            }
            _ => Ok(()),
        }
    }

    /// Whether they may issue such a key.
    pub fn may_issue(&self, settings: &KeySettings) -> Result<(), ApiKeyRejection> {
        self.covers(settings)?;
        self.allows_expiry(settings.expires_at.or(self.latest()))
    }
}

/// What shall change of a key's settings; what is not named stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyChange {
    /// The new name.
    pub name: Option<KeyName>,
    /// All scopes from now on.
    pub scopes: Option<Scopes>,
    /// The new expiry; `Some(None)` takes it away.
    pub expires_at: Option<Option<Timestamp>>,
    /// The new limit; `Some(None)` takes it away.
    pub rate_limit: Option<Option<RateLimit>>,
}

impl KeyChange {
    fn apply_to(self, settings: &KeySettings) -> KeySettings {
        KeySettings {
            name: self.name.unwrap_or_else(|| settings.name.clone()),
            scopes: self.scopes.unwrap_or_else(|| settings.scopes.clone()),
            expires_at: self.expires_at.unwrap_or(settings.expires_at),
            rate_limit: self.rate_limit.unwrap_or(settings.rate_limit),
        }
    }
}

/// The state of one API key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ApiKey {
    issued: Option<Issued>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Issued {
    settings: KeySettings,
    /// 1 for the text it was issued with, one more with each rotation.
    generation: u32,
    /// None: the credential it was issued with, which goes by the key's own id.
    credential: Option<CredentialId>,
    previous: Option<Previous>,
    revoked: bool,
}

/// The credential before a rotation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Previous {
    credential: Option<CredentialId>,
    until: Timestamp,
}

impl Issued {
    fn has_expired(&self, at: Timestamp) -> bool {
        self.settings.expires_at.is_some_and(|expiry| at >= expiry)
    }

    fn check_changeable(&self, by: &By) -> Result<(), ApiKeyRejection> {
        by.covers(&self.settings)?;
        if self.revoked {
            return Err(ApiKeyRejection::Revoked);
        }
        if self.has_expired(by.at) {
            return Err(ApiKeyRejection::Expired);
        }
        Ok(())
    }
}

impl ApiKey {
    /// Whether it was issued, and neither was revoked nor has expired.
    pub fn is_valid(&self, at: Timestamp) -> bool {
        self.issued
            .as_ref()
            .is_some_and(|key| !key.revoked && !key.has_expired(at))
    }

    /// Whether it was revoked, which is for ever.
    pub fn is_revoked(&self) -> bool {
        self.issued.as_ref().is_some_and(|key| key.revoked)
    }

    /// The credentials any of which proves that somebody holds the key, the newest first; none of an invalid key.
    /// The one it was issued with has no id of its own: it goes by the key's.
    pub fn credentials(&self, at: Timestamp) -> Vec<Option<&CredentialId>> {
        let Some(key) = self.issued.as_ref().filter(|_| self.is_valid(at)) else {
            return Vec::new();
        };
        let previous = key.previous.iter().filter(|previous| at < previous.until);
        std::iter::once(key.credential.as_ref())
            .chain(previous.map(|previous| previous.credential.as_ref()))
            .collect()
    }

    /// What it may be used for.
    pub fn scopes(&self) -> &[Grant] {
        self.issued
            .as_ref()
            .map_or(&[], |key| key.settings.scopes.as_slice())
    }

    /// How many requests it may make.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.issued.as_ref().and_then(|key| key.settings.rate_limit)
    }

    /// Whether it can be changed or rotated by them.
    pub fn check_changeable(&self, by: &By) -> Result<(), ApiKeyRejection> {
        let key = self.issued.as_ref().ok_or(ApiKeyRejection::NotFound)?;
        key.check_changeable(by)
    }

    /// Until when the text before this credential's is good; none where it is not the newest.
    pub fn previous_until(&self, credential: &CredentialId) -> Option<Timestamp> {
        let key = self.issued.as_ref()?;
        let newest = key.credential.as_ref() == Some(credential);
        key.previous
            .as_ref()
            .filter(|_| newest)
            .map(|previous| previous.until)
    }
}

/// What can be asked of an API key.
#[derive(Debug, Clone, PartialEq)]
pub enum ApiKeyCommand {
    /// Make the key valid.
    Issue {
        /// How it is set.
        settings: KeySettings,
        /// Who asks.
        by: By,
    },
    /// Change its settings.
    Change {
        /// What shall change.
        change: KeyChange,
        /// Who asks.
        by: By,
    },
    /// Give it another text.
    Rotate {
        /// The credential of the new text.
        credential: CredentialId,
        /// How long the text it has now stays good.
        overlap: Overlap,
        /// Who asks.
        by: By,
    },
    /// Make it invalid for ever.
    Revoke,
}

/// What has happened to an API key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum ApiKeyEvent {
    /// It became valid.
    #[serde(rename = "api_key.issued")]
    Issued(KeySettings),
    /// Its settings changed.
    #[serde(rename = "api_key.changed")]
    Changed {
        /// The old settings.
        from: KeySettings,
        /// The new settings.
        to: KeySettings,
    },
    /// It got another text.
    #[serde(rename = "api_key.rotated")]
    Rotated {
        /// The how many-th text this is.
        generation: u32,
        /// The credential of the new text; not secret.
        credential: CredentialId,
        /// Until when the text before is good. Texts before that one are worth nothing from now on.
        previous_until: Timestamp,
    },
    /// It became invalid.
    #[serde(rename = "api_key.revoked")]
    Revoked {},
}

domain_event!(ApiKeyEvent {
    Issued => ("api_key.issued", 1),
    Changed => ("api_key.changed", 1),
    Rotated => ("api_key.rotated", 1),
    Revoked => ("api_key.revoked", 1),
});

/// Why an API key says no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyRejection {
    /// There is a key of this id.
    #[error("the key is issued already")]
    AlreadyIssued,
    /// There is none.
    #[error("there is no such key")]
    NotFound,
    /// It was revoked, which is for ever.
    #[error("the key is revoked")]
    Revoked,
    /// It has expired, which is for ever.
    #[error("the key has expired")]
    Expired,
    /// A key cannot be valid until a time that is over.
    #[error("the expiry is not in the future")]
    ExpiryPast,
    /// The tenant's settings allow this expiry at the latest.
    #[error("the expiry must be {0} at the latest")]
    ExpiryTooLate(Timestamp),
    /// Who asks may not do themselves what the key may do, or shall.
    #[error("the scope {0} goes beyond what the one who asks may do")]
    BeyondOwn(Grant),
}

impl cqrs_es::Aggregate for ApiKey {
    const TYPE: &'static str = "api_key";
    type Command = ApiKeyCommand;
    type Event = ApiKeyEvent;
    type Error = ApiKeyRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: ApiKeyCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), ApiKeyRejection> {
        let event = match (command, &self.issued) {
            (ApiKeyCommand::Issue { .. }, Some(_)) => return Err(ApiKeyRejection::AlreadyIssued),
            (ApiKeyCommand::Issue { settings, by }, None) => {
                by.may_issue(&settings)?;
                Some(ApiKeyEvent::Issued(KeySettings {
                    expires_at: settings.expires_at.or(by.latest()),
                    ..settings
                }))
            }
            (_, None) => return Err(ApiKeyRejection::NotFound),
            (command, Some(key)) => decide(key, command)?,
        };
        if let Some(event) = event {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ApiKeyEvent) {
        match (event, &mut self.issued) {
            (ApiKeyEvent::Issued(settings), _) => {
                self.issued = Some(Issued {
                    settings,
                    generation: 1,
                    credential: None,
                    previous: None,
                    revoked: false,
                });
            }
            (ApiKeyEvent::Changed { to, .. }, Some(key)) => key.settings = to,
            (
                ApiKeyEvent::Rotated {
                    generation,
                    credential,
                    previous_until,
                },
                Some(key),
            ) => {
                key.generation = generation;
                key.previous = Some(Previous {
                    credential: key.credential.replace(credential),
                    until: previous_until,
                });
            }
            (ApiKeyEvent::Revoked {}, Some(key)) => key.revoked = true,
            (_, None) => {}
        }
    }
}

/// What an issued key makes of a command; nothing where it is so already.
fn decide(key: &Issued, command: ApiKeyCommand) -> Result<Option<ApiKeyEvent>, ApiKeyRejection> {
    Ok(match command {
        // Handled where there is no key yet.
        ApiKeyCommand::Issue { .. } => return Err(ApiKeyRejection::AlreadyIssued),
        ApiKeyCommand::Change { change, by } => {
            key.check_changeable(&by)?;
            let to = change.apply_to(&key.settings);
            by.covers(&to)?;
            if to.expires_at != key.settings.expires_at {
                by.allows_expiry(to.expires_at)?;
            }
            (to != key.settings).then(|| ApiKeyEvent::Changed {
                from: key.settings.clone(),
                to,
            })
        }
        // The same rotation again.
        ApiKeyCommand::Rotate { credential, .. } if key.credential.as_ref() == Some(&credential) => None,
        ApiKeyCommand::Rotate {
            credential,
            overlap,
            by,
        } => {
            key.check_changeable(&by)?;
            let overlap = Duration::from_secs(overlap.get().into());
            Some(ApiKeyEvent::Rotated {
                generation: key.generation.saturating_add(1),
                credential,
                previous_until: by.at.saturating_add(overlap),
            })
        }
        ApiKeyCommand::Revoke => (!key.revoked).then_some(ApiKeyEvent::Revoked {}),
    })
}

impl Root for ApiKey {
    /// 2: settings, generations and expiry.
    const FOLD: u32 = 2;
}
