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
use crate::sql::{
    Statement, Value, Writer, json as json_column, optional_text, parsed, text, time, unreadable,
};

const NAME: &str = "roles";
const TABLE: &str = "roles";
/// The versions of the aggregates, each of which keeps all roles of a tenant.
const GRAPHS: &str = "role_graphs";

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

    fn tables(&self) -> &'static [&'static str] {
        &[TABLE, GRAPHS]
    }

    async fn apply(&self, batch: &[Incoming], out: &mut Writer<'_>) -> Result<(), ApplyError> {
        for step in steps::<RolesEvent>(batch, "roles") {
            let (step, event) = step?;
            if step.version == 1 {
                let columns = ["tenant", "id", "updated_at", "version"];
                let row = vec![
                    step.tenant().into(),
                    step.id().into(),
                    step.at().into(),
                    step.version.into(),
                ];
                step.create(out, GRAPHS, &columns, row).await?;
            } else {
                step.change(out, GRAPHS, Vec::new()).await?;
            }
            Line { step: &step, out }.fold(event).await?;
        }
        Ok(())
    }
}

/// One event on its way into the table of roles.
struct Line<'l, 'b, 'w> {
    step: &'l Step<'b>,
    out: &'l mut Writer<'w>,
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
                let mut delete = Statement::new(format!("DELETE FROM {}", self.out.table(TABLE)));
                self.of(&mut delete, &role);
                self.one(delete, &role).await
            }
        }
    }

    async fn define(&mut self, id: &RoleId, role: &Role) -> Result<(), ApplyError> {
        let columns = [
            "tenant",
            "id",
            "name",
            "description",
            "permissions",
            "inherits",
            "template",
            "created_at",
            "updated_at",
        ];
        let row: Vec<Value> = vec![
            self.step.tenant().into(),
            id.as_str().into(),
            role.name.as_str().into(),
            role.description.clone().map(String::from).into(),
            json!(role.permissions).to_string().into(),
            json!(role.inherits).to_string().into(),
            role.template.map(|template| template.as_str().to_owned()).into(),
            self.step.at().into(),
            self.step.at().into(),
        ];
        Ok(self.out.insert(TABLE, &columns, vec![row], "").await?)
    }

    /// Changes a set that a column holds.
    async fn swap<T: Ord + Clone + Serialize + DeserializeOwned>(
        &mut self,
        id: &RoleId,
        column: &'static str,
        added: &BTreeSet<T>,
        removed: &BTreeSet<T>,
    ) -> Result<(), ApplyError> {
        let mut select = Statement::new(format!("SELECT {column} FROM {}", self.out.table(TABLE)));
        self.of(&mut select, id);
        let rows = self.out.rows(select).await?;
        let row = rows.first().ok_or_else(|| self.missing(id))?;
        let present: BTreeSet<T> = json_column(row, column)?;
        let after = &(&present - removed) | added;
        self.set(id, column, json!(after).to_string()).await
    }

    async fn set(&mut self, id: &RoleId, column: &str, to: impl Into<Value>) -> Result<(), ApplyError> {
        let mut update = Statement::new(format!("UPDATE {} SET updated_at = ", self.out.table(TABLE)));
        update
            .bind(self.step.at())
            .push(", ")
            .push(column)
            .push(" = ")
            .bind(to);
        self.of(&mut update, id);
        self.one(update, id).await
    }

    fn of(&self, statement: &mut Statement, id: &RoleId) {
        statement.push(" WHERE tenant = ").bind(self.step.tenant());
        statement.push(" AND id = ").bind(id.as_str());
    }

    async fn one(&mut self, statement: Statement, id: &RoleId) -> Result<(), ApplyError> {
        match self.out.execute(statement).await? {
            1 => Ok(()),
            _ => Err(self.missing(id)),
        }
    }

    fn missing(&self, id: &RoleId) -> ApplyError {
        self.step.poison(format!("there is no role {id}"))
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
        let after: Option<String> = page.after(NAME)?;
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new("SELECT * FROM roles WHERE tenant = ");
        select.bind(self.tenant.as_str());
        if let Some(after) = after {
            select.push(" AND id < ").bind(after);
        }
        select
            .push(" ORDER BY id DESC LIMIT ")
            .bind(page.size() as u64 + 1);
        let rows = query.rows(select).await?;
        let rows = rows.iter().map(RoleRow::read).collect::<Result<_, _>>()?;
        query
            .answer(Listing::new(rows, page, NAME, |row: &RoleRow| row.id.clone()))
            .await
    }

    /// One role. A tenant's roles are few, so that all are read to follow what it inherits.
    pub async fn get(&self, id: &RoleId) -> Result<Answer<Option<RoleDetail>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let select = Statement::new("SELECT * FROM roles WHERE tenant = $1").with(self.tenant.as_str());
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
