//! API keys: how programs prove which tenant they act for.
//!
//! Rules:
//! * A key is issued once; a revoked key stays revoked.
//! * Nothing of its secret is in the log, which all parts of the installation read: what proves that somebody holds
//!   it is kept apart.

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::{Root, Text};

/// What a key is called by people.
pub type KeyName = Text<100>;

/// The state of one API key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ApiKey {
    issued: Option<Issued>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Issued {
    scopes: Vec<String>,
    revoked: bool,
}

impl ApiKey {
    /// Whether it was issued and not revoked.
    pub fn is_valid(&self) -> bool {
        self.issued.as_ref().is_some_and(|key| !key.revoked)
    }

    /// What it may be used for; `*` is everything.
    pub fn scopes(&self) -> &[String] {
        self.issued.as_ref().map_or(&[], |key| &key.scopes)
    }
}

/// What can be asked of an API key.
#[derive(Debug, Clone, PartialEq)]
pub enum ApiKeyCommand {
    /// Make the key valid.
    Issue {
        /// What people call it.
        name: KeyName,
        /// What it may be used for; `*` is everything.
        scopes: Vec<String>,
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
    Issued {
        /// What people call it.
        name: KeyName,
        /// What it may be used for.
        scopes: Vec<String>,
    },
    /// It became invalid.
    #[serde(rename = "api_key.revoked")]
    Revoked {},
}

domain_event!(ApiKeyEvent {
    Issued => ("api_key.issued", 1),
    Revoked => ("api_key.revoked", 1),
});

/// Why an API key says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyRejection {
    /// There is a key of this id.
    #[error("the key is issued already")]
    AlreadyIssued,
    /// There is none.
    #[error("there is no such key")]
    NotFound,
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
            (ApiKeyCommand::Issue { name, scopes }, None) => ApiKeyEvent::Issued { name, scopes },
            (ApiKeyCommand::Revoke, None) => return Err(ApiKeyRejection::NotFound),
            (ApiKeyCommand::Revoke, Some(key)) if key.revoked => return Ok(()),
            (ApiKeyCommand::Revoke, Some(_)) => ApiKeyEvent::Revoked {},
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: ApiKeyEvent) {
        match event {
            ApiKeyEvent::Issued { scopes, .. } => {
                self.issued = Some(Issued {
                    scopes,
                    revoked: false,
                });
            }
            ApiKeyEvent::Revoked {} => {
                if let Some(key) = &mut self.issued {
                    key.revoked = true;
                }
            }
        }
    }
}

impl Root for ApiKey {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::testing::{check_golden_files, decide};

    fn issued() -> ApiKeyEvent {
        ApiKeyEvent::Issued {
            name: Text::new("owner").unwrap(),
            scopes: vec!["*".to_owned()],
        }
    }

    #[tokio::test]
    async fn a_key_is_issued_once_and_revoked_once() {
        let issue = ApiKeyCommand::Issue {
            name: Text::new("owner").unwrap(),
            scopes: vec!["*".to_owned()],
        };
        let revoked = ApiKeyEvent::Revoked {};
        assert_eq!(decide::<ApiKey>(&[], issue.clone()).await, Ok(vec![issued()]));
        assert_eq!(
            decide::<ApiKey>(&[issued()], issue).await,
            Err(ApiKeyRejection::AlreadyIssued)
        );
        assert_eq!(
            decide::<ApiKey>(&[issued()], ApiKeyCommand::Revoke).await,
            Ok(vec![revoked.clone()])
        );
        assert_eq!(
            decide::<ApiKey>(&[issued(), revoked], ApiKeyCommand::Revoke).await,
            Ok(vec![])
        );
        assert_eq!(
            decide::<ApiKey>(&[], ApiKeyCommand::Revoke).await,
            Err(ApiKeyRejection::NotFound)
        );
    }

    #[test]
    fn a_revoked_key_proves_nothing() {
        use cqrs_es::Aggregate;
        let mut key = ApiKey::default();
        assert!(!key.is_valid());
        key.apply(issued());
        assert!(key.is_valid());
        key.apply(ApiKeyEvent::Revoked {});
        assert!(!key.is_valid());
    }

    #[test]
    fn stored_events_decode_for_ever() {
        check_golden_files(ApiKeyEvent::WIRE, &[issued(), ApiKeyEvent::Revoked {}]);
    }
}
