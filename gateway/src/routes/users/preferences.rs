//! What a user keeps for itself.

use axum::extract::State;
use domain::UserId;
use domain::user::{Preferences, UserCommand};
use serde_json::{Map, Value};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{READ_MODEL, TAG, execute};
use crate::answer::Done;
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found};
use crate::extract::{Body, Id};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody};

/// These operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::READ_USERS, routes!(show_preferences)))
        .routes(needs(may::WRITE_USERS, routes!(set_preferences)))
}

/// Show a user's preferences
#[utoipa::path(
    get, path = "/v1/users/{id}/preferences", tag = TAG,
    params(("id" = String, Path, description = "The user's id.")),
    responses((status = 200, description = "The preferences, as they were set; an empty object before.",
        body = Object))
)]
async fn show_preferences(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<UserId>,
) -> Result<Found<Map<String, Value>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    Found::one(
        app.read_models.users(&member.tenant).preferences(&id).await?,
        |preferences| preferences,
    )
}

/// Set a user's preferences
///
/// The body takes the place of what was there: a JSON object of at most 256 keys of 1 to 128 characters and 16 KiB,
/// nested at most 16 deep.
#[utoipa::path(
    put, path = "/v1/users/{id}/preferences", tag = TAG,
    params(("id" = String, Path, description = "The user's id.")), request_body = Object,
    responses(
        (status = 204, description = "These are the preferences."),
        (status = 409, description = "`not_possible`: The user is deactivated or removed.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn set_preferences(
    member: Member,
    State(app): State<App>,
    Id(id): Id<UserId>,
    Body(preferences): Body<Preferences>,
) -> Result<Done, Problem> {
    let command = UserCommand::SetPreferences { preferences };
    execute(&app, &member, &id, command, "SetUserPreferences").await
}
