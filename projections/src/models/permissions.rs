//! Permissions of a tenant: what its users are allowed and denied, by themselves and by roles.
//!
//! For looking, not for deciding: who holds a permission, and to whom a role gives what it grants. Whether a call may
//! be made is judged from the log. All that an answer needs is folded here, so that it is true of one position and
//! equals what [`domain::access`] would say of it.
//!
//! The fold needs no row to write another, but for retiring a role: every event says all of what it changes.

mod queries;

use async_trait::async_trait;
use domain::role::RolesEvent;
use domain::user::UserEvent;
use domain::{Effect, RoleId, Source};

use crate::events::{Step, events};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::rows::Rows;
use crate::table::{Column, Growth, Key, Table};

pub use queries::{HolderRow, Permissions, RoleHolderRow};

const NAME: &str = "permissions";

/// The users that are active: all others may do nothing, whatever they have.
static ACTIVE: Table = Table {
    name: "permission_users",
    key: 2,
    columns: &[Column::text("tenant"), Column::text("user_id")],
    growth: Growth::Kept,
};

/// The roles that users have.
static HELD: Table = Table {
    name: "permission_user_roles",
    key: 3,
    columns: &[
        Column::text("tenant"),
        Column::text("role"),
        Column::text("user_id"),
    ],
    growth: Growth::Kept,
};

/// What users are allowed and denied by themselves.
static OWN: Table = Table {
    name: "permission_own",
    key: 3,
    columns: &[
        Column::text("tenant"),
        Column::text("permission"),
        Column::text("user_id"),
        Column::text("effect"),
    ],
    growth: Growth::Kept,
};

/// The roles there are.
static ROLES: Table = Table {
    name: "permission_roles",
    key: 2,
    columns: &[Column::text("tenant"), Column::text("role")],
    growth: Growth::Kept,
};

/// What roles grant by themselves.
static GRANTS: Table = Table {
    name: "permission_role_grants",
    key: 3,
    columns: &[
        Column::text("tenant"),
        Column::text("role"),
        Column::text("permission"),
    ],
    growth: Growth::Kept,
};

/// Which roles roles inherit from.
static PARENTS: Table = Table {
    name: "permission_role_parents",
    key: 3,
    columns: &[
        Column::text("tenant"),
        Column::text("role"),
        Column::text("parent"),
    ],
    growth: Growth::Kept,
};

/// The fold.
#[derive(Debug)]
pub(super) struct PermissionsProjection;

#[async_trait]
impl Projection for PermissionsProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        1
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Events]
    }

    fn tables(&self) -> &'static [&'static Table] {
        const { &[&ACTIVE, &HELD, &OWN, &ROLES, &GRANTS, &PARENTS] }
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        for event in events::<UserEvent>(batch, "user") {
            let (step, event) = event?;
            fold_user(&step, event, rows);
        }
        for event in events::<RolesEvent>(batch, "roles") {
            let (step, event) = event?;
            fold_roles(&step, event, rows).await?;
        }
        Ok(())
    }
}

/// The words in which effects are stored.
fn word(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    }
}

fn fold_user(step: &Step<'_>, event: UserEvent, rows: &mut Rows<'_>) {
    let of_user = |thing: &str| -> Key { vec![step.tenant().into(), thing.into(), step.id().into()] };
    match event {
        UserEvent::Registered { roles, .. } => {
            rows.put(&ACTIVE, step.key());
            for role in &roles {
                rows.put(&HELD, of_user(role.as_str()));
            }
        }
        UserEvent::Reactivated {} => rows.put(&ACTIVE, step.key()),
        UserEvent::Deactivated { .. } | UserEvent::Removed { .. } => rows.remove(&ACTIVE, step.key()),
        UserEvent::RoleGranted { role } => rows.put(&HELD, of_user(role.as_str())),
        UserEvent::RoleRevoked { role } => rows.remove(&HELD, of_user(role.as_str())),
        UserEvent::PermissionSet {
            permission, effect, ..
        } => {
            let mut row = of_user(&permission.to_string());
            row.push(word(effect).into());
            rows.put(&OWN, row);
        }
        UserEvent::PermissionCleared { permission, .. } => {
            rows.remove(&OWN, of_user(&permission.to_string()));
        }
        UserEvent::EmailChanged { .. }
        | UserEvent::Renamed { .. }
        | UserEvent::AttributesChanged { .. }
        | UserEvent::PreferencesChanged { .. } => {}
    }
}

async fn fold_roles(step: &Step<'_>, event: RolesEvent, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let of_role = |role: &RoleId, thing: &str| -> Key {
        vec![step.tenant().into(), role.as_str().into(), thing.into()]
    };
    match event {
        RolesEvent::Defined {
            role,
            permissions,
            inherits,
            ..
        } => {
            rows.put(&ROLES, vec![step.tenant().into(), role.as_str().into()]);
            for grant in &permissions {
                rows.put(&GRANTS, of_role(&role, &grant.to_string()));
            }
            for parent in &inherits {
                rows.put(&PARENTS, of_role(&role, parent.as_str()));
            }
        }
        RolesEvent::PermissionsChanged { role, added, removed } => {
            for grant in &removed {
                rows.remove(&GRANTS, of_role(&role, &grant.to_string()));
            }
            for grant in &added {
                rows.put(&GRANTS, of_role(&role, &grant.to_string()));
            }
        }
        RolesEvent::InheritanceChanged { role, added, removed } => {
            for parent in &removed {
                rows.remove(&PARENTS, of_role(&role, parent.as_str()));
            }
            for parent in &added {
                rows.put(&PARENTS, of_role(&role, parent.as_str()));
            }
        }
        RolesEvent::Retired { role } => {
            let prefix: Key = vec![step.tenant().into(), role.as_str().into()];
            for table in [&GRANTS, &PARENTS] {
                for row in rows.under(table, prefix.clone()).await? {
                    rows.remove(table, table.key_of(&row));
                }
            }
            rows.remove(&ROLES, prefix);
        }
        RolesEvent::Renamed { .. } | RolesEvent::Described { .. } => {}
    }
    Ok(())
}
