//! `/v1/tenants`: the installation's tenants, for the platform administrator.

use axum::extract::State;
use domain::role::{Roles, RolesCommand};
use domain::tenant::{PlanName, Slug, Tenant, TenantCommand, TenantName, TenantRejection};
use domain::{TenantId, Timestamp};
use projections::{Page, TenantRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::{Done, Written};
use crate::app::App;
use crate::auth::Administrator;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Body, Id, Limit, Parameters};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::routes::api_keys;

const TAG: &str = "tenants";
const READ_MODEL: &[&str] = &["tenants"];

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(
            may::ADMINISTER_PLATFORM,
            routes!(provision_tenant, list_tenants),
        ))
        .routes(needs(
            may::ADMINISTER_PLATFORM,
            routes!(show_tenant, rename_tenant),
        ))
}

/// A tenant to provision.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTenant {
    /// The display name: 1 to 100 characters.
    #[schema(value_type = String, example = "Acme Corporation")]
    name: TenantName,
    /// The short name, unique in the installation: 3 to 40 of a-z, 0-9 and -.
    #[schema(value_type = String, example = "acme")]
    slug: Slug,
    /// The plan's name.
    #[schema(value_type = Option<String>)]
    plan: Option<PlanName>,
}

/// What shall change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TenantChange {
    /// The new display name.
    #[schema(value_type = String)]
    name: TenantName,
}

/// A tenant that has come into being.
#[derive(Debug, Serialize, ToSchema)]
struct Provisioned {
    /// The tenant's id.
    #[schema(value_type = String, example = "ten_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: TenantId,
    /// Its slug.
    #[schema(value_type = String)]
    slug: Slug,
    /// The owner's API key. It is shown here and never again.
    api_key: String,
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tenant)]
struct TenantView {
    /// The tenant's id.
    #[schema(value_type = String)]
    id: TenantId,
    /// The display name.
    name: String,
    /// The slug.
    slug: String,
    /// The plan's name.
    plan: Option<String>,
    /// When it was provisioned.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = "date-time")]
    updated_at: Timestamp,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct TenantQuery {
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Provision a tenant
///
/// The key comes first, into the new tenant's own log, and the roles after it: should the tenant then not come into
/// being, they are worth nothing, while a tenant without a key could never be used.
#[utoipa::path(
    post, path = "/v1/tenants", tag = TAG, request_body = NewTenant,
    responses(
        (status = 201, description = "The tenant is provisioned.", body = Provisioned),
        (status = 409, description = "`slug_taken`: This slug is taken.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn provision_tenant(
    administrator: Administrator,
    State(app): State<App>,
    Body(new): Body<NewTenant>,
) -> Result<Written<Provisioned>, Problem> {
    let ulid = administrator.draw().ulid("tenant");
    let id = TenantId::new(ulid);
    let (key, _) = api_keys::issue_to_owner(&app, &administrator, &id, None).await?;
    let meta = administrator.meta("InstallRoles");
    app.dispatcher
        .execute::<Roles>(&id, id.as_str(), RolesCommand::Install { tenant: ulid }, meta)
        .await?;
    let provision = TenantCommand::Provision {
        id: id.clone(),
        name: new.name,
        slug: new.slug.clone(),
        plan: new.plan,
    };
    let meta = administrator.meta("ProvisionTenant");
    let receipt = app
        .dispatcher
        .execute::<Tenant>(&TenantId::platform(), id.as_str(), provision, meta)
        .await?;
    let body = Provisioned {
        id,
        slug: new.slug,
        api_key: key.text.to_string(),
    };
    Ok(Written::created(receipt.position, body))
}

/// List tenants
#[utoipa::path(
    get, path = "/v1/tenants", tag = TAG, params(TenantQuery),
    responses((status = 200, description = "A page of tenants.", body = List<TenantView>))
)]
async fn list_tenants(
    _: Administrator,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<TenantQuery>,
) -> Result<Found<List<TenantView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    Ok(Found::list(
        app.read_models.tenants().list(&page).await?,
        TenantView::from,
    ))
}

/// Show a tenant
#[utoipa::path(
    get, path = "/v1/tenants/{id}", tag = TAG, params(("id" = String, Path, description = "The tenant's id.")),
    responses((status = 200, description = "The tenant.", body = TenantView))
)]
async fn show_tenant(
    _: Administrator,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<TenantId>,
) -> Result<Found<TenantView>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    Found::one(app.read_models.tenants().get(&id).await?, TenantView::from)
}

/// Rename a tenant
#[utoipa::path(
    patch, path = "/v1/tenants/{id}", tag = TAG, params(("id" = String, Path, description = "The tenant's id.")),
    request_body = TenantChange,
    responses((status = 204, description = "The tenant has this name."))
)]
async fn rename_tenant(
    administrator: Administrator,
    State(app): State<App>,
    Id(id): Id<TenantId>,
    Body(change): Body<TenantChange>,
) -> Result<Done, Problem> {
    let command = TenantCommand::Rename { name: change.name };
    let meta = administrator.meta("RenameTenant");
    let receipt = app
        .dispatcher
        .execute::<Tenant>(&TenantId::platform(), id.as_str(), command, meta)
        .await?;
    Ok(Done(receipt.position))
}

impl From<TenantRow> for TenantView {
    fn from(row: TenantRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            slug: row.slug,
            plan: row.plan,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl From<TenantRejection> for Problem {
    fn from(rejection: TenantRejection) -> Self {
        match rejection {
            TenantRejection::NotFound => Self::not_found(),
            // Only an id drawn twice could lead here.
            TenantRejection::AlreadyProvisioned => {
                Self::new(ProblemType::Conflict, "Send the request again.")
            }
        }
    }
}
