//! `/v1/tenants`: the installation's tenants, for the platform administrator; `/v1/tenant`: a caller's own.

mod standing;
mod view;

use axum::extract::State;
use domain::role::{Roles, RolesCommand};
use domain::tenant::{
    PlanName, Quantity, QuotasChange, Rate, Slug, Tenant, TenantChange, TenantCommand, TenantName,
    TenantRejection,
};
use domain::{Edit, TenantId};
use projections::Page;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access_log::{Showing, Shown};
use crate::answer::{Done, Written};
use crate::app::App;
use crate::auth::{Administrator, Member};
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Body, Id, Limit, Parameters, object};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::routes::api_keys;
use crate::routes::tenants::view::{OwnTenantView, TenantView};

const TAG: &str = "tenants";
const READ_MODEL: &[&str] = &["tenants"];
const OWN_READ_MODELS: &[&str] = &["tenants", "usage"];

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(
            may::ADMINISTER_PLATFORM,
            routes!(provision_tenant, list_tenants),
        ))
        .routes(needs(
            may::ADMINISTER_PLATFORM,
            routes!(show_tenant, change_tenant),
        ))
        .routes(needs(may::READ_TENANT, routes!(show_own_tenant)))
        .merge(standing::router())
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

/// What shall change; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TenantPatch {
    /// The new display name: 1 to 100 characters.
    #[schema(value_type = Option<String>)]
    name: Option<TenantName>,
    /// The new plan's name: 1 to 40 characters; null: none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    plan: Edit<PlanName>,
    /// The new quotas.
    #[serde(default, deserialize_with = "object")]
    quotas: QuotasPatch,
}

/// Quotas that shall change; what is not given stays, null is unlimited.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct QuotasPatch {
    /// Users that are not removed: 0 to 1,000,000,000.
    #[serde(default)]
    #[schema(value_type = Option<u32>, maximum = 1_000_000_000)]
    users: Edit<Quantity>,
    /// Endpoints that are not removed: 0 to 1,000,000,000.
    #[serde(default)]
    #[schema(value_type = Option<u32>, maximum = 1_000_000_000)]
    endpoints: Edit<Quantity>,
    /// API keys that are not revoked: 0 to 1,000,000,000.
    #[serde(default)]
    #[schema(value_type = Option<u32>, maximum = 1_000_000_000)]
    api_keys: Edit<Quantity>,
    /// Teams that are not retired: 0 to 1,000,000,000.
    #[serde(default)]
    #[schema(value_type = Option<u32>, maximum = 1_000_000_000)]
    teams: Edit<Quantity>,
    /// Requests a second, for each process that answers them: 1 to 1,000,000.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    requests_per_second: Edit<Rate>,
}

impl From<QuotasPatch> for QuotasChange {
    fn from(patch: QuotasPatch) -> Self {
        Self {
            users: patch.users,
            endpoints: patch.endpoints,
            api_keys: patch.api_keys,
            teams: patch.teams,
            requests_per_second: patch.requests_per_second,
        }
    }
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
) -> Result<Showing<Written<Provisioned>>, Problem> {
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
    let shown = Shown::key(&key.id).of(&id);
    let body = Provisioned {
        id,
        slug: new.slug,
        api_key: key.text.to_string(),
    };
    Ok(Showing(Written::created(receipt.position, body), shown))
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

/// Change a tenant
///
/// Its name, plan and quotas. A quota below what the tenant already has takes nothing away: it only lets nothing more
/// come into being.
#[utoipa::path(
    patch, path = "/v1/tenants/{id}", tag = TAG, params(("id" = String, Path, description = "The tenant's id.")),
    request_body = TenantPatch,
    responses(
        (status = 204, description = "The tenant is as asked for."),
        (status = 409, description = "`not_possible`: The tenant is terminated.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn change_tenant(
    administrator: Administrator,
    State(app): State<App>,
    Id(id): Id<TenantId>,
    Body(patch): Body<TenantPatch>,
) -> Result<Done, Problem> {
    let change = TenantChange {
        name: patch.name,
        plan: patch.plan,
        quotas: patch.quotas.into(),
    };
    if change == TenantChange::default() {
        return Err(Problem::invalid_body(
            ".",
            "must name at least one of name, plan, quotas",
        ));
    }
    let call = administrator.meta("ChangeTenant");
    let at = call.meta.at;
    let command = TenantCommand::Change { change, at };
    let receipt = app
        .dispatcher
        .execute::<Tenant>(&TenantId::platform(), id.as_str(), command, call)
        .await?;
    Ok(Done(receipt.position))
}

/// Show the own tenant
#[utoipa::path(
    get, path = "/v1/tenant", tag = TAG,
    responses((status = 200, description = "The tenant that the key acts for.", body = OwnTenantView))
)]
async fn show_own_tenant(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
) -> Result<Found<OwnTenantView>, Problem> {
    at_least.reached(&app, OWN_READ_MODELS).await?;
    let usage = app.read_models.usage(&member.tenant).get().await?.data;
    let tenant = app.read_models.tenants().get(&member.tenant).await?;
    Found::one(tenant, |row| OwnTenantView {
        tenant: row.into(),
        usage: usage.into(),
    })
}

impl From<TenantRejection> for Problem {
    fn from(rejection: TenantRejection) -> Self {
        match rejection {
            TenantRejection::NotFound => Self::not_found(),
            TenantRejection::AlreadySuspended | TenantRejection::Terminated => Self::new(
                ProblemType::NotPossible,
                format!("Nothing was changed: {rejection}."),
            ),
            // Only an id drawn twice could lead here.
            TenantRejection::AlreadyProvisioned => {
                Self::new(ProblemType::Conflict, "Send the request again.")
            }
        }
    }
}
