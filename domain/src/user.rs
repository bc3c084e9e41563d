//! Users of a tenant.
//!
//! Rules:
//! * A user is registered once, under an e-mail address no other user of the tenant has; upper and lower case
//!   count as the same.
//! * Name and address can change; a changed address is free for others at once.

use std::fmt;

use cqrs_es::event_sink::EventSink;
use email_address::{EmailAddress, Options};
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::{Claim, Root, Text};

/// A text that is not an e-mail address people can be reached at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be an e-mail address such as ada@example.org, at most 254 bytes long")]
pub struct InvalidEmail;

/// An e-mail address as its owner writes it (RFC 5321, without display name or address literal).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Email(String);

impl Email {
    /// The address as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which addresses are compared: RFC 5321 lets the part before the `@` differ by case, people
    /// and mail systems do not.
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }
}

impl TryFrom<String> for Email {
    type Error = InvalidEmail;

    fn try_from(text: String) -> Result<Self, InvalidEmail> {
        let rules = Options::default()
            .with_required_tld()
            .without_display_text()
            .without_domain_literal();
        let text = text.trim();
        let fits = text.len() <= 254 && EmailAddress::parse_with_options(text, rules).is_ok();
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidEmail)
        }
    }
}

impl From<Email> for String {
    fn from(email: Email) -> Self {
        email.0
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user's display name.
pub type UserName = Text<100>;

/// The state of one user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct User {
    registered: Option<Registered>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Registered {
    email: Email,
    name: UserName,
}

/// What can be asked of a user.
#[derive(Debug, Clone, PartialEq)]
pub enum UserCommand {
    /// Make the user known.
    Register {
        /// The address.
        email: Email,
        /// The display name.
        name: UserName,
    },
    /// Change what is given, leave what is not.
    Update {
        /// The new address.
        email: Option<Email>,
        /// The new display name.
        name: Option<UserName>,
    },
}

/// What has happened to a user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum UserEvent {
    /// The user became known.
    #[serde(rename = "user.registered")]
    Registered {
        /// The address.
        email: Email,
        /// The display name.
        name: UserName,
    },
    /// The address changed.
    #[serde(rename = "user.email_changed")]
    EmailChanged {
        /// The old one.
        from: Email,
        /// The new one.
        to: Email,
    },
    /// The display name changed.
    #[serde(rename = "user.renamed")]
    Renamed {
        /// The old one.
        from: UserName,
        /// The new one.
        to: UserName,
    },
}

domain_event!(UserEvent {
    Registered => ("user.registered", 1),
    EmailChanged => ("user.email_changed", 1),
    Renamed => ("user.renamed", 1),
});

/// Why a user says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserRejection {
    /// There is a user of this id.
    #[error("the user is registered already")]
    AlreadyRegistered,
    /// There is none.
    #[error("there is no such user")]
    NotFound,
}

impl cqrs_es::Aggregate for User {
    const TYPE: &'static str = "user";
    type Command = UserCommand;
    type Event = UserEvent;
    type Error = UserRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: UserCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), UserRejection> {
        match (command, self.registered.clone()) {
            (UserCommand::Register { .. }, Some(_)) => Err(UserRejection::AlreadyRegistered),
            (UserCommand::Register { email, name }, None) => {
                sink.write(UserEvent::Registered { email, name }, self).await;
                Ok(())
            }
            (UserCommand::Update { .. }, None) => Err(UserRejection::NotFound),
            (UserCommand::Update { email, name }, Some(user)) => {
                if let Some(to) = email.filter(|to| *to != user.email) {
                    sink.write(UserEvent::EmailChanged { from: user.email, to }, self)
                        .await;
                }
                if let Some(to) = name.filter(|to| *to != user.name) {
                    sink.write(UserEvent::Renamed { from: user.name, to }, self).await;
                }
                Ok(())
            }
        }
    }

    fn apply(&mut self, event: UserEvent) {
        match (event, &mut self.registered) {
            (UserEvent::Registered { email, name }, state) => *state = Some(Registered { email, name }),
            (UserEvent::EmailChanged { to, .. }, Some(user)) => user.email = to,
            (UserEvent::Renamed { to, .. }, Some(user)) => user.name = to,
            (UserEvent::EmailChanged { .. } | UserEvent::Renamed { .. }, None) => {}
        }
    }
}

impl Root for User {
    fn claims(event: &UserEvent) -> Vec<Claim> {
        let take = |email: &Email| Claim::Take {
            kind: "email",
            value: email.folded(),
        };
        match event {
            UserEvent::Registered { email, .. } => vec![take(email)],
            // Writing the same address in another case changes nothing that must be unique.
            UserEvent::EmailChanged { from, to } if from.folded() == to.folded() => Vec::new(),
            UserEvent::EmailChanged { from, to } => {
                vec![
                    Claim::Release {
                        kind: "email",
                        value: from.folded(),
                    },
                    take(to),
                ]
            }
            UserEvent::Renamed { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::testing::{check_golden_files, decide};

    fn email(text: &str) -> Email {
        Email::try_from(text.to_owned()).unwrap()
    }

    fn name(text: &str) -> UserName {
        Text::new(text).unwrap()
    }

    fn registered() -> UserEvent {
        UserEvent::Registered {
            email: email("ada@example.org"),
            name: name("Ada"),
        }
    }

    fn email_changed() -> UserEvent {
        UserEvent::EmailChanged {
            from: email("ada@example.org"),
            to: email("ada@example.net"),
        }
    }

    fn renamed() -> UserEvent {
        UserEvent::Renamed {
            from: name("Ada"),
            to: name("Ada Lovelace"),
        }
    }

    #[tokio::test]
    async fn a_user_is_registered_once() {
        let register = UserCommand::Register {
            email: email("ada@example.org"),
            name: name("Ada"),
        };
        assert_eq!(
            decide::<User>(&[], register.clone()).await,
            Ok(vec![registered()])
        );
        assert_eq!(
            decide::<User>(&[registered()], register).await,
            Err(UserRejection::AlreadyRegistered)
        );
    }

    #[tokio::test]
    async fn an_update_tells_each_change_once() {
        let update = UserCommand::Update {
            email: Some(email("ada@example.net")),
            name: Some(name("Ada Lovelace")),
        };
        let changes = vec![email_changed(), renamed()];
        assert_eq!(decide::<User>(&[registered()], update.clone()).await, Ok(changes));
        let history = [registered(), email_changed(), renamed()];
        assert_eq!(decide::<User>(&history, update.clone()).await, Ok(vec![]));
        assert_eq!(decide::<User>(&[], update).await, Err(UserRejection::NotFound));
    }

    #[test]
    fn an_address_is_claimed_folded_and_released_when_it_changes() {
        let take = |value: &str| Claim::Take {
            kind: "email",
            value: value.to_owned(),
        };
        let registered = UserEvent::Registered {
            email: email("Ada@Example.org"),
            name: name("Ada"),
        };
        assert_eq!(User::claims(&registered), vec![take("ada@example.org")]);
        let released = Claim::Release {
            kind: "email",
            value: "ada@example.org".to_owned(),
        };
        assert_eq!(
            User::claims(&email_changed()),
            vec![released, take("ada@example.net")]
        );
        let same = UserEvent::EmailChanged {
            from: email("ada@example.org"),
            to: email("ADA@example.org"),
        };
        assert_eq!(User::claims(&same), vec![]);
    }

    #[test]
    fn addresses_that_cannot_be_reached_are_refused() {
        for text in [
            "",
            "ada",
            "ada@",
            "@example.org",
            "Ada <ada@example.org>",
            "ada@[192.0.2.1]",
            "ada@host",
            "a b@example.org",
        ] {
            assert!(Email::try_from(text.to_owned()).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn stored_events_decode_for_ever() {
        check_golden_files(UserEvent::WIRE, &[registered(), email_changed(), renamed()]);
    }
}
