//! Users of a tenant, and the roles they have.

mod queries;

use async_trait::async_trait;
use domain::user::{Attributes, UserEvent};
use domain::{RoleId, Source};
use serde_json::json;

use crate::events::{Step, steps};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::sql::{Statement, Value, Writer, json as json_column};

pub use queries::{UserFilter, UserRow, Users};

const NAME: &str = "users";
const TABLE: &str = "users";
const ROLES: &str = "user_roles";

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

    fn tables(&self) -> &'static [&'static str] {
        &[TABLE, ROLES]
    }

    async fn apply(&self, batch: &[Incoming], out: &mut Writer<'_>) -> Result<(), ApplyError> {
        for step in steps::<UserEvent>(batch, "user") {
            let (step, event) = step?;
            fold(&step, event, out).await?;
        }
        Ok(())
    }
}

async fn fold(step: &Step<'_>, event: UserEvent, out: &mut Writer<'_>) -> Result<(), ApplyError> {
    let changes = match event {
        UserEvent::Registered { .. } => return register(step, event, out).await,
        UserEvent::EmailChanged { to, .. } => vec![
            ("email", to.as_str().into()),
            ("email_folded", to.folded().into()),
        ],
        UserEvent::Renamed { to, .. } => vec![("name", to.as_str().into())],
        UserEvent::AttributesChanged { from, to } => {
            let mut attributes = attributes(step, out).await?;
            attributes.replace(&from, to);
            vec![("attributes", json!(attributes).to_string().into())]
        }
        UserEvent::PreferencesChanged { to } => vec![("preferences", json!(to).to_string().into())],
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
            give(step, &[role], out).await?;
            Vec::new()
        }
        UserEvent::RoleRevoked { role } => {
            take(step, &role, out).await?;
            Vec::new()
        }
        // The rights of a user are judged from the log; here they only count as a change.
        UserEvent::PermissionSet { .. } | UserEvent::PermissionCleared { .. } => Vec::new(),
    };
    step.change(out, TABLE, changes).await
}

async fn register(step: &Step<'_>, event: UserEvent, out: &mut Writer<'_>) -> Result<(), ApplyError> {
    let UserEvent::Registered {
        email,
        name,
        attributes,
        roles,
    } = event
    else {
        return Ok(());
    };
    let columns = [
        "tenant",
        "id",
        "email",
        "email_folded",
        "name",
        "attributes",
        "created_at",
        "updated_at",
        "version",
    ];
    let row = vec![
        step.tenant().into(),
        step.id().into(),
        email.as_str().into(),
        email.folded().into(),
        name.as_str().into(),
        json!(attributes).to_string().into(),
        step.at().into(),
        step.at().into(),
        step.version.into(),
    ];
    step.create(out, TABLE, &columns, row).await?;
    give(step, roles.iter(), out).await
}

async fn attributes(step: &Step<'_>, out: &mut Writer<'_>) -> Result<Attributes, ApplyError> {
    let select = format!(
        "SELECT attributes FROM {} WHERE tenant = $1 AND id = $2",
        out.table(TABLE)
    );
    let rows = out
        .rows(Statement::new(select).with(step.tenant()).with(step.id()))
        .await?;
    match rows.first() {
        Some(row) => Ok(json_column(row, "attributes")?),
        None => Err(step.poison(format!("there is no user {}", step.id()))),
    }
}

async fn give<'r>(
    step: &Step<'_>,
    roles: impl IntoIterator<Item = &'r RoleId>,
    out: &mut Writer<'_>,
) -> Result<(), ApplyError> {
    let row = |role: &RoleId| vec![step.tenant().into(), role.as_str().into(), step.id().into()];
    let rows: Vec<Vec<Value>> = roles.into_iter().map(row).collect();
    Ok(out
        .insert(ROLES, &["tenant", "role", "user_id"], rows, "")
        .await?)
}

async fn take(step: &Step<'_>, role: &RoleId, out: &mut Writer<'_>) -> Result<(), ApplyError> {
    let delete = format!(
        "DELETE FROM {} WHERE tenant = $1 AND role = $2 AND user_id = $3",
        out.table(ROLES)
    );
    let delete = Statement::new(delete)
        .with(step.tenant())
        .with(role.as_str())
        .with(step.id());
    match out.execute(delete).await? {
        1 => Ok(()),
        _ => Err(step.poison(format!("{} has not the role {role}", step.id()))),
    }
}
