//! What a tenant's roles decide on each command.

use std::collections::BTreeSet;

use super::{
    MAX_IN_TENANT, MAX_INHERITED, MAX_PERMISSIONS, MAX_ROLES, Role, RoleChange, Roles, RolesCommand,
    RolesEvent, RolesRejection, Template,
};
use crate::{Grant, RoleId, Text};

/// What happens by a command; nothing where it is so already.
pub(super) fn decide(roles: &Roles, command: RolesCommand) -> Result<Vec<RolesEvent>, RolesRejection> {
    match command {
        RolesCommand::Install { tenant } => {
            let ids = Template::ALL.map(|template| (template.id(tenant), template));
            let missing = ids.into_iter().filter(|(id, _)| roles.get(id).is_none());
            missing
                .map(|(id, template)| install(roles, id, template))
                .collect()
        }
        RolesCommand::Define {
            id,
            name,
            description,
            permissions,
            inherits,
            within,
        } => {
            if roles.get(&id).is_some() {
                return Err(RolesRejection::AlreadyDefined);
            }
            let role = Role {
                name,
                description,
                permissions,
                inherits,
                template: None,
            };
            define(roles, id, role, &within).map(|event| vec![event])
        }
        RolesCommand::Change { id, change, within } => change_role(roles, &id, change, &within),
        RolesCommand::Retire { id, within } => retire(roles, id, &within).map(|event| vec![event]),
    }
}

fn install(roles: &Roles, id: RoleId, template: Template) -> Result<RolesEvent, RolesRejection> {
    let role = Role {
        // A template's own words always fit.
        name: Text::new(template.as_str()).map_err(|_| RolesRejection::Fixed { template })?,
        description: Text::new(template.description()).ok(),
        permissions: template.permissions(),
        inherits: BTreeSet::new(),
        template: Some(template),
    };
    define(roles, id, role, &[Grant::everything()])
}

fn define(roles: &Roles, id: RoleId, role: Role, within: &[Grant]) -> Result<RolesEvent, RolesRejection> {
    if roles.roles.len() >= MAX_ROLES {
        return Err(RolesRejection::TooManyRoles);
    }
    check(roles, &id, &role, within)?;
    Ok(RolesEvent::Defined {
        role: id,
        name: role.name,
        description: role.description,
        permissions: role.permissions,
        inherits: role.inherits,
        template: role.template,
    })
}

fn change_role(
    roles: &Roles,
    id: &RoleId,
    change: RoleChange,
    within: &[Grant],
) -> Result<Vec<RolesEvent>, RolesRejection> {
    let before = roles.get(id).ok_or(RolesRejection::NotFound)?;
    let after = Role {
        name: change.name.unwrap_or_else(|| before.name.clone()),
        description: change.description.unwrap_or_else(|| before.description.clone()),
        permissions: change.permissions.unwrap_or_else(|| before.permissions.clone()),
        inherits: change.inherits.unwrap_or_else(|| before.inherits.clone()),
        template: before.template,
    };
    if after == *before {
        return Ok(Vec::new());
    }
    if let Some(template @ Template::Owner) = before.template {
        return Err(RolesRejection::Fixed { template });
    }
    granted(roles.effective(id), within)?;
    check(roles, id, &after, within)?;
    Ok(differences(id, before, after))
}

fn differences(id: &RoleId, before: &Role, after: Role) -> Vec<RolesEvent> {
    let mut events = Vec::new();
    if before.name != after.name {
        events.push(RolesEvent::Renamed {
            role: id.clone(),
            from: before.name.clone(),
            to: after.name,
        });
    }
    if before.description != after.description {
        events.push(RolesEvent::Described {
            role: id.clone(),
            from: before.description.clone(),
            to: after.description,
        });
    }
    if before.permissions != after.permissions {
        events.push(RolesEvent::PermissionsChanged {
            role: id.clone(),
            added: &after.permissions - &before.permissions,
            removed: &before.permissions - &after.permissions,
        });
    }
    if before.inherits != after.inherits {
        events.push(RolesEvent::InheritanceChanged {
            role: id.clone(),
            added: &after.inherits - &before.inherits,
            removed: &before.inherits - &after.inherits,
        });
    }
    events
}

fn retire(roles: &Roles, id: RoleId, within: &[Grant]) -> Result<RolesEvent, RolesRejection> {
    let role = roles.get(&id).ok_or(RolesRejection::NotFound)?;
    if let Some(template) = role.template {
        return Err(RolesRejection::Fixed { template });
    }
    granted(roles.effective(&id), within)?;
    match roles.roles.iter().find(|(_, other)| other.inherits.contains(&id)) {
        Some((by, _)) => Err(RolesRejection::Inherited { by: by.clone() }),
        None => Ok(RolesEvent::Retired { role: id }),
    }
}

/// Whether the role can be as given among the others.
fn check(roles: &Roles, id: &RoleId, role: &Role, within: &[Grant]) -> Result<(), RolesRejection> {
    let name = folded(role);
    let others = || roles.roles.iter().filter(|(other, _)| *other != id);
    if let Some((by, _)) = others().find(|(_, other)| folded(other) == name) {
        return Err(RolesRejection::NameTaken { by: by.clone() });
    }
    if role.permissions.len() > MAX_PERMISSIONS {
        return Err(RolesRejection::TooManyPermissions);
    }
    if role.inherits.len() > MAX_INHERITED {
        return Err(RolesRejection::TooManyInherited);
    }
    let elsewhere: usize = others().map(|(_, other)| other.permissions.len()).sum();
    if elsewhere + role.permissions.len() > MAX_IN_TENANT {
        return Err(RolesRejection::TooManyInTenant);
    }
    for parent in &role.inherits {
        if parent != id && roles.get(parent).is_none() {
            return Err(RolesRejection::UnknownRole { role: parent.clone() });
        }
        let reached = roles.reach([parent]);
        if parent == id || reached.iter().any(|(way, _)| way.last() == Some(&id)) {
            return Err(RolesRejection::Cycle {
                through: parent.clone(),
            });
        }
    }
    let inherited = roles.reach(&role.inherits);
    let inherited = inherited.into_iter().flat_map(|(_, role)| &role.permissions);
    granted(role.permissions.iter().chain(inherited), within)
}

/// The form in which names are compared.
fn folded(role: &Role) -> String {
    role.name.as_str().to_lowercase()
}

fn granted<'a>(grants: impl IntoIterator<Item = &'a Grant>, within: &[Grant]) -> Result<(), RolesRejection> {
    let covered = |grant: &Grant| within.iter().any(|wide| wide.implies(grant));
    match grants.into_iter().find(|grant| !covered(grant)) {
        Some(grant) => Err(RolesRejection::Exceeds { grant: grant.clone() }),
        None => Ok(()),
    }
}
