//! `/v1/tenants/{id}/suspend`, `/reactivate`, `/terminate`: whether a tenant takes part.

use axum::extract::State;
use domain::TenantId;
use domain::tenant::{Tenant, TenantCommand, TenantReason};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::TAG;
use crate::answer::Done;
use crate::app::App;
use crate::auth::Administrator;
use crate::extract::{Body, Id};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody};

/// These operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::ADMINISTER_PLATFORM, routes!(suspend_tenant)))
        .routes(needs(may::ADMINISTER_PLATFORM, routes!(reactivate_tenant)))
        .routes(needs(may::ADMINISTER_PLATFORM, routes!(terminate_tenant)))
}

/// Why a tenant shall take part no more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Because {
    /// The reason, shown to the tenant: 1 to 200 characters.
    #[schema(value_type = String, example = "unpaid since May")]
    reason: TenantReason,
}

/// Suspend a tenant
///
/// The tenant can be read as before; whatever would change something is refused with `tenant_suspended`, in this
/// process at once and in every other within five seconds. Its deliveries wait: nothing is sent, and no attempt is
/// used up. Both go on by themselves after it is reactivated.
#[utoipa::path(
    post, path = "/v1/tenants/{id}/suspend", tag = TAG,
    params(("id" = String, Path, description = "The tenant's id.")), request_body = Because,
    responses(
        (status = 204, description = "The tenant is suspended for this reason."),
        (status = 409, description = "`not_possible`: The tenant is terminated, or suspended for another reason.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn suspend_tenant(
    administrator: Administrator,
    State(app): State<App>,
    Id(id): Id<TenantId>,
    Body(because): Body<Because>,
) -> Result<Done, Problem> {
    let reason = because.reason;
    let command = TenantCommand::Suspend { reason };
    execute(&app, &administrator, &id, "SuspendTenant", command).await
}

/// Reactivate a suspended tenant
#[utoipa::path(
    post, path = "/v1/tenants/{id}/reactivate", tag = TAG,
    params(("id" = String, Path, description = "The tenant's id.")),
    responses(
        (status = 204, description = "The tenant is active."),
        (status = 409, description = "`not_possible`: The tenant is terminated.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn reactivate_tenant(
    administrator: Administrator,
    State(app): State<App>,
    Id(id): Id<TenantId>,
) -> Result<Done, Problem> {
    let command = TenantCommand::Reactivate;
    execute(&app, &administrator, &id, "ReactivateTenant", command).await
}

/// Terminate a tenant for good
///
/// The tenant can still be read with its keys, so that it can be exported and audited; whatever would change
/// something is refused with `tenant_terminated`. Deliveries that wait become dead letters whose last attempt says
/// why. Its slug is free for others at once. None of this can be taken back.
#[utoipa::path(
    post, path = "/v1/tenants/{id}/terminate", tag = TAG,
    params(("id" = String, Path, description = "The tenant's id.")), request_body = Because,
    responses(
        (status = 204, description = "The tenant is terminated."),
        (status = 409, description = "`not_possible`: The tenant is terminated already, for another reason.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn terminate_tenant(
    administrator: Administrator,
    State(app): State<App>,
    Id(id): Id<TenantId>,
    Body(because): Body<Because>,
) -> Result<Done, Problem> {
    let reason = because.reason;
    let command = TenantCommand::Terminate { reason };
    execute(&app, &administrator, &id, "TerminateTenant", command).await
}

async fn execute(
    app: &App,
    administrator: &Administrator,
    id: &TenantId,
    name: &str,
    command: TenantCommand,
) -> Result<Done, Problem> {
    let receipt = app
        .dispatcher
        .execute::<Tenant>(
            &TenantId::platform(),
            id.as_str(),
            command,
            administrator.meta(name),
        )
        .await?;
    Ok(Done(receipt.position))
}
