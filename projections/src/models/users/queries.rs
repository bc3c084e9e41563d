//! What is asked about users.

use std::collections::BTreeMap;

use domain::user::{Email, UserStatus};
use domain::{RoleId, TenantId, Timestamp, UserId};
use serde::Serialize;
use serde_json::{Map, Value as Json};
use sqlx::any::AnyRow;

use super::NAME;
use crate::ReadModels;
use crate::page::{Answer, Listing, Page, QueryError};
use crate::read_models::{Keyset, Query};
use crate::sql::{Statement, json as json_column, optional_text, parsed, text, time, unreadable};
use crate::table::Column;

/// A user as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UserRow {
    /// Its id.
    pub id: UserId,
    /// The address as written.
    pub email: String,
    /// The display name.
    pub name: String,
    /// What it is.
    pub status: UserStatus,
    /// Why it was deactivated, while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deactivated_reason: Option<String>,
    /// What the tenant keeps about it.
    pub attributes: Map<String, Json>,
    /// The roles it has, in the order of their ids.
    pub roles: Vec<RoleId>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl UserRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let status = text(row, "status")?;
        let status = serde_json::from_value(status.into()).map_err(|error| unreadable("status", error))?;
        Ok(Self {
            id: parsed(row, "id")?,
            email: text(row, "email")?,
            name: text(row, "name")?,
            status,
            deactivated_reason: optional_text(row, "deactivated_reason")?,
            attributes: json_column(row, "attributes")?,
            roles: Vec::new(),
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

/// Which users are wanted; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// Those that are this; all but the removed unless given.
    pub status: Option<UserStatus>,
    /// The one with this address; upper and lower case count as the same.
    pub email: Option<Email>,
    /// Those that have this role.
    pub role: Option<RoleId>,
}

impl UserFilter {
    /// Narrows the users of a tenant, whose roles are in the table `roles`.
    fn narrow(&self, select: &mut Statement, tenant: &TenantId, roles: &str) {
        match self.status {
            None => select.push(" AND status <> 'removed'"),
            Some(status) => select.push(" AND status = ").bind(word(status)),
        };
        if let Some(email) = &self.email {
            select.push(" AND email_folded = ").bind(email.folded());
        }
        if let Some(role) = &self.role {
            select.push(&format!(
                " AND id IN (SELECT user_id FROM {roles} WHERE tenant = "
            ));
            select.bind(tenant.as_str()).push(" AND role = ");
            select.bind(role.as_str()).push(")");
        }
    }
}

fn word(status: UserStatus) -> &'static str {
    match status {
        UserStatus::Active => "active",
        UserStatus::Deactivated => "deactivated",
        UserStatus::Removed => "removed",
    }
}

/// Queries on a tenant's users.
#[derive(Debug, Clone, Copy)]
pub struct Users<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl Users<'_> {
    /// The users, newest first.
    pub async fn list(
        &self,
        filter: &UserFilter,
        page: &Page,
    ) -> Result<Answer<Listing<UserRow>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new(format!("SELECT * FROM {} WHERE tenant = ", query.table("users")));
        select.bind(self.tenant.as_str());
        filter.narrow(&mut select, self.tenant, &query.table("user_roles"));
        let keyset = Keyset {
            list: NAME,
            select,
            order: &[Column::text("id")],
            page,
        };
        let mut listing = query.page(keyset, UserRow::read).await?;
        self.add_roles(&mut query, &mut listing.data).await?;
        query.answer(listing).await
    }

    /// One user, a removed one too.
    pub async fn get(&self, id: &UserId) -> Result<Answer<Option<UserRow>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let users = query.table("users");
        let select = Statement::new(format!("SELECT * FROM {users} WHERE tenant = $1 AND id = $2"))
            .with(self.tenant.as_str())
            .with(id.as_str());
        let rows = query.rows(select).await?;
        let mut found = rows.first().map(UserRow::read).transpose()?;
        self.add_roles(&mut query, found.as_mut_slice()).await?;
        query.answer(found).await
    }

    /// What a user keeps for itself.
    pub async fn preferences(&self, id: &UserId) -> Result<Answer<Option<Map<String, Json>>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let users = query.table("users");
        let select =
            format!("SELECT preferences FROM {users} WHERE tenant = $1 AND id = $2 AND status <> 'removed'");
        let select = Statement::new(select)
            .with(self.tenant.as_str())
            .with(id.as_str());
        let rows = query.rows(select).await?;
        let found = rows
            .first()
            .map(|row| json_column(row, "preferences"))
            .transpose()?;
        query.answer(found).await
    }

    /// Adds the roles of these users.
    async fn add_roles(&self, query: &mut Query, users: &mut [UserRow]) -> Result<(), QueryError> {
        if users.is_empty() {
            return Ok(());
        }
        let roles = query.table("user_roles");
        let mut select = Statement::new(format!("SELECT user_id, role FROM {roles} WHERE tenant = "));
        select.bind(self.tenant.as_str()).push(" AND user_id IN (");
        for (number, user) in users.iter().enumerate() {
            select
                .push(if number == 0 { "" } else { ", " })
                .bind(user.id.as_str());
        }
        select.push(") ORDER BY role");
        let mut roles: BTreeMap<String, Vec<RoleId>> = BTreeMap::new();
        for row in query.rows(select).await? {
            roles
                .entry(text(&row, "user_id")?)
                .or_default()
                .push(parsed(&row, "role")?);
        }
        for user in users {
            user.roles = roles.remove(user.id.as_str()).unwrap_or_default();
        }
        Ok(())
    }
}
