//! What clients ask for, and what they hear.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use commands::{Call, Draft, Either, Error, Order, Origin, PublishError, Receipt};
use domain::invitation::{Invitation, InvitationCommand};
use domain::tenant::{Slug, Tenant, TenantCommand};
use domain::user::{Attributes, Email, User, UserCommand};
use domain::{Actor, EventId, InvitationId, Meta, TenantId, Text, Timestamp, TokenId, UserId};

use super::gateway::Hands;

/// How many users a tenant with a quota can have.
pub const QUOTA: u64 = 3;

/// One thing a client wants to happen once, however often it asks.
#[derive(Debug, Clone)]
pub struct Deed {
    /// Whose.
    pub tenant: TenantId,
    /// What.
    pub what: What,
    /// The ids of the commands, as drawn for the request.
    pub commands: Vec<String>,
}

/// What there is to do. Each changes something whenever it succeeds, so that success leaves a record.
#[derive(Debug, Clone)]
pub enum What {
    /// Make a user; through the tenant's gate, if it has one.
    Register {
        /// Which.
        user: UserId,
        /// Its address.
        email: Email,
        /// Its name, which tells whose it is.
        name: String,
        /// There is a quota.
        gated: bool,
    },
    /// Change a user.
    Change {
        /// Which.
        user: UserId,
        /// Its new address.
        email: Option<Email>,
        /// Its new name, another each time.
        name: String,
    },
    /// End a user.
    Remove {
        /// Which.
        user: UserId,
    },
    /// Offer somebody to become a user.
    Invite {
        /// Which.
        invitation: InvitationId,
        /// To whom.
        email: Email,
        /// Its token.
        token: TokenId,
    },
    /// Take an offer up: two commits that happen together.
    Accept {
        /// Which.
        invitation: InvitationId,
        /// Its token.
        token: TokenId,
        /// Who comes of it.
        user: UserId,
        /// With which address.
        email: Email,
        /// Under which name.
        name: String,
    },
    /// Make a tenant; of all that want a slug one gets it.
    Provision {
        /// Its id.
        id: TenantId,
        /// Its slug.
        slug: Slug,
    },
    /// Publish events.
    Publish {
        /// Their ids, and whether the client chose them.
        ids: Vec<(EventId, bool)>,
        /// What they say.
        data: String,
    },
    /// Look at a user.
    Look {
        /// Which.
        user: UserId,
    },
}

/// One try.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// The request may have been carried out already.
    pub repeated: bool,
    /// When it is.
    pub now: Timestamp,
    /// When the first try was.
    pub first: Timestamp,
}

/// What a client hears of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It is done: the sequence and version of each record.
    Done(Vec<(u64, u64)>),
    /// It will not be done, for a reason that is the log's.
    No(String),
    /// This try did nothing; another may.
    NotNow(String),
    /// It may have happened.
    Unknown(String),
    /// Nothing at all.
    Silence,
    /// What was looked at.
    Seen(String),
    /// What must never be heard.
    Broken(String),
}

impl Heard {
    /// In one word, for counting.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::No(_) => "no",
            Self::NotNow(_) => "not now",
            Self::Unknown(_) => "unknown",
            Self::Silence => "silence",
            Self::Seen(_) => "seen",
            Self::Broken(_) => "broken",
        }
    }
}

impl Deed {
    /// Does it.
    pub(super) async fn carry_out(self, hands: Hands, turn: Turn) -> Heard {
        let Self {
            tenant,
            what,
            commands,
        } = self;
        let call = |number: usize, name: &str| Call {
            meta: meta(commands.get(number).cloned().unwrap_or_default(), name, turn.now),
            repeated: turn.repeated,
        };
        let Hands {
            dispatcher,
            publisher,
        } = &hands;
        match what {
            What::Register {
                user,
                email,
                name,
                gated,
            } => {
                let command = register(email, &name);
                let call = call(0, "RegisterUser");
                if gated {
                    return through_the_gate(&hands, &tenant, &user, command, call).await;
                }
                one(dispatcher
                    .execute::<User>(&tenant, user.as_str(), command, call)
                    .await)
            }
            What::Change { user, email, name } => {
                let command = UserCommand::Update {
                    email,
                    name: Some(text(&name)),
                    attributes: None,
                };
                let call = call(0, "UpdateUser");
                one(dispatcher
                    .execute::<User>(&tenant, user.as_str(), command, call)
                    .await)
            }
            What::Remove { user } => {
                let call = call(0, "RemoveUser");
                one(dispatcher
                    .execute::<User>(&tenant, user.as_str(), UserCommand::Remove, call)
                    .await)
            }
            What::Invite {
                invitation,
                email,
                token,
            } => {
                let command = InvitationCommand::Invite {
                    email,
                    name: None,
                    roles: BTreeSet::new(),
                    token,
                    expires_at: turn.first.saturating_add(Duration::from_hours(24)),
                };
                let call = call(0, "InviteUser");
                one(dispatcher
                    .execute::<Invitation>(&tenant, invitation.as_str(), command, call)
                    .await)
            }
            What::Accept {
                invitation,
                token,
                user,
                email,
                name,
            } => {
                let accept = Order::<Invitation> {
                    id: invitation.as_str(),
                    command: InvitationCommand::Accept {
                        token,
                        user: user.clone(),
                        at: turn.now,
                    },
                    meta: call(0, "AcceptInvitation"),
                };
                let register = Order::<User> {
                    id: user.as_str(),
                    command: register(email, &name),
                    meta: call(1, "RegisterUser"),
                };
                let both = dispatcher.execute_together(&tenant, accept, register).await;
                heard(
                    both.map(|(first, second)| vec![first, second]),
                    |no: &Either<_, _>| no.to_string(),
                )
            }
            What::Provision { id, slug } => {
                let command = TenantCommand::Provision {
                    id: id.clone(),
                    name: text("Provisioned"),
                    slug,
                    plan: None,
                };
                let call = call(0, "ProvisionTenant");
                one(dispatcher
                    .execute::<Tenant>(&tenant, id.as_str(), command, call)
                    .await)
            }
            What::Publish { ids, data } => publish(publisher, &tenant, ids, &data, turn).await,
            What::Look { user } => {
                match dispatcher
                    .load::<User>(&tenant, user.as_str(), Duration::ZERO)
                    .await
                {
                    Ok(loaded) => Heard::Seen(format!("{:?}", loaded.aggregate)),
                    Err(commands::LoadError::Unavailable(cause)) => Heard::NotNow(cause.to_string()),
                    Err(other) => Heard::Broken(other.to_string()),
                }
            }
        }
    }

    /// The message ids of the records that success leaves.
    pub fn message_ids(&self) -> Vec<String> {
        match &self.what {
            What::Publish { ids, .. } => ids
                .iter()
                .map(|(id, _)| format!("{}:{id}", self.tenant))
                .collect(),
            What::Look { .. } => Vec::new(),
            _ => self
                .commands
                .iter()
                .map(|command| format!("{}:{command}", self.tenant))
                .collect(),
        }
    }
}

/// Registers a user of a tenant with a quota, as the service does it: what is done is done; then the gate is read, and
/// gone through if it is not full. It is never counted anew here, so a gate that is full stays so.
async fn through_the_gate(
    hands: &Hands,
    tenant: &TenantId,
    user: &UserId,
    command: UserCommand,
    call: Call,
) -> Heard {
    let dispatcher = &hands.dispatcher;
    let away = |error: commands::LoadError| Heard::NotNow(error.to_string());
    match dispatcher.done::<User>(tenant, user.as_str(), &call).await {
        Ok(Some(receipt)) => return Heard::Done(vec![place(receipt)]),
        Ok(None) => {}
        Err(error) => return away(error),
    }
    let gate = match dispatcher.gate(tenant, "users").await {
        Ok(gate) => gate,
        Err(error) => return away(error),
    };
    let total = gate.passed.map_or(0, |passed| passed.total) + 1;
    if total > QUOTA {
        return Heard::No("the quota is used up".to_owned());
    }
    let through = dispatcher.through(&gate, "user", total);
    one(through
        .execute::<User>(tenant, user.as_str(), command, call)
        .await)
}

async fn publish(
    publisher: &commands::Publisher,
    tenant: &TenantId,
    ids: Vec<(EventId, bool)>,
    data: &str,
    turn: Turn,
) -> Heard {
    let draft = |(id, chosen): (EventId, bool)| Draft {
        id: chosen.then(|| id.clone()),
        drawn: id,
        event_type: "invoice.paid".parse().expect("a valid type"),
        data: bytes::Bytes::copy_from_slice(data.as_bytes()),
        only_for: None,
    };
    let origin = Origin {
        actor: Actor::PlatformAdmin,
        request_id: None,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        at: turn.now,
        repeats: turn.repeated.then_some(turn.first),
    };
    let drafts = ids.into_iter().map(draft).collect();
    let published = match publisher.publish(tenant, drafts, origin).await {
        Ok(published) => published.into_iter().collect::<Result<Vec<_>, _>>(),
        Err(error) => Err(error),
    };
    match published {
        Ok(published) => Heard::Done(
            published
                .iter()
                .map(|published| (published.position.sequence, 0))
                .collect(),
        ),
        Err(error @ (PublishError::Busy | PublishError::Unavailable(_))) => Heard::NotNow(error.to_string()),
        Err(error @ PublishError::Unknown(_)) => Heard::Unknown(error.to_string()),
        Err(error) => Heard::Broken(error.to_string()),
    }
}

fn one<R: std::error::Error + Debug>(result: Result<Receipt, Error<R>>) -> Heard {
    heard(result.map(|receipt| vec![receipt]), R::to_string)
}

fn heard<R: std::error::Error + Debug>(
    result: Result<Vec<Receipt>, Error<R>>,
    in_words: impl Fn(&R) -> String,
) -> Heard {
    match result {
        Ok(receipts) => Heard::Done(receipts.into_iter().map(place).collect()),
        Err(Error::Rejected(rejection)) => Heard::No(in_words(&rejection)),
        Err(error @ Error::Taken { .. }) => Heard::No(error.to_string()),
        Err(error @ (Error::Contended | Error::Busy | Error::Unavailable(_))) => {
            Heard::NotNow(error.to_string())
        }
        Err(error @ Error::Unknown(_)) => Heard::Unknown(error.to_string()),
        Err(Error::Damaged(cause)) => Heard::Broken(format!("damaged: {cause}")),
        Err(error @ Error::TooLarge { .. }) => Heard::Broken(error.to_string()),
    }
}

fn place(receipt: Receipt) -> (u64, u64) {
    (receipt.position.sequence, receipt.version)
}

fn register(email: Email, name: &str) -> UserCommand {
    UserCommand::Register {
        email,
        name: text(name),
        attributes: Attributes::default(),
        roles: BTreeSet::new(),
    }
}

fn text(text: &str) -> Text<100> {
    Text::new(text).expect("a name that a client sends is valid")
}

fn meta(command_id: String, command: &str, at: Timestamp) -> Meta {
    Meta {
        command_id,
        command: command.to_owned(),
        actor: Actor::PlatformAdmin,
        request_id: None,
        origin: None,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        at,
    }
}
