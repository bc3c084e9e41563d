//! The roles of a tenant: named sets of grants that users have and that inherit from each other.
//!
//! All roles of a tenant are one aggregate, whose id is the tenant's: whether a name is free and whether inheritance
//! runs in a circle can be judged only on all of them at once, and the expectation of the append then keeps both true
//! between processes.
//!
//! Rules:
//! * A role's name is its own in the tenant; upper and lower case count as the same. A retired role's name is free.
//! * A role grants its own permissions and those of the roles it inherits from, theirs included; no role inherits
//!   from itself, directly or through others.
//! * Nobody defines, changes or retires a role that grants, before or after, what they are not granted themselves.
//! * A role that others inherit from is not retired; a retired role is no more, and grants its users nothing.
//! * Every new tenant has the [`Template`]s. They are not retired, and the owner's is not changed at all: somebody
//!   must be able to do everything.

mod decide;
mod template;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::aggregate::domain_event;
use crate::{Grant, RoleId, Root, Text};

pub use template::Template;

/// What a role is called.
pub type RoleName = Text<100>;
/// What a role is for.
pub type RoleDescription = Text<500>;

/// The most roles of a tenant.
pub const MAX_ROLES: usize = 500;
/// The most permissions a role can grant by itself.
pub const MAX_PERMISSIONS: usize = 256;
/// The most roles a role can inherit from.
pub const MAX_INHERITED: usize = 16;
/// The most permissions that all roles of a tenant can grant together, each role's own counted: it bounds the state.
pub const MAX_IN_TENANT: usize = 8_192;

/// The state of a tenant's roles.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Roles {
    roles: BTreeMap<RoleId, Role>,
}

/// One role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Role {
    /// What it is called.
    pub name: RoleName,
    /// What it is for.
    pub description: Option<RoleDescription>,
    /// What it grants by itself.
    pub permissions: BTreeSet<Grant>,
    /// The roles it inherits from.
    pub inherits: BTreeSet<RoleId>,
    /// The template it was made from.
    pub template: Option<Template>,
}

impl Roles {
    /// A role, unless there is none or it is retired.
    pub fn get(&self, id: &RoleId) -> Option<&Role> {
        self.roles.get(id)
    }

    /// All of them, save the retired.
    pub fn iter(&self) -> impl Iterator<Item = (&RoleId, &Role)> {
        self.roles.iter()
    }

    /// The roles that these consist of: they themselves, the roles they inherit from, and so on. Each comes once, by
    /// its shortest way from one of these: the ids from there to itself.
    pub fn reach<'a>(
        &'a self,
        from: impl IntoIterator<Item = &'a RoleId>,
    ) -> Vec<(Vec<&'a RoleId>, &'a Role)> {
        let mut waiting: VecDeque<Vec<&RoleId>> = from.into_iter().map(|id| vec![id]).collect();
        let mut seen = BTreeSet::new();
        let mut reached = Vec::new();
        while let Some(way) = waiting.pop_front() {
            let Some(id) = way.last().copied().filter(|id| seen.insert(*id)) else {
                continue;
            };
            let Some(role) = self.roles.get(id) else {
                continue;
            };
            waiting.extend(
                role.inherits
                    .iter()
                    .map(|parent| [way.as_slice(), &[parent]].concat()),
            );
            reached.push((way, role));
        }
        reached
    }

    /// What a role grants, by itself and by inheritance.
    pub fn effective<'a>(&'a self, id: &'a RoleId) -> BTreeSet<&'a Grant> {
        let reached = self.reach([id]);
        reached
            .into_iter()
            .flat_map(|(_, role)| &role.permissions)
            .collect()
    }
}

impl FromIterator<(RoleId, Role)> for Roles {
    fn from_iter<T: IntoIterator<Item = (RoleId, Role)>>(roles: T) -> Self {
        Self {
            roles: roles.into_iter().collect(),
        }
    }
}

/// What shall change of a role; what is none stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoleChange {
    /// The new name.
    pub name: Option<RoleName>,
    /// The new description, or none.
    pub description: Option<Option<RoleDescription>>,
    /// All that it shall grant by itself.
    pub permissions: Option<BTreeSet<Grant>>,
    /// All the roles it shall inherit from.
    pub inherits: Option<BTreeSet<RoleId>>,
}

/// What can be asked of a tenant's roles. `within` is what who asks is granted: nobody gives what they have not.
#[derive(Debug, Clone, PartialEq)]
pub enum RolesCommand {
    /// Make the templates' roles; those that are there stay.
    Install {
        /// The ULID of the tenant, from which their ids are derived.
        tenant: Ulid,
    },
    /// Make a role.
    Define {
        /// Its id, drawn by the caller.
        id: RoleId,
        /// What it is called.
        name: RoleName,
        /// What it is for.
        description: Option<RoleDescription>,
        /// What it grants by itself.
        permissions: BTreeSet<Grant>,
        /// The roles it inherits from.
        inherits: BTreeSet<RoleId>,
        /// What who asks is granted.
        within: Vec<Grant>,
    },
    /// Change a role.
    Change {
        /// Which one.
        id: RoleId,
        /// What shall change.
        change: RoleChange,
        /// What who asks is granted.
        within: Vec<Grant>,
    },
    /// End a role for ever.
    Retire {
        /// Which one.
        id: RoleId,
        /// What who asks is granted.
        within: Vec<Grant>,
    },
}

/// What has happened to a role. Each event names its role as `role`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum RolesEvent {
    /// It came into being.
    #[serde(rename = "role.defined")]
    Defined {
        /// Its id.
        role: RoleId,
        /// What it is called.
        name: RoleName,
        /// What it is for.
        description: Option<RoleDescription>,
        /// What it grants by itself.
        permissions: BTreeSet<Grant>,
        /// The roles it inherits from.
        inherits: BTreeSet<RoleId>,
        /// The template it was made from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        template: Option<Template>,
    },
    /// Its name changed.
    #[serde(rename = "role.renamed")]
    Renamed {
        /// Which role.
        role: RoleId,
        /// The old one.
        from: RoleName,
        /// The new one.
        to: RoleName,
    },
    /// Its description changed.
    #[serde(rename = "role.described")]
    Described {
        /// Which role.
        role: RoleId,
        /// The old one.
        from: Option<RoleDescription>,
        /// The new one.
        to: Option<RoleDescription>,
    },
    /// What it grants by itself changed.
    #[serde(rename = "role.permissions_changed")]
    PermissionsChanged {
        /// Which role.
        role: RoleId,
        /// What it grants now and did not before.
        added: BTreeSet<Grant>,
        /// What it grants no longer.
        removed: BTreeSet<Grant>,
    },
    /// The roles it inherits from changed.
    #[serde(rename = "role.inheritance_changed")]
    InheritanceChanged {
        /// Which role.
        role: RoleId,
        /// Those it inherits from now and did not before.
        added: BTreeSet<RoleId>,
        /// Those it no longer inherits from.
        removed: BTreeSet<RoleId>,
    },
    /// It is no more; its name is free.
    #[serde(rename = "role.retired")]
    Retired {
        /// Which role.
        role: RoleId,
    },
}

domain_event!(RolesEvent {
    Defined => ("role.defined", 1),
    Renamed => ("role.renamed", 1),
    Described => ("role.described", 1),
    PermissionsChanged => ("role.permissions_changed", 1),
    InheritanceChanged => ("role.inheritance_changed", 1),
    Retired => ("role.retired", 1),
});

/// Why a tenant's roles say no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RolesRejection {
    /// There is a role of this id.
    #[error("the role is defined already")]
    AlreadyDefined,
    /// There is none, or it is retired.
    #[error("there is no such role")]
    NotFound,
    /// A role of the tenant has this name.
    #[error("the role {by} has this name")]
    NameTaken {
        /// Which one.
        by: RoleId,
    },
    /// The role to inherit from does not exist.
    #[error("there is no role {role} to inherit from")]
    UnknownRole {
        /// Which one.
        role: RoleId,
    },
    /// The role would inherit from itself.
    #[error("the role would inherit from itself through {through}")]
    Cycle {
        /// The role to inherit from that leads back to it.
        through: RoleId,
    },
    /// The role grants something that who asks is not granted.
    #[error("the role grants {grant}, which who asks is not granted")]
    Exceeds {
        /// The first such grant.
        grant: Grant,
    },
    /// Others inherit from the role.
    #[error("the role {by} inherits from it")]
    Inherited {
        /// One of them.
        by: RoleId,
    },
    /// A template's role cannot be retired, the owner's not be changed.
    #[error("this is the role of the template {template}")]
    Fixed {
        /// Which template.
        template: Template,
    },
    /// The tenant would have too many roles.
    #[error("a tenant can have at most {MAX_ROLES} roles")]
    TooManyRoles,
    /// The role would grant too much by itself.
    #[error("a role can grant at most {MAX_PERMISSIONS} permissions by itself")]
    TooManyPermissions,
    /// The role would inherit from too many.
    #[error("a role can inherit from at most {MAX_INHERITED} roles")]
    TooManyInherited,
    /// The roles of the tenant would grant too much together.
    #[error("the roles of a tenant can grant at most {MAX_IN_TENANT} permissions together")]
    TooManyInTenant,
}

impl cqrs_es::Aggregate for Roles {
    const TYPE: &'static str = "roles";
    type Command = RolesCommand;
    type Event = RolesEvent;
    type Error = RolesRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: RolesCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), RolesRejection> {
        for event in decide::decide(self, command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: RolesEvent) {
        match event {
            RolesEvent::Defined {
                role,
                name,
                description,
                permissions,
                inherits,
                template,
            } => {
                let made = Role {
                    name,
                    description,
                    permissions,
                    inherits,
                    template,
                };
                self.roles.insert(role, made);
            }
            RolesEvent::Retired { role } => {
                self.roles.remove(&role);
            }
            RolesEvent::Renamed { role, to, .. } => self.change(&role, |role| role.name = to),
            RolesEvent::Described { role, to, .. } => self.change(&role, |role| role.description = to),
            RolesEvent::PermissionsChanged { role, added, removed } => {
                self.change(&role, |role| swap(&mut role.permissions, added, &removed));
            }
            RolesEvent::InheritanceChanged { role, added, removed } => {
                self.change(&role, |role| swap(&mut role.inherits, added, &removed));
            }
        }
    }
}

impl Roles {
    fn change(&mut self, id: &RoleId, change: impl FnOnce(&mut Role)) {
        if let Some(role) = self.roles.get_mut(id) {
            change(role);
        }
    }
}

fn swap<T: Ord>(set: &mut BTreeSet<T>, added: BTreeSet<T>, removed: &BTreeSet<T>) {
    set.retain(|one| !removed.contains(one));
    set.extend(added);
}

impl Root for Roles {}
