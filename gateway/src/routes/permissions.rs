//! `/v1/permissions`: whether a user may do something, and why; and who may.

mod holders;

use std::time::Duration;

use axum::extract::State;
use domain::access::{self, Verdict};
use domain::role::Roles;
use domain::user::User;
use domain::{Permission, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found};
use crate::extract::Body;
use crate::guard::{may, needs};
use crate::problem::Problem;
use crate::proofs;

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::CHECK_PERMISSIONS, routes!(check_permission)))
        .merge(holders::router())
}

/// What is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Question {
    /// Who wants to do it: a user's id.
    #[schema(value_type = String)]
    user: UserId,
    /// What they want to do: `resource.action.scope`.
    #[schema(value_type = String, example = "users.read.tenant")]
    permission: Permission,
    /// With what: an id. With itself, a user needs the permission in the scope `own` only.
    resource: Option<String>,
}

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
struct Answer {
    /// Whether the user may.
    allowed: bool,
    /// Why: what grants or denies it, and through which roles.
    #[schema(example = "granted by users.read.tenant through rol_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    reason: String,
}

/// Check a permission
///
/// Judged by the log itself, so it has seen every change that was acknowledged. A user who is not there may do nothing.
#[utoipa::path(
    post, path = "/v1/permissions/check", tag = "roles", request_body = Question,
    responses((status = 200, description = "Whether the user may, and why.", body = Answer))
)]
async fn check_permission(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Body(question): Body<Question>,
) -> Result<Found<Answer>, Problem> {
    let truth = at_least.judged(&app).await?;
    let (tenant, now) = (&member.tenant, Duration::ZERO);
    let unavailable = |error| Problem::unavailable(&error);
    let user = app
        .dispatcher
        .load::<User>(tenant, question.user.as_str(), now)
        .await
        .map_err(unavailable)?;
    let roles = app
        .dispatcher
        .load::<Roles>(tenant, tenant.as_str(), now)
        .await
        .map_err(unavailable)?;
    let permission = match question.resource {
        Some(resource) if resource == question.user.as_str() => question.permission.on_own(),
        _ => question.permission,
    };
    let verdict: Verdict = access::check(&user.aggregate, &roles.aggregate, &permission);
    let truth = truth.with(proofs::position(user.sequence.max(roles.sequence)));
    Ok(truth.of(Answer {
        allowed: verdict.is_allowed(),
        reason: verdict.to_string(),
    }))
}
