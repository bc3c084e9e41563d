//! What a user may do: its roles, and what it is allowed and denied by itself.

use std::time::Duration;

use axum::extract::State;
use domain::access::{self, Right};
use domain::role::Roles;
use domain::user::{User, UserCommand, UserStatus};
use domain::{Effect, Grant, Permission, RoleId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{TAG, carry_out, done, execute};
use crate::answer::Done;
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found};
use crate::extract::{Body, Id, Pair};
use crate::gifts::{self, Gifts};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody};
use crate::proofs;

/// These operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::GRANT_ROLES, routes!(grant_role, revoke_role)))
        .routes(needs(may::READ_USERS, routes!(list_rights)))
        .routes(needs(may::GRANT_ROLES, routes!(set_permission, clear_permission)))
}

/// Whether a permission is allowed or denied.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Setting {
    /// `allow` or `deny`; what is denied wins over all that allows it.
    #[schema(value_type = String, example = "deny")]
    effect: Effect,
}

/// All that a user is allowed and denied.
#[derive(Debug, Serialize, ToSchema)]
struct Rights {
    /// Whether the user is active; otherwise it may do nothing, whatever it has.
    active: bool,
    /// Its own word first, then what its roles grant, the shortest ways first.
    data: Vec<RightView>,
}

/// Something a user is allowed or denied.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Right)]
struct RightView {
    /// What, as a permission or a pattern of permissions.
    #[schema(value_type = String, example = "users.read.tenant")]
    permission: Grant,
    /// `allow` or `deny`.
    #[schema(value_type = String, example = "allow")]
    effect: Effect,
    /// Where it comes from: the user's role, the role that one inherits from, and so on. Empty where the user has it
    /// by itself.
    #[schema(value_type = Vec<String>)]
    through: Vec<RoleId>,
}

/// Grant a role to a user
///
/// The caller's key must cover all that the role grants.
#[utoipa::path(
    put, path = "/v1/users/{id}/roles/{role}", tag = TAG,
    params(
        ("id" = String, Path, description = "The user's id."),
        ("role" = String, Path, description = "The role's id."),
    ),
    responses(
        (status = 204, description = "The user has the role."),
        (status = 409, description = "`not_possible`: The user is deactivated or removed. `limit_reached`: The user \
            has 32 roles.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn grant_role(
    member: Member,
    State(app): State<App>,
    Pair(id, role): Pair<UserId, RoleId>,
) -> Result<Done, Problem> {
    let call = member.meta("GrantRole");
    if let Some(done) = done(&app, &member, &id, &call).await? {
        return Ok(done);
    }
    Gifts::of(&app, &member).await?.role(&role)?;
    let command = UserCommand::GrantRole { role };
    carry_out(&app, &member, &id, command, call).await
}

/// Revoke a role of a user
#[utoipa::path(
    delete, path = "/v1/users/{id}/roles/{role}", tag = TAG,
    params(
        ("id" = String, Path, description = "The user's id."),
        ("role" = String, Path, description = "The role's id."),
    ),
    responses(
        (status = 204, description = "The user has not the role."),
        (status = 409, description = "`not_possible`: The user is removed.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn revoke_role(
    member: Member,
    State(app): State<App>,
    Pair(id, role): Pair<UserId, RoleId>,
) -> Result<Done, Problem> {
    let command = UserCommand::RevokeRole { role };
    execute(&app, &member, &id, command, "RevokeRole").await
}

/// List what a user may do
///
/// Judged by the log itself, so it has seen every change that was acknowledged. The list is whole: a user has at most
/// 256 permissions of its own, and the roles of a tenant grant at most 8192.
#[utoipa::path(
    get, path = "/v1/users/{id}/permissions", tag = TAG,
    params(("id" = String, Path, description = "The user's id.")),
    responses((status = 200, description = "All that the user is allowed and denied, and why.", body = Rights))
)]
async fn list_rights(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<UserId>,
) -> Result<Found<Rights>, Problem> {
    let truth = at_least.judged(&app).await?;
    let (tenant, now) = (&member.tenant, Duration::ZERO);
    let unavailable = |error| Problem::unavailable(&error);
    let user = app.dispatcher.load::<User>(tenant, id.as_str(), now).await;
    let user = user.map_err(unavailable)?;
    let roles = app.dispatcher.load::<Roles>(tenant, tenant.as_str(), now).await;
    let roles = roles.map_err(unavailable)?;
    let truth = truth.with(proofs::position(user.sequence.max(roles.sequence)));
    let status = user.aggregate.status().ok_or_else(|| truth.not_found())?;
    let rights = Rights {
        active: status == UserStatus::Active,
        data: access::rights(&user.aggregate, &roles.aggregate)
            .into_iter()
            .map(RightView::from)
            .collect(),
    };
    Ok(truth.of(rights))
}

/// Allow or deny a user one permission
///
/// To allow it, the caller's key must cover it. What is denied wins over all that allows it.
#[utoipa::path(
    put, path = "/v1/users/{id}/permissions/{permission}", tag = TAG,
    params(
        ("id" = String, Path, description = "The user's id."),
        ("permission" = String, Path, description = "As `users.read.tenant`."),
    ),
    request_body = Setting,
    responses(
        (status = 204, description = "The permission is allowed or denied."),
        (status = 409, description = "`not_possible`: The user is deactivated or removed. `limit_reached`: The user \
            has 256 such permissions.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn set_permission(
    member: Member,
    State(app): State<App>,
    Pair(id, permission): Pair<UserId, Permission>,
    Body(setting): Body<Setting>,
) -> Result<Done, Problem> {
    let effect = setting.effect;
    if effect == Effect::Allow {
        gifts::permission(&member, &permission)?;
    }
    let command = UserCommand::SetPermission { permission, effect };
    execute(&app, &member, &id, command, "SetUserPermission").await
}

/// Leave a permission to a user's roles
///
/// What was denied is then allowed again where a role grants it, so the caller's key must cover it.
#[utoipa::path(
    delete, path = "/v1/users/{id}/permissions/{permission}", tag = TAG,
    params(
        ("id" = String, Path, description = "The user's id."),
        ("permission" = String, Path, description = "As `users.read.tenant`."),
    ),
    responses(
        (status = 204, description = "The permission is neither allowed nor denied by itself."),
        (status = 409, description = "`not_possible`: The user is deactivated or removed.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn clear_permission(
    member: Member,
    State(app): State<App>,
    Pair(id, permission): Pair<UserId, Permission>,
) -> Result<Done, Problem> {
    gifts::permission(&member, &permission)?;
    let command = UserCommand::ClearPermission { permission };
    execute(&app, &member, &id, command, "ClearUserPermission").await
}

impl From<Right> for RightView {
    fn from(right: Right) -> Self {
        Self {
            permission: right.grant,
            effect: right.effect,
            through: right.through,
        }
    }
}
