//! Who holds a permission and why, and to whom a role gives what it grants.

use std::collections::{BTreeMap, BTreeSet};

use domain::access::{self, Right, Verdict};
use domain::role::{Role, Roles};
use domain::{Effect, Permission, RoleId, Scope, TenantId, Text, UserId};

use super::{ACTIVE, GRANTS, HELD, NAME, OWN, PARENTS, ROLES};
use crate::ReadModels;
use crate::page::{Answer, Listing, Page, QueryError};
use crate::read_models::Query;
use crate::sql::{Statement, Value, parsed, text, unreadable};
use crate::table::Column;

/// The lists' names in cursors.
const HOLDERS: &str = "permission holders";
const ROLE_HOLDERS: &str = "role holders";
/// How many lists one statement joins: SQLite takes 500 at most, and a plan of many is slow to make.
const JOINED: usize = 32;

/// A user that holds a permission.
#[derive(Debug, Clone, PartialEq)]
pub struct HolderRow {
    /// Which one.
    pub user: UserId,
    /// What gives it, by the shortest way.
    pub right: Right,
}

/// A user that has a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleHolderRow {
    /// Which one.
    pub user: UserId,
    /// The way to the role: the user's own role, the role that one inherits from, and so on to it.
    pub through: Vec<RoleId>,
}

/// Queries on a tenant's permissions.
#[derive(Debug, Clone, Copy)]
pub struct Permissions<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl Permissions<'_> {
    /// The projections the answers stand on: what to wait for to read one's own writes.
    pub const PROJECTIONS: [&'static str; 1] = [NAME];

    /// The active users that may do something, the newest first, each with what gives it.
    pub async fn holders(
        &self,
        permission: &Permission,
        page: &Page,
    ) -> Result<Answer<Listing<HolderRow>>, QueryError> {
        let after = after(page, HOLDERS)?;
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let roles = self.roles(&mut query).await?;
        let own = covering(permission);
        let gives = |id: &RoleId| roles.effective(id).iter().any(|grant| grant.covers(permission));
        let giving = roles.iter().map(|(id, _)| id).filter(|id| gives(id));
        let mut lists: Vec<List> = giving.map(|id| List::Role(id.as_str().to_owned())).collect();
        lists.extend(own.iter().cloned().map(List::Own));
        let users = self
            .newest(&mut query, &lists, &own, after.as_deref(), page)
            .await?;
        let mut held = self.held(&mut query, &users).await?;
        let mut allowed = self.allowed(&mut query, &users, &own).await?;
        let mut rows = Vec::new();
        for user in users {
            let has = held.remove(&user).unwrap_or_default();
            let by_itself = allowed.remove(&user).unwrap_or_default();
            let by_itself = by_itself.iter().map(|own| (own, Effect::Allow));
            // Those that are denied it were left out.
            if let Verdict::Allowed(right) = access::judge(by_itself, &has, &roles, permission) {
                let user = user.parse().map_err(|error| unreadable("user_id", error))?;
                rows.push(HolderRow { user, right });
            }
        }
        let listing = Listing::new(rows, page, HOLDERS, |row: &HolderRow| row.user.clone());
        query.answer(listing).await
    }

    /// The active users that have a role, by themselves or because one of theirs inherits from it, the newest first;
    /// none where there is no such role.
    pub async fn role_holders(
        &self,
        role: &RoleId,
        page: &Page,
    ) -> Result<Answer<Option<Listing<RoleHolderRow>>>, QueryError> {
        let after = after(page, ROLE_HOLDERS)?;
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let roles = self.roles(&mut query).await?;
        let ways = ways_to(role, &roles);
        if ways.is_empty() {
            return query.answer(None).await;
        }
        let lists = ways.keys().map(|id| List::Role(id.as_str().to_owned()));
        let lists: Vec<List> = lists.collect();
        let users = self
            .newest(&mut query, &lists, &[], after.as_deref(), page)
            .await?;
        let held = self.held(&mut query, &users).await?;
        let mut rows = Vec::new();
        for user in users {
            let has = held.get(&user).into_iter().flatten();
            let shortest = has.filter_map(|id| ways.get(id)).min_by_key(|way| way.len());
            if let Some(way) = shortest {
                rows.push(RoleHolderRow {
                    user: user.parse().map_err(|error| unreadable("user_id", error))?,
                    through: way.clone(),
                });
            }
        }
        let listing = Listing::new(rows, page, ROLE_HOLDERS, |row: &RoleHolderRow| row.user.clone());
        query.answer(Some(listing)).await
    }

    /// The tenant's roles, as far as rights need them; they are few.
    async fn roles(&self, query: &mut Query) -> Result<Roles, QueryError> {
        let mut roles: BTreeMap<RoleId, Role> = BTreeMap::new();
        for table in [&ROLES, &GRANTS, &PARENTS] {
            let select = format!("SELECT * FROM {} WHERE tenant = $1", query.table(table.name));
            let select = Statement::new(select).with(self.tenant.as_str());
            for row in query.rows(select).await? {
                let id: RoleId = parsed(&row, "role")?;
                if table.name == ROLES.name {
                    let role = bare(&id)?;
                    roles.insert(id, role);
                } else if let Some(role) = roles.get_mut(&id) {
                    if table.name == GRANTS.name {
                        role.permissions.insert(parsed(&row, "permission")?);
                    } else {
                        role.inherits.insert(parsed(&row, "parent")?);
                    }
                }
            }
        }
        Ok(roles.into_iter().collect())
    }

    /// The newest users of some lists, as many as a page needs.
    async fn newest(
        &self,
        query: &mut Query,
        lists: &[List],
        denied: &[String],
        after: Option<&str>,
        page: &Page,
    ) -> Result<Vec<String>, QueryError> {
        let mut users = BTreeSet::new();
        for joined in lists.chunks(JOINED) {
            users.extend(self.first(query, joined, denied, after, page).await?);
        }
        Ok(users.into_iter().rev().take(page.size() + 1).collect())
    }

    /// The users at the beginning of some lists, as many of each as a page needs: active ones that are not denied any
    /// of these permissions.
    async fn first(
        &self,
        query: &mut Query,
        lists: &[List],
        denied: &[String],
        after: Option<&str>,
        page: &Page,
    ) -> Result<Vec<String>, QueryError> {
        let active = query.table(ACTIVE.name);
        let own = query.table(OWN.name);
        let mut select = Statement::new("");
        for (number, list) in lists.iter().enumerate() {
            let (table, column, value) = match list {
                List::Role(role) => (query.table(HELD.name), "role", role),
                List::Own(permission) => (own.clone(), "permission", permission),
            };
            let union = if number == 0 { "" } else { " UNION ALL " };
            select.push(&format!(
                "{union}SELECT user_id FROM (SELECT l.user_id FROM {table} l WHERE l.tenant = "
            ));
            select
                .bind(self.tenant.as_str())
                .push(&format!(" AND l.{column} = "));
            select.bind(value.as_str());
            if let List::Own(_) = list {
                select.push(" AND l.effect = 'allow'");
            }
            if let Some(after) = after {
                select.push(" AND l.user_id < ").bind(after);
            }
            select.push(&format!(
                " AND EXISTS (SELECT 1 FROM {active} a WHERE a.tenant = l.tenant AND a.user_id = l.user_id"
            ));
            if let Some(after) = after {
                // Told again: PostgreSQL may read both from their ends side by side.
                select.push(" AND a.user_id < ").bind(after);
            }
            select.push(")");
            for permission in denied {
                select
                    .push(&format!(
                        " AND NOT EXISTS (SELECT 1 FROM {own} d WHERE d.tenant = l.tenant AND d.permission = "
                    ))
                    .bind(permission.as_str())
                    .push(" AND d.user_id = l.user_id AND d.effect = 'deny')");
            }
            select
                .push(" ORDER BY l.user_id DESC LIMIT ")
                .bind(page.size() as u64 + 1)
                .push(&format!(") AS l{number}"));
        }
        let rows = query.rows(select).await?;
        Ok(rows
            .iter()
            .map(|row| text(row, "user_id"))
            .collect::<Result<_, _>>()?)
    }

    /// The roles of these users.
    async fn held(
        &self,
        query: &mut Query,
        users: &[String],
    ) -> Result<BTreeMap<String, BTreeSet<RoleId>>, QueryError> {
        let mut held: BTreeMap<String, BTreeSet<RoleId>> = BTreeMap::new();
        if users.is_empty() {
            return Ok(held);
        }
        let table = query.table(HELD.name);
        let select = self.of_users(
            format!("SELECT user_id, role FROM {table} WHERE tenant = "),
            users,
        );
        for row in query.rows(select).await? {
            let role = parsed(&row, "role")?;
            held.entry(text(&row, "user_id")?).or_default().insert(role);
        }
        Ok(held)
    }

    /// Which of some permissions these users are allowed by themselves.
    async fn allowed(
        &self,
        query: &mut Query,
        users: &[String],
        permissions: &[String],
    ) -> Result<BTreeMap<String, Vec<Permission>>, QueryError> {
        let mut allowed: BTreeMap<String, Vec<Permission>> = BTreeMap::new();
        if users.is_empty() {
            return Ok(allowed);
        }
        let table = query.table(OWN.name);
        let select = format!("SELECT user_id, permission FROM {table} WHERE effect = 'allow' AND tenant = ");
        let mut select = self.of_users(select, users);
        select
            .push(" AND permission IN ")
            .bind_rows([values(permissions)]);
        for row in query.rows(select).await? {
            let permission = parsed(&row, "permission")?;
            allowed
                .entry(text(&row, "user_id")?)
                .or_default()
                .push(permission);
        }
        for permissions in allowed.values_mut() {
            permissions.sort();
        }
        Ok(allowed)
    }

    fn of_users(&self, select: String, users: &[String]) -> Statement {
        let mut select = Statement::new(select);
        select.bind(self.tenant.as_str()).push(" AND user_id IN ");
        select.bind_rows([values(users)]);
        select
    }
}

/// A list of users, in the order of their ids.
enum List {
    /// Those that have a role.
    Role(String),
    /// Those that are allowed a permission by themselves.
    Own(String),
}

fn values(texts: &[String]) -> Vec<Value> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

fn after(page: &Page, list: &str) -> Result<Option<String>, QueryError> {
    let key = page.after_key(list, &[Column::text("user_id")])?;
    let key = key.and_then(|mut values| values.pop());
    Ok(key.and_then(|value| value.as_text().map(str::to_owned)))
}

/// A role that grants nothing yet.
fn bare(id: &RoleId) -> Result<Role, sqlx::Error> {
    Ok(Role {
        name: Text::new(id.as_str()).map_err(|error| unreadable("role", error))?,
        description: None,
        permissions: BTreeSet::new(),
        inherits: BTreeSet::new(),
        template: None,
    })
}

/// The roles that consist of this one, each with the way from it to this one.
fn ways_to(role: &RoleId, roles: &Roles) -> BTreeMap<RoleId, Vec<RoleId>> {
    let way = |from: &RoleId| {
        let mut reached = roles.reach([from]).into_iter().map(|(way, _)| way);
        let way = reached.find(|way| way.last() == Some(&role))?;
        Some(way.into_iter().cloned().collect())
    };
    let all = roles.iter().map(|(id, _)| id);
    all.filter_map(|id| Some((id.clone(), way(id)?))).collect()
}

/// The permissions of a user itself that cover one: itself, and the same in wider scopes.
fn covering(permission: &Permission) -> Vec<String> {
    [Scope::Own, Scope::Team, Scope::Tenant]
        .into_iter()
        .filter(|scope| *scope >= permission.scope())
        .map(|scope| {
            let (resource, action) = (permission.resource(), permission.action());
            format!("{resource}.{action}.{}", scope.as_str())
        })
        .collect()
}
