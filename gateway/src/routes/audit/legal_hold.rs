//! `/v1/audit/legal-hold`: while a tenant has one, nothing of its audit trail is removed.

use std::time::Duration;

use axum::extract::State;
use domain::legal_hold::{HoldReason, LegalHold, LegalHoldCommand, LegalHoldRejection};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::TAG;
use crate::answer::Done;
use crate::app::App;
use crate::auth::{Auditor, Member};
use crate::consistency::{AtLeast, Found};
use crate::extract::Body;
use crate::guard::{may, needs};
use crate::problem::Problem;
use crate::proofs;

/// This part's operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::READ_AUDIT, routes!(show_legal_hold)))
        .routes(needs(may::HOLD_AUDIT, routes!(place_legal_hold)))
        .routes(needs(may::HOLD_AUDIT, routes!(release_legal_hold)))
}

/// A hold to place.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewLegalHold {
    /// Why: 1 to 500 characters. It takes the place of the reason of a hold that is there.
    #[schema(value_type = String, example = "Case 2026-117")]
    reason: HoldReason,
}

/// Whether there is a hold.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LegalHold)]
struct LegalHoldView {
    /// Whether nothing may be removed.
    held: bool,
    /// Why.
    #[schema(value_type = Option<String>)]
    reason: Option<HoldReason>,
}

/// Show the legal hold
///
/// Judged by the log itself, so it has seen every change that was acknowledged.
#[utoipa::path(
    get, path = "/v1/audit/legal-hold", tag = TAG,
    responses((status = 200, description = "Whether there is one, and why.", body = LegalHoldView))
)]
async fn show_legal_hold(
    auditor: Auditor,
    State(app): State<App>,
    at_least: AtLeast,
) -> Result<Found<LegalHoldView>, Problem> {
    let truth = at_least.judged(&app).await?;
    let tenant = &auditor.tenant;
    let loaded = app
        .dispatcher
        .load::<LegalHold>(tenant, tenant.as_str(), Duration::ZERO)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    let reason = loaded.aggregate.reason().cloned();
    let truth = truth.with(proofs::position(loaded.sequence));
    Ok(truth.of(LegalHoldView {
        held: reason.is_some(),
        reason,
    }))
}

/// Place a legal hold
///
/// Until it is released, entries of the audit trail are neither removed nor hidden, however old. What retention had
/// removed before is not brought back by it.
#[utoipa::path(
    put, path = "/v1/audit/legal-hold", tag = TAG, request_body = NewLegalHold,
    responses((status = 204, description = "The hold is there, for this reason."))
)]
async fn place_legal_hold(
    member: Member,
    State(app): State<App>,
    Body(NewLegalHold { reason }): Body<NewLegalHold>,
) -> Result<Done, Problem> {
    execute(
        &app,
        &member,
        "PlaceLegalHold",
        LegalHoldCommand::Place { reason },
    )
    .await
}

/// Release the legal hold
///
/// What is older than the tenant's retention is removed from then on.
#[utoipa::path(
    delete, path = "/v1/audit/legal-hold", tag = TAG,
    responses((status = 204, description = "There is no hold."))
)]
async fn release_legal_hold(member: Member, State(app): State<App>) -> Result<Done, Problem> {
    execute(&app, &member, "ReleaseLegalHold", LegalHoldCommand::Release).await
}

async fn execute(app: &App, member: &Member, name: &str, command: LegalHoldCommand) -> Result<Done, Problem> {
    let tenant = &member.tenant;
    let call = member.meta(name);
    let executed = app
        .dispatcher
        .execute::<LegalHold>(tenant, tenant.as_str(), command, call);
    Ok(Done(executed.await?.position))
}

impl From<LegalHoldRejection> for Problem {
    fn from(rejection: LegalHoldRejection) -> Self {
        match rejection {}
    }
}
