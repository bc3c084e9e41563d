//! Rotating an endpoint's signing secret, and erasing those that sign no more.

use std::time::{Duration, SystemTime};

use axum::extract::State;
use delivery::Secret;
use domain::endpoint::{Endpoint, EndpointCommand};
use domain::settings::{OverlapHours, Settings};
use domain::{EndpointId, Root, SecretId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{TAG, execute};
use crate::answer::Written;
use crate::app::App;
use crate::auth::Member;
use crate::extract::{Id, OptionalBody};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemType};

/// How old the tenant's settings may be.
const MAX_AGE: Duration = Duration::from_secs(5);
/// How often a secret is tried to be erased.
const TRIES: usize = 3;

/// The operation on secrets.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(needs(may::WRITE_ENDPOINTS, routes!(rotate_endpoint_secret)))
}

/// How a secret is rotated.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// For how many hours the present secret signs beside the new one, 0 to 168; the tenant's setting
    /// `secret_rotation_overlap_hours` (24 hours at first) unless given.
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 168)]
    overlap_hours: Option<OverlapHours>,
}

/// A new secret.
#[derive(Debug, Serialize, ToSchema)]
struct Rotated {
    /// What webhooks are signed with from now on (Standard Webhooks). It is shown here and never again.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: String,
    /// Until when webhooks are signed with the secret before it too.
    #[schema(value_type = String, format = "date-time")]
    previous_valid_until: Timestamp,
}

/// Rotate an endpoint's secret
///
/// Until the overlap is over, each webhook carries two signatures, of the new secret and of the one before it; a
/// receiver accepts it if one of them fits. Rotating again ends the overlap of the rotation before.
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/rotate-secret", tag = TAG,
    params(("id" = String, Path, description = "The endpoint's id.")), request_body = Option<Rotation>,
    responses((status = 200, description = "The new secret signs from now on.", body = Rotated))
)]
async fn rotate_endpoint_secret(
    member: Member,
    State(app): State<App>,
    Id(id): Id<EndpointId>,
    OptionalBody(rotation): OptionalBody<Rotation>,
) -> Result<Written<Rotated>, Problem> {
    let tenant = &member.tenant;
    let overlap = match rotation.overlap_hours {
        Some(overlap) => overlap,
        None => {
            let settings: Settings = load(&app, tenant, tenant.as_str(), MAX_AGE).await?;
            settings.current().secret_rotation_overlap_hours
        }
    };
    // Nothing is kept for an endpoint that is not there.
    let before = endpoint(&app, tenant, &id).await?;
    before.settings().ok_or_else(Problem::not_found)?;
    let name = SecretId::new(member.ulid("endpoint secret"));
    let secret = Secret::new(*member.draw().secret("endpoint secret"));
    app.secrets
        .keep(tenant, &id, Some(&name), &secret)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    let at = Timestamp::from(SystemTime::now());
    let command = EndpointCommand::RotateSecret {
        secret: name.clone(),
        at,
        overlap,
    };
    let done = execute(&app, &member, &id, command, "RotateEndpointSecret").await;
    if done
        .as_ref()
        .is_err_and(|problem| problem.kind() == ProblemType::NotFound)
    {
        // It was removed meanwhile; if this fails too, what is left is a value nobody reads.
        let _ = erase(&app, tenant, &id, &[Some(&name)]).await;
    }
    let position = done?.0;
    let after = endpoint(&app, tenant, &id).await?;
    let secrets = after.secrets().ok_or_else(Problem::not_found)?;
    let ended: Vec<_> = secrets.ended().collect();
    if let Err(error) = erase(&app, tenant, &id, &ended).await {
        // The next rotation, or the removal, tries again.
        tracing::warn!(%tenant, endpoint = %id, %error, "A secret that signs no more could not be erased yet.");
    }
    let until = secrets.previous_valid_until();
    let until = until.filter(|_| secrets.current() == Some(&name));
    let body = Rotated {
        secret: secret.reveal().to_string(),
        previous_valid_until: until.unwrap_or(at),
    };
    Ok(Written {
        status: axum::http::StatusCode::OK,
        positions: vec![position],
        body,
    })
}

/// Erases the secrets of an endpoint that has been removed.
pub(super) async fn erase_all(app: &App, tenant: &TenantId, id: &EndpointId) -> Result<(), Problem> {
    let removed = endpoint(app, tenant, id).await?;
    let Some(secrets) = removed.secrets().filter(|_| removed.settings().is_none()) else {
        return Ok(());
    };
    let all: Vec<_> = secrets.all().collect();
    erase(app, tenant, id, &all).await.map_err(|error| {
        Problem::caused(
            ProblemType::Unavailable,
            "The endpoint is removed, but its secrets could not be erased yet; send the request again.",
            &error,
        )
    })
}

async fn erase(
    app: &App,
    tenant: &TenantId,
    id: &EndpointId,
    names: &[Option<&SecretId>],
) -> Result<(), delivery::SecretError> {
    for name in names {
        let mut erased = app.secrets.erase(tenant, id, *name).await;
        for _ in 1..TRIES {
            if erased.is_err() {
                erased = app.secrets.erase(tenant, id, *name).await;
            }
        }
        erased?;
    }
    Ok(())
}

/// The endpoint as the log has it now.
pub(super) async fn endpoint(app: &App, tenant: &TenantId, id: &EndpointId) -> Result<Endpoint, Problem> {
    load(app, tenant, id.as_str(), Duration::ZERO).await
}

async fn load<A: Root>(app: &App, tenant: &TenantId, id: &str, max_age: Duration) -> Result<A, Problem> {
    let loaded = app.dispatcher.load::<A>(tenant, id, max_age).await;
    loaded
        .map(|loaded| loaded.aggregate)
        .map_err(|error| Problem::unavailable(&error))
}
