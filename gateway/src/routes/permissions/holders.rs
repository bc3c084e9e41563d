//! `/v1/permissions/holders` and `/v1/roles/{id}/holders`: who may do something, and to whom a role gives what it
//! grants.
//!
//! Answered by a read model, which may lag: for looking. Whether somebody may do something is decided on the log.

use axum::extract::State;
use domain::access::Verdict;
use domain::{Grant, Permission, RoleId, UserId};
use projections::{HolderRow, Page, Permissions, RoleHolderRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Id, Limit, Parameters};
use crate::guard::{may, needs};
use crate::problem::Problem;

/// These operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::READ_USERS, routes!(list_holders)))
        .routes(needs(may::READ_USERS, routes!(list_role_holders)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct HolderQuery {
    /// What they may do: `resource.action.scope`.
    #[param(value_type = String, example = "users.read.tenant")]
    permission: Permission,
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct RoleHolderQuery {
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A user that may do it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Holder)]
struct HolderView {
    /// The user's id.
    #[schema(value_type = String)]
    user: UserId,
    /// What grants it: the permission, or one that covers it.
    #[schema(value_type = String, example = "users.read.tenant")]
    granted_by: Grant,
    /// Where that comes from: the user's role, the role that one inherits from, and so on. Empty where the user has it
    /// by itself.
    #[schema(value_type = Vec<String>)]
    through: Vec<RoleId>,
    /// The same in words, as a check tells it.
    #[schema(example = "granted by users.read.tenant through rol_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    reason: String,
}

/// A user that has the role.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RoleHolder)]
struct RoleHolderView {
    /// The user's id.
    #[schema(value_type = String)]
    user: UserId,
    /// The way to the role: the user's own role, the role that one inherits from, and so on to it.
    #[schema(value_type = Vec<String>)]
    through: Vec<RoleId>,
}

/// List who holds a permission
///
/// Active users that have it by themselves or through their roles, and are not denied it; why, for each.
#[utoipa::path(
    get, path = "/v1/permissions/holders", tag = "roles", params(HolderQuery),
    responses((status = 200, description = "A page of users, the newest first.", body = List<HolderView>))
)]
async fn list_holders(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<HolderQuery>,
) -> Result<Found<List<HolderView>>, Problem> {
    at_least.reached(&app, &Permissions::PROJECTIONS).await?;
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    let permissions = app.read_models.permissions(&member.tenant);
    let holders = permissions.holders(&query.permission, &page).await?;
    Ok(Found::list(holders, HolderView::from))
}

/// List who has a role
///
/// Active users that have it by themselves, or a role that inherits from it; they are given what `effective` of the
/// role names, unless they are denied it.
#[utoipa::path(
    get, path = "/v1/roles/{id}/holders", tag = "roles",
    params(("id" = String, Path, description = "The role's id."), RoleHolderQuery),
    responses((status = 200, description = "A page of users, the newest first.", body = List<RoleHolderView>))
)]
async fn list_role_holders(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<RoleId>,
    Parameters(query): Parameters<RoleHolderQuery>,
) -> Result<Found<List<RoleHolderView>>, Problem> {
    at_least.reached(&app, &Permissions::PROJECTIONS).await?;
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    let permissions = app.read_models.permissions(&member.tenant);
    Found::one(permissions.role_holders(&id, &page).await?, |page| List {
        data: page.data.into_iter().map(RoleHolderView::from).collect(),
        next_cursor: page.next_cursor,
    })
}

impl From<HolderRow> for HolderView {
    fn from(row: HolderRow) -> Self {
        Self {
            user: row.user,
            granted_by: row.right.grant.clone(),
            through: row.right.through.clone(),
            reason: Verdict::Allowed(row.right).to_string(),
        }
    }
}

impl From<RoleHolderRow> for RoleHolderView {
    fn from(row: RoleHolderRow) -> Self {
        Self {
            user: row.user,
            through: row.through,
        }
    }
}
