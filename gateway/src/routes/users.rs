//! `/v1/users`: a tenant's users.

mod preferences;
mod rights;
mod standing;

use axum::extract::State;
use commands::Call;
use domain::tenant::Counted;
use domain::user::{
    Attributes, Email, MAX_PERMISSIONS, MAX_ROLES, User, UserCommand, UserName, UserRejection, UserStatus,
};
use domain::{RoleId, Timestamp, UserId};
use projections::{Page, UserFilter, UserRow};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::{Done, Written};
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Body, Id, Limit, Parameters, parse};
use crate::gifts;
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::{quotas, settings};

const TAG: &str = "users";
const READ_MODEL: &[&str] = &["users"];

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::WRITE_USERS, routes!(register_user)))
        .routes(needs(may::READ_USERS, routes!(list_users)))
        .routes(needs(may::READ_USERS, routes!(show_user)))
        .routes(needs(may::WRITE_USERS, routes!(update_user)))
        .merge(standing::router())
        .merge(rights::router())
        .merge(preferences::router())
}

/// A user to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewUser {
    /// The e-mail address, unique within the tenant; upper and lower case count as the same.
    #[schema(value_type = String, format = "email", example = "ada@example.org")]
    email: Email,
    /// The display name: 1 to 100 characters.
    #[schema(value_type = String, example = "Ada")]
    name: UserName,
    /// What you keep about the user: a JSON object of at most 64 keys of 1 to 128 characters and 16 KiB, nested at
    /// most 16 deep.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    attributes: Attributes,
    /// The roles the user has from the start; the caller's key must cover `roles.grant.tenant` and what they grant.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 32)]
    roles: Vec<RoleId>,
}

/// What shall change; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserChange {
    /// The new e-mail address.
    #[schema(value_type = Option<String>, format = "email")]
    email: Option<Email>,
    /// The new display name.
    #[schema(value_type = Option<String>)]
    name: Option<UserName>,
    /// A merge patch (RFC 7396) of the attributes: members that are null are taken away, objects are merged, all else
    /// is replaced, and what is not named stays. The whole is bounded as at registration.
    #[schema(value_type = Option<Object>)]
    attributes: Option<Map<String, Value>>,
}

/// A user that has come into being.
#[derive(Debug, Serialize, ToSchema)]
struct Registered {
    /// The user's id.
    #[schema(value_type = String, example = "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: UserId,
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
struct UserView {
    /// The user's id.
    #[schema(value_type = String)]
    id: UserId,
    /// The e-mail address.
    email: String,
    /// The display name.
    name: String,
    /// `active`, `deactivated` or `removed`.
    #[schema(value_type = String, example = "active")]
    status: UserStatus,
    /// Why the user was deactivated, while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    deactivated_reason: Option<String>,
    /// What you keep about the user.
    #[schema(value_type = Object)]
    attributes: Map<String, Value>,
    /// The roles the user has.
    #[schema(value_type = Vec<String>)]
    roles: Vec<RoleId>,
    /// When the user was registered.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// When the user last changed.
    #[schema(value_type = String, format = "date-time")]
    updated_at: Timestamp,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct UserQuery {
    /// `active`, `deactivated` or `removed`; all but the removed unless given.
    #[param(value_type = Option<String>)]
    status: Option<UserStatus>,
    /// The user with this e-mail address; upper and lower case count as the same.
    #[param(value_type = Option<String>)]
    email: Option<Email>,
    /// The users that have the role of this id.
    #[param(value_type = Option<String>)]
    role: Option<RoleId>,
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Says what is wrong with the body of a registration, without registering.
pub(super) fn check(body: &[u8]) -> Result<(), Problem> {
    parse::<NewUser>(body).map(drop)
}

/// Register a user
#[utoipa::path(
    post, path = "/v1/users", tag = TAG, request_body = NewUser,
    responses(
        (status = 201, description = "The user is registered.", body = Registered),
        (status = 409, description = "`email_taken`: This e-mail address is taken.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn register_user(
    member: Member,
    State(app): State<App>,
    Body(new): Body<NewUser>,
) -> Result<Written<Registered>, Problem> {
    let id = UserId::new(member.ulid("user"));
    let call = member.meta("RegisterUser");
    if let Some(Done(position)) = done(&app, &member, &id, &call).await? {
        return Ok(Written::created(position, Registered { id }));
    }
    settings::admit_email(&app, &member.tenant, &new.email, "email").await?;
    let roles = gifts::roles(&app, &member, &new.roles, "roles").await?;
    let command = UserCommand::Register {
        email: new.email,
        name: new.name,
        attributes: new.attributes,
        roles,
    };
    let tenant = &member.tenant;
    let receipt = quotas::execute::<User>(&app, tenant, Counted::Users, id.as_str(), command, call).await?;
    Ok(Written::created(receipt.position, Registered { id }))
}

/// List users
#[utoipa::path(
    get, path = "/v1/users", tag = TAG, params(UserQuery),
    responses((status = 200, description = "A page of users.", body = List<UserView>))
)]
async fn list_users(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<UserQuery>,
) -> Result<Found<List<UserView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let filter = UserFilter {
        status: query.status,
        email: query.email,
        role: query.role,
    };
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    Ok(Found::list(
        app.read_models.users(&member.tenant).list(&filter, &page).await?,
        UserView::from,
    ))
}

/// Show a user
#[utoipa::path(
    get, path = "/v1/users/{id}", tag = TAG, params(("id" = String, Path, description = "The user's id.")),
    responses((status = 200, description = "The user.", body = UserView))
)]
async fn show_user(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<UserId>,
) -> Result<Found<UserView>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    Found::one(
        app.read_models.users(&member.tenant).get(&id).await?,
        UserView::from,
    )
}

/// Change a user
#[utoipa::path(
    patch, path = "/v1/users/{id}", tag = TAG, params(("id" = String, Path, description = "The user's id.")),
    request_body = UserChange,
    responses(
        (status = 204, description = "The user is as asked for."),
        (status = 409, description = "`email_taken`: This e-mail address is taken.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn update_user(
    member: Member,
    State(app): State<App>,
    Id(id): Id<UserId>,
    Body(change): Body<UserChange>,
) -> Result<Done, Problem> {
    if change.email.is_none() && change.name.is_none() && change.attributes.is_none() {
        return Err(Problem::invalid_body(
            ".",
            "must name at least one of email, name, attributes",
        ));
    }
    let call = member.meta("UpdateUser");
    if let Some(done) = done(&app, &member, &id, &call).await? {
        return Ok(done);
    }
    if let Some(email) = &change.email {
        settings::admit_email(&app, &member.tenant, email, "email").await?;
    }
    let command = UserCommand::Update {
        email: change.email,
        name: change.name,
        attributes: change.attributes,
    };
    carry_out(&app, &member, &id, command, call).await
}

/// Executes a command on one of the caller's users.
async fn execute(
    app: &App,
    member: &Member,
    id: &UserId,
    command: UserCommand,
    name: &str,
) -> Result<Done, Problem> {
    carry_out(app, member, id, command, member.meta(name)).await
}

async fn carry_out(
    app: &App,
    member: &Member,
    id: &UserId,
    command: UserCommand,
    call: Call,
) -> Result<Done, Problem> {
    let receipt = app
        .dispatcher
        .execute::<User>(&member.tenant, id.as_str(), command, call)
        .await?;
    Ok(Done(receipt.position))
}

/// What the request did when it was here before; the tenant's settings and roles may have changed since.
async fn done(app: &App, member: &Member, id: &UserId, call: &Call) -> Result<Option<Done>, Problem> {
    let receipt = app
        .dispatcher
        .done::<User>(&member.tenant, id.as_str(), call)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    Ok(receipt.map(|receipt| Done(receipt.position)))
}

impl From<UserRow> for UserView {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.id,
            email: row.email,
            name: row.name,
            status: row.status,
            deactivated_reason: row.deactivated_reason,
            attributes: row.attributes,
            roles: row.roles,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl From<UserRejection> for Problem {
    fn from(rejection: UserRejection) -> Self {
        match rejection {
            UserRejection::NotFound => Self::not_found(),
            // Only an id drawn twice could lead here.
            UserRejection::AlreadyRegistered => Self::new(ProblemType::Conflict, "Send the request again."),
            UserRejection::Removed => Self::new(
                ProblemType::NotPossible,
                "This user is removed, which nothing changes; register them anew.",
            ),
            UserRejection::Deactivated => Self::new(
                ProblemType::NotPossible,
                "This user is deactivated; reactivate them first.",
            ),
            UserRejection::Attributes(error) => Self::invalid_body("attributes", error.to_string()),
            UserRejection::TooManyRoles => Self::new(
                ProblemType::LimitReached,
                format!("A user can have at most {MAX_ROLES} roles; revoke one first."),
            ),
            UserRejection::TooManyPermissions => Self::new(
                ProblemType::LimitReached,
                format!(
                    "A user can be allowed or denied at most {MAX_PERMISSIONS} permissions by itself; use a role."
                ),
            ),
        }
    }
}
