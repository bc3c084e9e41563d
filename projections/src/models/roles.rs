//! Roles of a tenant.

use std::collections::BTreeSet;

use async_trait::async_trait;
use domain::role::{Role, RolesEvent, Template};
use domain::{Grant, RoleId, Source, TenantId, Text, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sqlx::any::AnyRow;

use crate::ReadModels;
use crate::events::{Step, steps};
use crate::page::{Answer, Listing, Page, QueryError};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::read_models::Keyset;
use crate::rows::Rows;
use crate::sql::{Statement, Value, json as json_column, optional_text, parsed, text, time, unreadable};
use crate::table::{Column, Growth, Key, Row, Table};

const NAME: &str = "roles";

static TABLE: Table = Table {
    name: "roles",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::text("id"),
        Column::text("name"),
        Column::text("description"),
        Column::text("permissions"),
        Column::text("inherits"),
        Column::text("template"),
        Column::int("created_at"),
        Column::int("updated_at"),
    ],
    growth: Growth::Kept,
};

/// The versions of the aggregates, each of which keeps all roles of a tenant.
static GRAPHS: Table = Table {
    name: "role_graphs",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::text("id"),
        Column::int("updated_at"),
        Column::int("version"),
    ],
    growth: Growth::Kept,
};

/// The fold.
#[derive(Debug)]
pub(super) struct RolesProjection;

#[async_trait]
impl Projection for RolesProjection {
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
        const { &[&TABLE, &GRAPHS] }
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        let steps = steps::<RolesEvent>(batch, "roles", &GRAPHS, rows).await?;
        let keys = steps.iter().map(|(step, event)| key(step, role_of(event)));
        rows.load(&TABLE, keys).await?;
        for (step, event) in steps {
            if step.version == 1 {
                step.create(rows, &GRAPHS, Vec::new()).await?;
            } else {
                step.change(rows, &GRAPHS, Vec::new()).await?;
            }
            Line { step: &step, rows }.fold(event).await?;
        }
        Ok(())
    }
}

fn role_of(event: &RolesEvent) -> &RoleId {
    match event {
        RolesEvent::Defined { role, .. }
        | RolesEvent::Renamed { role, .. }
        | RolesEvent::Described { role, .. }
        | RolesEvent::PermissionsChanged { role, .. }
        | RolesEvent::InheritanceChanged { role, .. }
        | RolesEvent::Retired { role } => role,
    }
}

fn key(step: &Step<'_>, role: &RoleId) -> Key {
    vec![step.tenant().into(), role.as_str().into()]
}

/// One event on its way into the table of roles.
struct Line<'l, 'b, 'r> {
    step: &'l Step<'b>,
    rows: &'l mut Rows<'r>,
}

impl Line<'_, '_, '_> {
    async fn fold(&mut self, event: RolesEvent) -> Result<(), ApplyError> {
        match event {
            RolesEvent::Defined {
                role,
                name,
                description,
                permissions,
                inherits,
                template,
            } => {
                let role_row = Role {
                    name,
                    description,
                    permissions,
                    inherits,
                    template,
                };
                self.define(&role, &role_row).await
            }
            RolesEvent::Renamed { role, to, .. } => self.set(&role, "name", to.as_str()).await,
            RolesEvent::Described { role, to, .. } => {
                self.set(&role, "description", to.map(String::from)).await
            }
            RolesEvent::PermissionsChanged { role, added, removed } => {
                self.swap(&role, "permissions", &added, &removed).await
            }
            RolesEvent::InheritanceChanged { role, added, removed } => {
                self.swap(&role, "inherits", &added, &removed).await
            }
            RolesEvent::Retired { role } => {
                self.present(&role).await?;
                self.rows.remove(&TABLE, key(self.step, &role));
                Ok(())
            }
        }
    }

    async fn define(&mut self, id: &RoleId, role: &Role) -> Result<(), ApplyError> {
        if self.rows.get(&TABLE, key(self.step, id)).await?.is_some() {
            return Err(self.step.poison(format!("there is a role {id} already")));
        }
        let values = vec![
            ("tenant", self.step.tenant().into()),
            ("id", id.as_str().into()),
            ("name", role.name.as_str().into()),
            ("description", role.description.clone().map(String::from).into()),
            ("permissions", json!(role.permissions).to_string().into()),
            ("inherits", json!(role.inherits).to_string().into()),
            (
                "template",
                role.template.map(|template| template.as_str().to_owned()).into(),
            ),
            ("created_at", self.step.at().into()),
            ("updated_at", self.step.at().into()),
        ];
        self.rows.put(&TABLE, TABLE.row(values));
        Ok(())
    }

    /// Changes a set that a column holds.
    async fn swap<T: Ord + Clone + Serialize + DeserializeOwned>(
        &mut self,
        id: &RoleId,
        column: &'static str,
        added: &BTreeSet<T>,
        removed: &BTreeSet<T>,
    ) -> Result<(), ApplyError> {
        let row = self.present(id).await?;
        let present: BTreeSet<T> =
            serde_json::from_str(TABLE.text(&row, column)).map_err(|error| unreadable(column, error))?;
        let after = &(&present - removed) | added;
        self.set(id, column, json!(after).to_string()).await
    }

    async fn set(&mut self, id: &RoleId, column: &str, to: impl Into<Value>) -> Result<(), ApplyError> {
        let mut row = self.present(id).await?;
        TABLE.set(&mut row, "updated_at", self.step.at().into());
        TABLE.set(&mut row, column, to.into());
        self.rows.put(&TABLE, row);
        Ok(())
    }

    /// The row of a role, which must be there.
    async fn present(&mut self, id: &RoleId) -> Result<Row, ApplyError> {
        let row = self.rows.get(&TABLE, key(self.step, id)).await?;
        row.ok_or_else(|| self.step.poison(format!("there is no role {id}")))
    }
}

/// A role as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoleRow {
    /// Its id.
    pub id: RoleId,
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What it grants by itself.
    pub permissions: BTreeSet<Grant>,
    /// The roles it inherits from.
    pub inherits: BTreeSet<RoleId>,
    /// The template it was made from.
    pub template: Option<Template>,
    /// When it was defined.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl RoleRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let template = optional_text(row, "template")?;
        let template = template.map(|name| serde_json::from_value(json!(name)));
        Ok(Self {
            id: parsed(row, "id")?,
            name: text(row, "name")?,
            description: optional_text(row, "description")?,
            permissions: json_column(row, "permissions")?,
            inherits: json_column(row, "inherits")?,
            template: template
                .transpose()
                .map_err(|error| unreadable("template", error))?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

/// A role with what it grants by inheritance too.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleDetail {
    /// The role.
    pub role: RoleRow,
    /// What it grants, by itself and by inheritance.
    pub effective: BTreeSet<Grant>,
}

/// Queries on a tenant's roles; those retired are not shown.
#[derive(Debug, Clone, Copy)]
pub struct RolesOf<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl RolesOf<'_> {
    /// The roles, newest first.
    pub async fn list(&self, page: &Page) -> Result<Answer<Listing<RoleRow>>, QueryError> {
        let query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new(format!("SELECT * FROM {} WHERE tenant = ", query.table("roles")));
        select.bind(self.tenant.as_str());
        let keyset = Keyset {
            list: NAME,
            select,
            order: &[Column::text("id")],
            page,
        };
        query.list(keyset, RoleRow::read).await
    }

    /// One role. A tenant's roles are few, so that all are read to follow what it inherits.
    pub async fn get(&self, id: &RoleId) -> Result<Answer<Option<RoleDetail>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let select = format!("SELECT * FROM {} WHERE tenant = $1", query.table("roles"));
        let select = Statement::new(select).with(self.tenant.as_str());
        let rows = query.rows(select).await?;
        let rows: Vec<_> = rows.iter().map(RoleRow::read).collect::<Result<_, _>>()?;
        let Some(role) = rows.iter().find(|row| row.id == *id).cloned() else {
            return query.answer(None).await;
        };
        let graph = rows.into_iter().map(in_graph).collect::<Result<_, _>>()?;
        let graph: domain::role::Roles = graph;
        let effective = graph.effective(id).into_iter().cloned().collect();
        query.answer(Some(RoleDetail { role, effective })).await
    }
}

fn in_graph(row: RoleRow) -> Result<(RoleId, Role), sqlx::Error> {
    let name = Text::new(&row.name).map_err(|error| unreadable("name", error))?;
    let role = Role {
        name,
        description: None,
        permissions: row.permissions,
        inherits: row.inherits,
        template: row.template,
    };
    Ok((row.id, role))
}
