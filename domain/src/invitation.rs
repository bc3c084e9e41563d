//! Invitations: how people become users of a tenant by their own word.
//!
//! Rules:
//! * One invitation per e-mail address is pending in a tenant; upper and lower case count as the same. The address is
//!   free for another once the invitation is accepted, revoked or expired.
//! * A pending invitation is accepted once, before it expires, by whoever holds its present token. Sending it again
//!   gives it another token and more time, and makes the old token worthless, also when it was too late already.
//! * An invitation is too late from its `expires_at` on, whether or not anything notes it: [`Invitation::status`]. That
//!   it expired is noted when its address is needed for another invitation; then it is final.
//! * What was accepted, revoked or expired stays so.
//!
//! Nothing of a token's secret is in the log: [`TokenId`] only names it.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::user::{Email, UserName};
use crate::{Claim, RoleId, Root, Timestamp, TokenId, UserId};

/// The most roles an invitation can give.
pub const MAX_ROLES: usize = 32;

/// What an address is claimed as.
pub const CLAIM: &str = "invitation";

/// The state of one invitation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Invitation {
    terms: Option<Terms>,
}

/// What was offered, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// To whom.
    pub email: Email,
    /// What they are called, as far as the inviter knows.
    pub name: Option<UserName>,
    /// The roles they will have.
    pub roles: BTreeSet<RoleId>,
    /// Names the one token that is good now.
    pub token: TokenId,
    /// From when on it is too late.
    pub expires_at: Timestamp,
    /// How often it was sent.
    pub sent: u32,
    status: Status,
}

/// What has become of an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It can be accepted.
    Pending,
    /// It was.
    Accepted,
    /// It was taken back.
    Revoked,
    /// It was not accepted in time.
    Expired,
}

impl Status {
    /// The status as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Invitation {
    /// What was offered; none where there is no such invitation.
    pub fn terms(&self) -> Option<&Terms> {
        self.terms.as_ref()
    }
}

impl Terms {
    /// What has become of it by this time.
    pub fn status(&self, at: Timestamp) -> Status {
        match self.status {
            Status::Pending if at >= self.expires_at => Status::Expired,
            status => status,
        }
    }
}

/// What can be asked of an invitation.
#[derive(Debug, Clone, PartialEq)]
pub enum InvitationCommand {
    /// Offer it.
    Invite {
        /// To whom.
        email: Email,
        /// What they are called.
        name: Option<UserName>,
        /// The roles they will have.
        roles: BTreeSet<RoleId>,
        /// Names its token.
        token: TokenId,
        /// From when on it is too late.
        expires_at: Timestamp,
    },
    /// Take it up, which makes a user.
    Accept {
        /// The token that was shown.
        token: TokenId,
        /// The user's id, drawn by the caller.
        user: UserId,
        /// When.
        at: Timestamp,
    },
    /// Offer it again, with another token and more time.
    Resend {
        /// Names the new token.
        token: TokenId,
        /// From when on it is too late now.
        expires_at: Timestamp,
    },
    /// Take it back.
    Revoke,
    /// Note that it was not accepted in time.
    Expire {
        /// When.
        at: Timestamp,
    },
}

/// What an invitation offered for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Names the token.
    pub token: TokenId,
    /// From when on it was too late.
    pub expires_at: Timestamp,
}

/// What has happened to an invitation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum InvitationEvent {
    /// It was offered.
    #[serde(rename = "invitation.created")]
    Created {
        /// To whom.
        email: Email,
        /// What they are called.
        name: Option<UserName>,
        /// The roles they will have.
        roles: BTreeSet<RoleId>,
        /// Names its token.
        token: TokenId,
        /// From when on it is too late.
        expires_at: Timestamp,
    },
    /// It was offered again; the old token is worthless.
    #[serde(rename = "invitation.resent")]
    Resent {
        /// Names the new token.
        token: TokenId,
        /// From when on it is too late now.
        expires_at: Timestamp,
        /// What was offered before; events of earlier programs do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Offer>,
    },
    /// It was taken up; the user came into being with it.
    #[serde(rename = "invitation.accepted")]
    Accepted {
        /// The address, free for another invitation.
        email: Email,
        /// The user it made.
        user: UserId,
    },
    /// It was taken back.
    #[serde(rename = "invitation.revoked")]
    Revoked {
        /// The address, free for another invitation.
        email: Email,
    },
    /// It was not accepted in time.
    #[serde(rename = "invitation.expired")]
    Expired {
        /// The address, free for another invitation.
        email: Email,
    },
}

domain_event!(InvitationEvent {
    Created => ("invitation.created", 1),
    Resent => ("invitation.resent", 1),
    Accepted => ("invitation.accepted", 1),
    Revoked => ("invitation.revoked", 1),
    Expired => ("invitation.expired", 1),
});

/// Why an invitation says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvitationRejection {
    /// There is an invitation of this id.
    #[error("the invitation is there already")]
    AlreadyCreated,
    /// There is none.
    #[error("there is no such invitation")]
    NotFound,
    /// It is no longer pending.
    #[error("the invitation is {0}")]
    Over(Status),
    /// It was sent again, and the token shown is an older one.
    #[error("the invitation was sent again with another token")]
    TokenReplaced,
    /// It can still be accepted.
    #[error("the invitation can still be accepted")]
    InTime,
}

impl cqrs_es::Aggregate for Invitation {
    const TYPE: &'static str = "invitation";
    type Command = InvitationCommand;
    type Event = InvitationEvent;
    type Error = InvitationRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: InvitationCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), InvitationRejection> {
        if let Some(event) = decide(self.terms.as_ref(), command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: InvitationEvent) {
        match (event, &mut self.terms) {
            (
                InvitationEvent::Created {
                    email,
                    name,
                    roles,
                    token,
                    expires_at,
                },
                terms,
            ) => {
                *terms = Some(Terms {
                    email,
                    name,
                    roles,
                    token,
                    expires_at,
                    sent: 1,
                    status: Status::Pending,
                });
            }
            (
                InvitationEvent::Resent {
                    token, expires_at, ..
                },
                Some(terms),
            ) => {
                terms.token = token;
                terms.expires_at = expires_at;
                terms.sent += 1;
            }
            (InvitationEvent::Accepted { .. }, Some(terms)) => terms.status = Status::Accepted,
            (InvitationEvent::Revoked { .. }, Some(terms)) => terms.status = Status::Revoked,
            (InvitationEvent::Expired { .. }, Some(terms)) => terms.status = Status::Expired,
            (_, None) => {}
        }
    }
}

fn decide(
    terms: Option<&Terms>,
    command: InvitationCommand,
) -> Result<Option<InvitationEvent>, InvitationRejection> {
    let over = |status| Err(InvitationRejection::Over(status));
    match (command, terms) {
        (InvitationCommand::Invite { .. }, Some(_)) => Err(InvitationRejection::AlreadyCreated),
        (
            InvitationCommand::Invite {
                email,
                name,
                roles,
                token,
                expires_at,
            },
            None,
        ) => Ok(Some(InvitationEvent::Created {
            email,
            name,
            roles,
            token,
            expires_at,
        })),
        (_, None) => Err(InvitationRejection::NotFound),
        (command, Some(terms)) if terms.status != Status::Pending => match command {
            InvitationCommand::Revoke if terms.status == Status::Revoked => Ok(None),
            InvitationCommand::Expire { .. } => Ok(None),
            _ => over(terms.status),
        },
        (InvitationCommand::Accept { token, .. }, Some(terms)) if token != terms.token => {
            Err(InvitationRejection::TokenReplaced)
        }
        (InvitationCommand::Accept { at, .. }, Some(terms)) if at >= terms.expires_at => {
            over(Status::Expired)
        }
        (InvitationCommand::Expire { at }, Some(terms)) if at < terms.expires_at => {
            Err(InvitationRejection::InTime)
        }
        (command, Some(terms)) => Ok(happens(command, terms)),
    }
}

/// What a pending invitation says to a command that nothing is against.
fn happens(command: InvitationCommand, terms: &Terms) -> Option<InvitationEvent> {
    let email = terms.email.clone();
    match command {
        InvitationCommand::Invite { .. } => None,
        InvitationCommand::Accept { user, .. } => Some(InvitationEvent::Accepted { email, user }),
        InvitationCommand::Resend { token, expires_at } => {
            let from = Offer {
                token: terms.token.clone(),
                expires_at: terms.expires_at,
            };
            Some(InvitationEvent::Resent {
                token,
                expires_at,
                from: Some(from),
            })
        }
        InvitationCommand::Revoke => Some(InvitationEvent::Revoked { email }),
        InvitationCommand::Expire { .. } => Some(InvitationEvent::Expired { email }),
    }
}

impl Root for Invitation {
    fn claims(event: &InvitationEvent) -> Vec<Claim> {
        match event {
            InvitationEvent::Created { email, .. } => vec![Claim::Take {
                kind: CLAIM,
                value: email.folded(),
            }],
            InvitationEvent::Resent { .. } => Vec::new(),
            InvitationEvent::Accepted { email, .. }
            | InvitationEvent::Revoked { email }
            | InvitationEvent::Expired { email } => vec![Claim::Release {
                kind: CLAIM,
                value: email.folded(),
            }],
        }
    }
}
