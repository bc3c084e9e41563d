//! Rotating an endpoint's signing secret, and erasing those that sign no more.

use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use commands::{Call, Receipt};
use delivery::Secret;
use domain::endpoint::policy::SigningScheme;
use domain::endpoint::{Endpoint, EndpointCommand, Secrets};
use domain::settings::{OverlapHours, Settings};
use domain::{EndpointId, Root, SecretId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{TAG, jwks, recorded};
use crate::access_log::{MayShow, Shown};
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

/// What the receiver is told of a secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownKey {
    /// What its webhooks are signed with (Standard Webhooks), unless the signature is `ed25519`. It is shown here and
    /// never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: Option<String>,
    /// What its webhooks are verified with (Standard Webhooks), where the signature is `ed25519`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=")]
    public_key: Option<String>,
    /// Where its public keys can be asked for without a key of the API, where the signature is `ed25519`.
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks: Option<String>,
}

impl ShownKey {
    /// Of a secret by which an endpoint signs so.
    pub(super) fn of(scheme: SigningScheme, tenant: &TenantId, id: &EndpointId, secret: &Secret) -> Self {
        match scheme {
            SigningScheme::Hmac => Self {
                secret: Some(secret.reveal().to_string()),
                public_key: None,
                jwks: None,
            },
            SigningScheme::Ed25519 => Self {
                secret: None,
                public_key: Some(secret.public_key().to_string()),
                jwks: Some(jwks::address(tenant, id)),
            },
        }
    }

    /// Whether it shows what is secret.
    pub(super) fn shows(&self) -> bool {
        self.secret.is_some()
    }
}

/// Keeps a secret of an endpoint, sealed, and the public half of the key that is derived from it.
pub(super) async fn keep(
    app: &App,
    tenant: &TenantId,
    id: &EndpointId,
    name: Option<&SecretId>,
    secret: &Secret,
) -> Result<(), Problem> {
    let kept = app.secrets.keep(tenant, id, name, secret).await;
    kept.map_err(|error| Problem::unavailable(&error))?;
    let kept = app.public_keys.keep(tenant, id, name, secret.public_key()).await;
    kept.map_err(|error| Problem::unavailable(&error))
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
    /// What webhooks are signed with and verified from now on.
    #[serde(flatten)]
    key: ShownKey,
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
) -> Result<MayShow<Written<Rotated>>, Problem> {
    let tenant = &member.tenant;
    let call = member.meta("RotateEndpointSecret");
    let done = app
        .dispatcher
        .done::<Endpoint>(tenant, id.as_str(), &call)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    let name = SecretId::new(member.ulid("endpoint secret"));
    let secret = Secret::new(*member.draw().secret("endpoint secret"));
    let (receipt, previous_valid_until) = match done {
        // The endpoint may be gone by now and its secrets erased, which then stay so.
        Some(receipt) => (receipt, valid_until(&app, tenant, &id, &receipt).await?),
        None => rotate(&app, tenant, &id, (name, &secret), &rotation, call).await?,
    };
    let after = endpoint(&app, tenant, &id).await?;
    let scheme = after.settings().map(|settings| settings.policy.signature);
    erase_ended(&app, tenant, &id).await?;
    let key = ShownKey::of(scheme.unwrap_or_default(), tenant, &id, &secret);
    let shown = key.shows().then(|| Shown::endpoint_secret(&id));
    let written = Written {
        status: StatusCode::OK,
        positions: vec![receipt.position],
        body: Rotated {
            key,
            previous_valid_until,
        },
    };
    Ok(MayShow(written, shown))
}

/// Gives an endpoint another secret, which is kept first; tells until when the one before it signs too.
async fn rotate(
    app: &App,
    tenant: &TenantId,
    id: &EndpointId,
    (name, secret): (SecretId, &Secret),
    rotation: &Rotation,
    call: Call,
) -> Result<(Receipt, Timestamp), Problem> {
    let overlap = overlap(app, tenant, rotation).await?;
    // Nothing is kept for an endpoint that is not there.
    let before = endpoint(app, tenant, id).await?;
    before.settings().ok_or_else(Problem::not_found)?;
    keep(app, tenant, id, Some(&name), secret).await?;
    let (at, secret) = (Timestamp::from(SystemTime::now()), name.clone());
    let command = EndpointCommand::RotateSecret { secret, at, overlap };
    let repeated = call.repeated;
    let dispatcher = &app.dispatcher;
    let rotated = dispatcher
        .execute::<Endpoint>(tenant, id.as_str(), command, call)
        .await;
    let rotated = rotated.map_err(Problem::from);
    if rotated
        .as_ref()
        .is_err_and(|problem| problem.kind() == ProblemType::NotFound)
    {
        // It was removed meanwhile; if this fails too, what is left is a value nobody reads.
        let _ = erase(app, tenant, id, &[Some(&name)]).await;
    }
    let receipt = rotated?;
    let until = if repeated {
        // Another run of this request may have been faster, at another time.
        valid_until(app, tenant, id, &receipt).await?
    } else {
        at.saturating_add(Duration::from_secs(u64::from(overlap.get()) * 60 * 60))
    };
    Ok((receipt, until))
}

/// For how long the present secret signs beside the new one: as asked for, or as the tenant has set.
async fn overlap(app: &App, tenant: &TenantId, rotation: &Rotation) -> Result<OverlapHours, Problem> {
    if let Some(overlap) = rotation.overlap_hours {
        return Ok(overlap);
    }
    let settings: Settings = load(app, tenant, tenant.as_str(), MAX_AGE).await?;
    Ok(settings.current().secret_rotation_overlap_hours)
}

/// Until when the secret before the one of a rotation signs too, as its record says.
async fn valid_until(
    app: &App,
    tenant: &TenantId,
    id: &EndpointId,
    receipt: &Receipt,
) -> Result<Timestamp, Problem> {
    #[derive(Deserialize)]
    struct Recorded {
        previous_valid_until: Timestamp,
    }
    let recorded: Recorded = recorded(app, tenant, format!("endpoint/{id}"), receipt).await?;
    Ok(recorded.previous_valid_until)
}

/// Erases the secrets that are no longer used.
pub(super) async fn erase_ended(app: &App, tenant: &TenantId, id: &EndpointId) -> Result<(), Problem> {
    let after = endpoint(app, tenant, id).await?;
    let ended: Vec<_> = after.secrets().into_iter().flat_map(Secrets::ended).collect();
    if let Err(error) = erase(app, tenant, id, &ended).await {
        // The next rotation or change, or the removal, tries again.
        tracing::warn!(%tenant, endpoint = %id, %error, "A secret that is no longer used could not be erased yet.");
    }
    Ok(())
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

pub(super) async fn erase(
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
        app.public_keys.erase(tenant, id, *name).await?;
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
