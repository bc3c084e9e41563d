//! Asking for a recovery.

use std::time::Duration;

use axum::extract::State;
use domain::endpoint::{Endpoint, EventTypeFilter, Rate};
use domain::recovery::{Only, Recovery, RecoveryCommand, RecoveryPlan};
use domain::{EndpointId, RecoveryId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::TAG;
use crate::answer::Written;
use crate::app::App;
use crate::auth::Member;
use crate::extract::{Body, Id};
use crate::guard::{may, needs};
use crate::problem::Problem;

/// The operation that asks for one.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(needs(may::RESEND_DELIVERIES, routes!(recover_endpoint)))
}

/// Which events are to be delivered to the endpoint.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "since": "2026-03-01T00:00:00Z", "only": "missing" }))]
#[serde(deny_unknown_fields)]
struct NewRecovery {
    /// Accepted at this time (RFC 3339) or later.
    #[schema(value_type = String, format = "date-time")]
    since: Timestamp,
    /// Accepted before this time (RFC 3339); until now unless given.
    #[schema(value_type = Option<String>, format = "date-time")]
    until: Option<Timestamp>,
    /// Of these types only, among those that the endpoint wants; wildcards as there.
    #[schema(value_type = Option<Vec<String>>)]
    event_types: Option<Vec<EventTypeFilter>>,
    /// `missing` (unless given): events that never arrived at the endpoint, with a dead letter or without any delivery.
    /// `failed`: those whose delivery was given up. `all`: also those that arrived. Deliveries under way are left alone.
    #[schema(value_type = Option<String>, example = "missing")]
    only: Option<Only>,
    /// How many become due in a second, 1 to 10,000; as fast as they are found unless given.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    rate: Option<Rate>,
}

/// A recovery that was asked for.
#[derive(Debug, Serialize, ToSchema)]
struct RecoveryStarted {
    /// Names it: `GET /v1/recoveries/{id}` tells how far it is.
    #[schema(value_type = String, example = "rcv_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: RecoveryId,
}

/// Recover an endpoint
///
/// Delivers past events to it, in the order they were published: those published while it was disabled, before it was
/// there, or lost to it otherwise. It goes on until it is done, across restarts, however many there are; while the
/// endpoint is disabled, it waits. Events are there for as long as the installation keeps them.
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/recover", tag = TAG,
    params(("id" = String, Path, description = "The endpoint's id.")), request_body = NewRecovery,
    responses((status = 202, description = "It will be done.", body = RecoveryStarted))
)]
async fn recover_endpoint(
    member: Member,
    State(app): State<App>,
    Id(endpoint_id): Id<EndpointId>,
    Body(new): Body<NewRecovery>,
) -> Result<Written<RecoveryStarted>, Problem> {
    let endpoint = app
        .dispatcher
        .load::<Endpoint>(&member.tenant, endpoint_id.as_str(), Duration::ZERO)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    endpoint.aggregate.settings().ok_or_else(Problem::not_found)?;
    let call = member.meta("RecoverEndpoint");
    let now = call.meta.at;
    let plan = RecoveryPlan {
        endpoint: endpoint_id,
        since: new.since,
        until: new.until.unwrap_or(now).min(now),
        event_types: new.event_types.unwrap_or_default(),
        only: new.only.unwrap_or(Only::Missing),
        rate: new.rate,
    };
    let id = RecoveryId::new(member.ulid("recovery"));
    let receipt = app
        .dispatcher
        .execute::<Recovery>(&member.tenant, id.as_str(), RecoveryCommand::Request(plan), call)
        .await?;
    Ok(Written::accepted(vec![receipt.position], RecoveryStarted { id }))
}
