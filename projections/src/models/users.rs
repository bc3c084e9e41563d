//! Users of a tenant, and the roles they have.

mod queries;

use async_trait::async_trait;
use domain::user::{Attributes, UserEvent};
use domain::{RoleId, Source};
use serde_json::json;

use crate::events::{Step, steps};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::rows::Rows;
use crate::sql::{Value, unreadable};
use crate::table::{Column, Growth, Key, Table};

pub use queries::{UserFilter, UserRow, Users};

const NAME: &str = "users";

static TABLE: Table = Table {
    name: "users",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::text("id"),
        Column::text("email"),
        Column::text("name"),
        Column::int("created_at"),
        Column::int("updated_at"),
        Column::int("version"),
        Column::text("status"),
        Column::text("deactivated_reason"),
        Column::text("email_folded"),
        Column::text("attributes"),
        Column::text("preferences"),
    ],
    growth: Growth::Kept,
};

static ROLES: Table = Table {
    name: "user_roles",
    key: 3,
    columns: &[
        Column::text("tenant"),
        Column::text("role"),
        Column::text("user_id"),
    ],
    growth: Growth::Kept,
};

/// The fold.
#[derive(Debug)]
pub(super) struct UsersProjection;

#[async_trait]
impl Projection for UsersProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        2
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Events]
    }

    fn tables(&self) -> &'static [&'static Table] {
        const { &[&TABLE, &ROLES] }
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        let steps = steps::<UserEvent>(batch, "user", &TABLE, rows).await?;
        let roles = steps.iter().filter_map(|(step, event)| match event {
            UserEvent::RoleGranted { role } | UserEvent::RoleRevoked { role } => Some(role_key(step, role)),
            _ => None,
        });
        rows.load(&ROLES, roles).await?;
        for (step, event) in steps {
            fold(&step, event, rows).await?;
        }
        Ok(())
    }
}

async fn fold(step: &Step<'_>, event: UserEvent, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let changes = match event {
        UserEvent::Registered { .. } => return register(step, event, rows).await,
        UserEvent::EmailChanged { to, .. } => vec![
            ("email", to.as_str().into()),
            ("email_folded", to.folded().into()),
        ],
        UserEvent::Renamed { to, .. } => vec![("name", to.as_str().into())],
        UserEvent::AttributesChanged { from, to } => {
            let mut attributes = attributes(step, rows).await?;
            attributes.replace(&from, to);
            vec![("attributes", json!(attributes).to_string().into())]
        }
        UserEvent::PreferencesChanged { to, .. } => vec![("preferences", json!(to).to_string().into())],
        UserEvent::Deactivated { reason } => vec![
            ("status", "deactivated".into()),
            ("deactivated_reason", reason.map(String::from).into()),
        ],
        UserEvent::Reactivated {} => {
            vec![
                ("status", "active".into()),
                ("deactivated_reason", Value::Text(None)),
            ]
        }
        UserEvent::Removed { .. } => vec![("status", "removed".into())],
        UserEvent::RoleGranted { role } => {
            give(step, &role, rows).await?;
            Vec::new()
        }
        UserEvent::RoleRevoked { role } => {
            take(step, &role, rows).await?;
            Vec::new()
        }
        // The rights of a user are judged from the log; here they only count as a change.
        UserEvent::PermissionSet { .. } | UserEvent::PermissionCleared { .. } => Vec::new(),
    };
    step.change(rows, &TABLE, changes).await
}

async fn register(step: &Step<'_>, event: UserEvent, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let UserEvent::Registered {
        email,
        name,
        attributes,
        roles,
    } = event
    else {
        return Ok(());
    };
    let values = vec![
        ("email", email.as_str().into()),
        ("email_folded", email.folded().into()),
        ("name", name.as_str().into()),
        ("status", "active".into()),
        ("attributes", json!(attributes).to_string().into()),
        ("preferences", "{}".into()),
        ("created_at", step.at().into()),
    ];
    step.create(rows, &TABLE, values).await?;
    // A user that was not there before has none of them yet.
    for role in &roles {
        rows.put(&ROLES, role_key(step, role));
    }
    Ok(())
}

async fn attributes(step: &Step<'_>, rows: &mut Rows<'_>) -> Result<Attributes, ApplyError> {
    let row = rows.get(&TABLE, step.key()).await?;
    let row = row.ok_or_else(|| step.poison(format!("there is no user {}", step.id())))?;
    let attributes = serde_json::from_str(TABLE.text(&row, "attributes"));
    Ok(attributes.map_err(|error| unreadable("attributes", error))?)
}

/// What names the row that says that a user has a role; it is the whole row.
fn role_key(step: &Step<'_>, role: &RoleId) -> Key {
    vec![step.tenant().into(), role.as_str().into(), step.id().into()]
}

async fn give(step: &Step<'_>, role: &RoleId, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let key = role_key(step, role);
    if rows.get(&ROLES, key.clone()).await?.is_some() {
        return Err(step.poison(format!("{} has the role {role} already", step.id())));
    }
    rows.put(&ROLES, key);
    Ok(())
}

async fn take(step: &Step<'_>, role: &RoleId, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let key = role_key(step, role);
    if rows.get(&ROLES, key.clone()).await?.is_none() {
        return Err(step.poison(format!("{} has not the role {role}", step.id())));
    }
    rows.remove(&ROLES, key);
    Ok(())
}
