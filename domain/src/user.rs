//! Users of a tenant.
//!
//! Rules:
//! * A user is registered once, under an e-mail address no other user of the tenant has; upper and lower case
//!   count as the same.
//! * Name, address and attributes can change; a changed address is free for others at once.
//! * A user has what its roles grant and what it is allowed by itself; what it is denied by itself wins.
//! * A deactivated user may do nothing. Its profile can still be put right and its rights taken away (roles revoked,
//!   permissions denied); rights and preferences are given only to active users.
//! * A removed user stays in the log and takes no more commands; its address is free for others.
//! * Asking for what is so already changes nothing and is no error.
//!
//! Whether a role exists is judged by whoever asks, before: a role that is retired meanwhile grants nothing.

mod decide;
mod email;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::aggregate::domain_event;
use crate::properties::{InvalidProperties, Properties};
use crate::{Claim, Effect, Permission, RoleId, Root, Text};

pub use email::{Email, InvalidEmail};

/// A user's display name.
pub type UserName = Text<100>;
/// Why a user is deactivated.
pub type Reason = Text<500>;
/// What a tenant keeps about a user, under at most 64 keys.
pub type Attributes = Properties<64>;
/// What a user keeps for itself, under at most 256 keys.
pub type Preferences = Properties<256>;

/// The most roles a user can have.
pub const MAX_ROLES: usize = 32;
/// The most permissions a user can be allowed or denied by itself.
pub const MAX_PERMISSIONS: usize = 256;

/// The state of one user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct User {
    registered: Option<Registered>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Registered {
    email: Email,
    name: UserName,
    status: UserStatus,
    attributes: Attributes,
    preferences: Preferences,
    roles: BTreeSet<RoleId>,
    permissions: BTreeMap<Permission, Effect>,
}

/// What a user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    /// It may do what it has rights for.
    Active,
    /// It may do nothing until it is reactivated.
    Deactivated,
    /// It is no more.
    Removed,
}

impl User {
    /// What it is; none where there is no such user.
    pub fn status(&self) -> Option<UserStatus> {
        self.registered.as_ref().map(|user| user.status)
    }

    /// The roles it has.
    pub fn roles(&self) -> impl Iterator<Item = &RoleId> {
        self.registered.iter().flat_map(|user| &user.roles)
    }

    /// What it is allowed and denied by itself.
    pub fn permissions(&self) -> impl Iterator<Item = (&Permission, Effect)> {
        let users = self.registered.iter();
        users.flat_map(|user| {
            user.permissions
                .iter()
                .map(|(permission, effect)| (permission, *effect))
        })
    }
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
        /// What the tenant keeps about the user.
        attributes: Attributes,
        /// The roles it has from the start.
        roles: BTreeSet<RoleId>,
    },
    /// Change what is given, leave what is not.
    Update {
        /// The new address.
        email: Option<Email>,
        /// The new display name.
        name: Option<UserName>,
        /// A merge patch (RFC 7396) of the attributes.
        attributes: Option<Map<String, Value>>,
    },
    /// Let the user do nothing for now.
    Deactivate {
        /// Why.
        reason: Option<Reason>,
    },
    /// Let the user do again what it has rights for.
    Reactivate,
    /// End the user for ever.
    Remove,
    /// Put these preferences in the place of the old.
    SetPreferences {
        /// The new ones.
        preferences: Preferences,
    },
    /// Give the user a role.
    GrantRole {
        /// Which one.
        role: RoleId,
    },
    /// Take a role from the user.
    RevokeRole {
        /// Which one.
        role: RoleId,
    },
    /// Allow or deny one permission, whatever the roles say.
    SetPermission {
        /// Which one.
        permission: Permission,
        /// Whether it is allowed or denied.
        effect: Effect,
    },
    /// Leave a permission to the roles again.
    ClearPermission {
        /// Which one.
        permission: Permission,
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
        /// What the tenant keeps about the user.
        #[serde(default, skip_serializing_if = "Attributes::is_empty")]
        attributes: Attributes,
        /// The roles it has from the start.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        roles: BTreeSet<RoleId>,
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
    /// Attributes changed; those not named stayed.
    #[serde(rename = "user.attributes_changed")]
    AttributesChanged {
        /// Those concerned, as they were.
        from: Attributes,
        /// Those concerned, as they are.
        to: Attributes,
    },
    /// The preferences were replaced.
    #[serde(rename = "user.preferences_changed")]
    PreferencesChanged {
        /// The old ones; events of earlier programs do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Preferences>,
        /// The new ones, all of them.
        to: Preferences,
    },
    /// The user may do nothing.
    #[serde(rename = "user.deactivated")]
    Deactivated {
        /// Why.
        reason: Option<Reason>,
    },
    /// The user may do again what it has rights for.
    #[serde(rename = "user.reactivated")]
    Reactivated {},
    /// The user is no more.
    #[serde(rename = "user.removed")]
    Removed {
        /// The address that became free.
        email: Email,
    },
    /// The user was given a role.
    #[serde(rename = "user.role_granted")]
    RoleGranted {
        /// Which one.
        role: RoleId,
    },
    /// A role was taken from the user.
    #[serde(rename = "user.role_revoked")]
    RoleRevoked {
        /// Which one.
        role: RoleId,
    },
    /// A permission was allowed or denied.
    #[serde(rename = "user.permission_set")]
    PermissionSet {
        /// Which one.
        permission: Permission,
        /// Whether it is allowed or denied.
        effect: Effect,
        /// Whether it was allowed or denied before, if it was either; events of earlier programs do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<Effect>,
    },
    /// A permission was left to the roles again.
    #[serde(rename = "user.permission_cleared")]
    PermissionCleared {
        /// Which one.
        permission: Permission,
        /// Whether it was allowed or denied before.
        was: Effect,
    },
}

domain_event!(UserEvent {
    Registered => ("user.registered", 1),
    EmailChanged => ("user.email_changed", 1),
    Renamed => ("user.renamed", 1),
    AttributesChanged => ("user.attributes_changed", 1),
    PreferencesChanged => ("user.preferences_changed", 1),
    Deactivated => ("user.deactivated", 1),
    Reactivated => ("user.reactivated", 1),
    Removed => ("user.removed", 1),
    RoleGranted => ("user.role_granted", 1),
    RoleRevoked => ("user.role_revoked", 1),
    PermissionSet => ("user.permission_set", 1),
    PermissionCleared => ("user.permission_cleared", 1),
});

/// Why a user says no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserRejection {
    /// There is a user of this id.
    #[error("the user is registered already")]
    AlreadyRegistered,
    /// There is none.
    #[error("there is no such user")]
    NotFound,
    /// The user is no more.
    #[error("the user is removed")]
    Removed,
    /// The user must be active for this.
    #[error("the user is deactivated")]
    Deactivated,
    /// The attributes would be out of bounds.
    #[error("the attributes {0}")]
    Attributes(InvalidProperties),
    /// The user would have too many roles.
    #[error("a user can have at most {MAX_ROLES} roles")]
    TooManyRoles,
    /// Too many permissions would be allowed or denied.
    #[error("a user can be allowed or denied at most {MAX_PERMISSIONS} permissions by itself")]
    TooManyPermissions,
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
        for event in decide::decide(self.registered.as_ref(), command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: UserEvent) {
        match (event, &mut self.registered) {
            (
                UserEvent::Registered {
                    email,
                    name,
                    attributes,
                    roles,
                },
                state,
            ) => {
                *state = Some(Registered {
                    email,
                    name,
                    status: UserStatus::Active,
                    attributes,
                    preferences: Preferences::default(),
                    roles,
                    permissions: BTreeMap::new(),
                });
            }
            (event, Some(user)) => user.apply(event),
            (_, None) => {}
        }
    }
}

impl Registered {
    fn apply(&mut self, event: UserEvent) {
        match event {
            UserEvent::Registered { .. } => {}
            UserEvent::EmailChanged { to, .. } => self.email = to,
            UserEvent::Renamed { to, .. } => self.name = to,
            UserEvent::AttributesChanged { from, to } => self.attributes.replace(&from, to),
            UserEvent::PreferencesChanged { to, .. } => self.preferences = to,
            UserEvent::Deactivated { .. } => self.status = UserStatus::Deactivated,
            UserEvent::Reactivated {} => self.status = UserStatus::Active,
            UserEvent::Removed { .. } => self.status = UserStatus::Removed,
            UserEvent::RoleGranted { role } => {
                self.roles.insert(role);
            }
            UserEvent::RoleRevoked { role } => {
                self.roles.remove(&role);
            }
            UserEvent::PermissionSet {
                permission, effect, ..
            } => {
                self.permissions.insert(permission, effect);
            }
            UserEvent::PermissionCleared { permission, .. } => {
                self.permissions.remove(&permission);
            }
        }
    }
}

impl Root for User {
    const FOLD: u32 = 2;

    fn creates(command: &UserCommand) -> bool {
        matches!(command, UserCommand::Register { .. })
    }

    fn claims(event: &UserEvent) -> Vec<Claim> {
        let take = |email: &Email| Claim::Take {
            kind: "email",
            value: email.folded(),
        };
        let release = |email: &Email| Claim::Release {
            kind: "email",
            value: email.folded(),
        };
        match event {
            UserEvent::Registered { email, .. } => vec![take(email)],
            // Writing the same address in another case changes nothing that must be unique.
            UserEvent::EmailChanged { from, to } if from.folded() == to.folded() => Vec::new(),
            UserEvent::EmailChanged { from, to } => vec![release(from), take(to)],
            UserEvent::Removed { email } => vec![release(email)],
            _ => Vec::new(),
        }
    }
}
