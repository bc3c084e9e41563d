//! `/v1/roles`: what users of a tenant may do, as named sets of permissions.

use std::collections::BTreeSet;

use axum::extract::State;
use domain::role::{
    MAX_IN_TENANT, MAX_INHERITED, MAX_PERMISSIONS, MAX_ROLES, RoleChange, RoleDescription, RoleName, Roles,
    RolesCommand, RolesRejection, Template,
};
use domain::{Grant, RoleId, Timestamp};
use projections::{Page, RoleDetail, RoleRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::{Done, Written};
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Body, Id, Limit, Parameters, given};
use crate::gifts;
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};

const TAG: &str = "roles";
const READ_MODEL: &[&str] = &["roles"];

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::WRITE_ROLES, routes!(define_role)))
        .routes(needs(may::READ_ROLES, routes!(list_roles)))
        .routes(needs(may::READ_ROLES, routes!(show_role)))
        .routes(needs(may::WRITE_ROLES, routes!(change_role, retire_role)))
}

/// A role to define.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRole {
    /// What it is called: 1 to 100 characters, unique within the tenant; upper and lower case count as the same.
    #[schema(value_type = String, example = "Support")]
    name: RoleName,
    /// What it is for: at most 500 characters.
    #[schema(value_type = Option<String>)]
    description: Option<RoleDescription>,
    /// What it grants by itself: `resource.action.scope`, each of which may be `*`; a wider scope (own, team, tenant)
    /// covers the narrower.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 256, example = json!(["users.read.tenant", "events.*.tenant"]))]
    permissions: BTreeSet<Grant>,
    /// The roles it inherits from: it grants what they grant too.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 16)]
    inherits: BTreeSet<RoleId>,
}

/// What shall change; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "a field left away differs from null")]
struct RolePatch {
    /// The new name.
    #[schema(value_type = Option<String>)]
    name: Option<RoleName>,
    /// The new description; null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<RoleDescription>>,
    /// All that it grants by itself from now on.
    #[schema(value_type = Option<Vec<String>>, max_items = 256)]
    permissions: Option<BTreeSet<Grant>>,
    /// All the roles it inherits from, from now on.
    #[schema(value_type = Option<Vec<String>>, max_items = 16)]
    inherits: Option<BTreeSet<RoleId>>,
}

/// A role that has come into being.
#[derive(Debug, Serialize, ToSchema)]
struct Defined {
    /// The role's id.
    #[schema(value_type = String, example = "rol_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: RoleId,
}

/// A role.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Role)]
struct RoleView {
    /// The role's id.
    #[schema(value_type = String)]
    id: RoleId,
    /// What it is called.
    name: String,
    /// What it is for.
    description: Option<String>,
    /// What it grants by itself.
    #[schema(value_type = Vec<String>)]
    permissions: BTreeSet<Grant>,
    /// The roles it inherits from.
    #[schema(value_type = Vec<String>)]
    inherits: BTreeSet<RoleId>,
    /// `owner`, `admin`, `member` or `auditor`, where the role came with the tenant; such a role is not retired, and
    /// the owner's not changed.
    #[schema(value_type = Option<String>)]
    template: Option<Template>,
    /// When it was defined.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = "date-time")]
    updated_at: Timestamp,
}

/// A role and all that it grants.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RoleDetail)]
struct DetailView {
    #[serde(flatten)]
    role: RoleView,
    /// What it grants by itself and by inheritance.
    #[schema(value_type = Vec<String>)]
    effective_permissions: BTreeSet<Grant>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct RoleQuery {
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Define a role
///
/// Nobody can define a role that grants more than their own key does: 403 then, and `detail` names what is too much.
#[utoipa::path(
    post, path = "/v1/roles", tag = TAG, request_body = NewRole,
    responses(
        (status = 201, description = "The role is defined.", body = Defined),
        (status = 409, description = "`role_name_taken`: Another role has this name. `cycle`: It would inherit from \
            itself. `limit_reached`: The tenant has 500 roles, or they grant 8192 permissions.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn define_role(
    member: Member,
    State(app): State<App>,
    Body(new): Body<NewRole>,
) -> Result<Written<Defined>, Problem> {
    let id = RoleId::new(member.ulid("role"));
    let command = RolesCommand::Define {
        id: id.clone(),
        name: new.name,
        description: new.description,
        permissions: new.permissions,
        inherits: new.inherits,
        within: member.grants().to_vec(),
    };
    let Done(position) = execute(&app, &member, command, "DefineRole").await?;
    Ok(Written::created(position, Defined { id }))
}

/// List roles
#[utoipa::path(
    get, path = "/v1/roles", tag = TAG, params(RoleQuery),
    responses((status = 200, description = "A page of roles, newest first.", body = List<RoleView>))
)]
async fn list_roles(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<RoleQuery>,
) -> Result<Found<List<RoleView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    Ok(Found::list(
        app.read_models.roles(&member.tenant).list(&page).await?,
        RoleView::from,
    ))
}

/// Show a role
#[utoipa::path(
    get, path = "/v1/roles/{id}", tag = TAG, params(("id" = String, Path, description = "The role's id.")),
    responses((status = 200, description = "The role and all that it grants.", body = DetailView))
)]
async fn show_role(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<RoleId>,
) -> Result<Found<DetailView>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    Found::one(
        app.read_models.roles(&member.tenant).get(&id).await?,
        DetailView::from,
    )
}

/// Change a role
///
/// The caller's key must cover all that the role grants, before and after.
#[utoipa::path(
    patch, path = "/v1/roles/{id}", tag = TAG, params(("id" = String, Path, description = "The role's id.")),
    request_body = RolePatch,
    responses(
        (status = 204, description = "The role is as asked for, for everybody who has it."),
        (status = 409, description = "`role_name_taken`: Another role has this name. `cycle`: It would inherit from \
            itself. `not_possible`: The owner's role does not change. `limit_reached`: The tenant's roles grant 8192 \
            permissions.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn change_role(
    member: Member,
    State(app): State<App>,
    Id(id): Id<RoleId>,
    Body(patch): Body<RolePatch>,
) -> Result<Done, Problem> {
    let change = RoleChange {
        name: patch.name,
        description: patch.description,
        permissions: patch.permissions,
        inherits: patch.inherits,
    };
    let within = member.grants().to_vec();
    let command = RolesCommand::Change { id, change, within };
    execute(&app, &member, command, "ChangeRole").await
}

/// Retire a role
#[utoipa::path(
    delete, path = "/v1/roles/{id}", tag = TAG, params(("id" = String, Path, description = "The role's id.")),
    responses(
        (status = 204, description = "The role is gone for ever; who has it is granted nothing by it."),
        (status = 409, description = "`in_use`: Another role inherits from it. `not_possible`: It came with the \
            tenant.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn retire_role(member: Member, State(app): State<App>, Id(id): Id<RoleId>) -> Result<Done, Problem> {
    let within = member.grants().to_vec();
    execute(&app, &member, RolesCommand::Retire { id, within }, "RetireRole").await
}

/// Executes a command on the caller's roles.
async fn execute(app: &App, member: &Member, command: RolesCommand, name: &str) -> Result<Done, Problem> {
    let (tenant, meta) = (&member.tenant, member.meta(name));
    let receipt = app
        .dispatcher
        .execute::<Roles>(tenant, tenant.as_str(), command, meta)
        .await?;
    Ok(Done(receipt.position))
}

impl From<RoleRow> for RoleView {
    fn from(row: RoleRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            permissions: row.permissions,
            inherits: row.inherits,
            template: row.template,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl From<RoleDetail> for DetailView {
    fn from(detail: RoleDetail) -> Self {
        Self {
            role: detail.role.into(),
            effective_permissions: detail.effective,
        }
    }
}

impl From<RolesRejection> for Problem {
    fn from(rejection: RolesRejection) -> Self {
        let limit = |detail: String| Self::new(ProblemType::LimitReached, detail);
        match rejection {
            RolesRejection::NotFound => Self::not_found(),
            // Only an id drawn twice could lead here.
            RolesRejection::AlreadyDefined => Self::new(ProblemType::Conflict, "Send the request again."),
            RolesRejection::NameTaken { by } => Self::new(
                ProblemType::RoleNameTaken,
                format!("The role {by} of this tenant has this name; choose another."),
            ),
            RolesRejection::UnknownRole { role } => {
                Self::invalid_body("inherits", format!("there is no role {role}"))
            }
            RolesRejection::Cycle { through } => Self::new(
                ProblemType::Cycle,
                format!("The role would inherit from itself through {through}; leave that one out."),
            ),
            RolesRejection::Exceeds { grant } => gifts::beyond(&format!("The role grants {grant}")),
            RolesRejection::Inherited { by } => Self::new(
                ProblemType::InUse,
                format!("The role {by} inherits from it; change that one first."),
            ),
            RolesRejection::Fixed { template } => Self::new(
                ProblemType::NotPossible,
                format!(
                    "This is the tenant's role from the template {template}, which stays; define another."
                ),
            ),
            RolesRejection::TooManyPermissions => {
                Self::invalid_body("permissions", format!("must be at most {MAX_PERMISSIONS}"))
            }
            RolesRejection::TooManyInherited => {
                Self::invalid_body("inherits", format!("must be at most {MAX_INHERITED}"))
            }
            RolesRejection::TooManyRoles => limit(format!(
                "A tenant can have at most {MAX_ROLES} roles; retire one first."
            )),
            RolesRejection::TooManyInTenant => limit(format!(
                "The roles of a tenant can grant at most {MAX_IN_TENANT} permissions together; use `*` in them, or \
                 let roles inherit."
            )),
        }
    }
}
