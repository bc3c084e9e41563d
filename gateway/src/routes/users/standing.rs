//! Whether a user may do anything: deactivated, reactivated, removed.

use axum::extract::State;
use domain::UserId;
use domain::user::{Reason, UserCommand};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{TAG, execute};
use crate::answer::Done;
use crate::app::App;
use crate::auth::Member;
use crate::extract::{Id, OptionalBody};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody};

/// These operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::WRITE_USERS, routes!(deactivate_user)))
        .routes(needs(may::WRITE_USERS, routes!(reactivate_user)))
        .routes(needs(may::WRITE_USERS, routes!(remove_user)))
}

/// Why a user is deactivated.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Deactivate {
    /// For whoever looks at the user later: at most 500 characters.
    #[schema(value_type = Option<String>)]
    reason: Option<Reason>,
}

/// Deactivate a user
///
/// The user may do nothing until it is reactivated; it keeps its address, roles and permissions.
#[utoipa::path(
    post, path = "/v1/users/{id}/deactivate", tag = TAG,
    params(("id" = String, Path, description = "The user's id.")), request_body = Option<Deactivate>,
    responses(
        (status = 204, description = "The user is deactivated."),
        (status = 409, description = "`not_possible`: The user is removed.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn deactivate_user(
    member: Member,
    State(app): State<App>,
    Id(id): Id<UserId>,
    OptionalBody(deactivate): OptionalBody<Deactivate>,
) -> Result<Done, Problem> {
    let command = UserCommand::Deactivate {
        reason: deactivate.reason,
    };
    execute(&app, &member, &id, command, "DeactivateUser").await
}

/// Reactivate a user
#[utoipa::path(
    post, path = "/v1/users/{id}/reactivate", tag = TAG,
    params(("id" = String, Path, description = "The user's id.")),
    responses(
        (status = 204, description = "The user may do again what it has rights for."),
        (status = 409, description = "`not_possible`: The user is removed.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn reactivate_user(
    member: Member,
    State(app): State<App>,
    Id(id): Id<UserId>,
) -> Result<Done, Problem> {
    execute(&app, &member, &id, UserCommand::Reactivate, "ReactivateUser").await
}

/// Remove a user
///
/// Its address is free for others at once. The user is listed under `status=removed` only, and takes no more commands.
#[utoipa::path(
    delete, path = "/v1/users/{id}", tag = TAG, params(("id" = String, Path, description = "The user's id.")),
    responses(
        (status = 204, description = "The user is removed."),
        (status = 409, description = "`not_possible`: The user is removed already.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn remove_user(member: Member, State(app): State<App>, Id(id): Id<UserId>) -> Result<Done, Problem> {
    execute(&app, &member, &id, UserCommand::Remove, "RemoveUser").await
}
