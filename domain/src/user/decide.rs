//! What a user decides on each command.

use serde_json::{Map, Value};

use super::{
    Email, MAX_PERMISSIONS, MAX_ROLES, Registered, UserCommand, UserEvent, UserName, UserRejection,
    UserStatus,
};
use crate::{Effect, Permission, RoleId};

/// What happens by a command; nothing where it is so already.
pub(super) fn decide(
    user: Option<&Registered>,
    command: UserCommand,
) -> Result<Vec<UserEvent>, UserRejection> {
    let (user, command) = match (user, command) {
        (
            None,
            UserCommand::Register {
                email,
                name,
                attributes,
                roles,
            },
        ) => {
            if roles.len() > MAX_ROLES {
                return Err(UserRejection::TooManyRoles);
            }
            return Ok(vec![UserEvent::Registered {
                email,
                name,
                attributes,
                roles,
            }]);
        }
        (None, _) => return Err(UserRejection::NotFound),
        (Some(_), UserCommand::Register { .. }) => return Err(UserRejection::AlreadyRegistered),
        (Some(user), command) => (user, command),
    };
    if user.status == UserStatus::Removed {
        return Err(UserRejection::Removed);
    }
    if user.status == UserStatus::Deactivated && needs_activity(&command) {
        return Err(UserRejection::Deactivated);
    }
    user.decide(command)
}

/// Whether a command gives something that only an active user can be given.
fn needs_activity(command: &UserCommand) -> bool {
    match command {
        UserCommand::SetPreferences { .. }
        | UserCommand::GrantRole { .. }
        | UserCommand::ClearPermission { .. }
        | UserCommand::SetPermission {
            effect: Effect::Allow,
            ..
        } => true,
        UserCommand::Register { .. }
        | UserCommand::Update { .. }
        | UserCommand::Deactivate { .. }
        | UserCommand::Reactivate
        | UserCommand::Remove
        | UserCommand::RevokeRole { .. }
        | UserCommand::SetPermission {
            effect: Effect::Deny, ..
        } => false,
    }
}

impl Registered {
    fn decide(&self, command: UserCommand) -> Result<Vec<UserEvent>, UserRejection> {
        let event = match command {
            UserCommand::Register { .. } => return Err(UserRejection::AlreadyRegistered),
            UserCommand::Update {
                email,
                name,
                attributes,
            } => return self.update(email, name, attributes),
            UserCommand::Deactivate { reason } => {
                (self.status == UserStatus::Active).then_some(UserEvent::Deactivated { reason })
            }
            UserCommand::Reactivate => {
                (self.status == UserStatus::Deactivated).then_some(UserEvent::Reactivated {})
            }
            UserCommand::Remove => Some(UserEvent::Removed {
                email: self.email.clone(),
            }),
            UserCommand::SetPreferences { preferences } => {
                (self.preferences != preferences).then(|| UserEvent::PreferencesChanged {
                    from: Some(self.preferences.clone()),
                    to: preferences,
                })
            }
            UserCommand::GrantRole { role } => self.grant(role)?,
            UserCommand::RevokeRole { role } => self
                .roles
                .contains(&role)
                .then_some(UserEvent::RoleRevoked { role }),
            UserCommand::SetPermission { permission, effect } => self.set_permission(permission, effect)?,
            UserCommand::ClearPermission { permission } => {
                let was = self.permissions.get(&permission).copied();
                was.map(|was| UserEvent::PermissionCleared { permission, was })
            }
        };
        Ok(event.into_iter().collect())
    }

    fn update(
        &self,
        email: Option<Email>,
        name: Option<UserName>,
        attributes: Option<Map<String, Value>>,
    ) -> Result<Vec<UserEvent>, UserRejection> {
        let mut events = Vec::new();
        if let Some(to) = email.filter(|to| *to != self.email) {
            let from = self.email.clone();
            events.push(UserEvent::EmailChanged { from, to });
        }
        if let Some(to) = name.filter(|to| *to != self.name) {
            let from = self.name.clone();
            events.push(UserEvent::Renamed { from, to });
        }
        if let Some(patch) = attributes {
            let merged = self.attributes.merged(patch).map_err(UserRejection::Attributes)?;
            let (from, to) = self.attributes.difference(&merged);
            if !(from.is_empty() && to.is_empty()) {
                events.push(UserEvent::AttributesChanged { from, to });
            }
        }
        Ok(events)
    }

    fn grant(&self, role: RoleId) -> Result<Option<UserEvent>, UserRejection> {
        if self.roles.contains(&role) {
            return Ok(None);
        }
        if self.roles.len() >= MAX_ROLES {
            return Err(UserRejection::TooManyRoles);
        }
        Ok(Some(UserEvent::RoleGranted { role }))
    }

    fn set_permission(
        &self,
        permission: Permission,
        effect: Effect,
    ) -> Result<Option<UserEvent>, UserRejection> {
        match self.permissions.get(&permission) {
            Some(present) if *present == effect => Ok(None),
            None if self.permissions.len() >= MAX_PERMISSIONS => Err(UserRejection::TooManyPermissions),
            was => Ok(Some(UserEvent::PermissionSet {
                was: was.copied(),
                permission,
                effect,
            })),
        }
    }
}
