//! Rotating a source's secret, and erasing those that count no more.

use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use commands::{Call, Receipt};
use domain::endpoint::Secrets;
use domain::settings::{OverlapHours, Settings};
use domain::source::{Source, SourceCommand, Verification};
use domain::{SecretId, SourceId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::{TAG, source};
use crate::access_log::{MayShow, Shown};
use crate::answer::Written;
use crate::app::App;
use crate::auth::{MAX_AGE, Member};
use crate::extract::{Id, OptionalBody};
use crate::guard::{may, needs};
use crate::inbound::SourceKey;
use crate::problem::{Problem, ProblemType};
use crate::routes::endpoints::recorded;
use crate::source_secrets::SourceSecretError;

/// The operation on secrets.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(needs(may::WRITE_SOURCES, routes!(rotate_source_secret)))
}

/// A secret that its source can be checked with.
pub(super) struct Chosen {
    /// Its text.
    pub(super) text: Zeroizing<String>,
    /// Whether it was drawn here, and must be shown.
    pub(super) drawn: bool,
}

impl Chosen {
    /// The secret that was given, or one drawn from these bytes.
    pub(super) fn of(
        verification: &Verification,
        given: Option<&Zeroizing<String>>,
        bytes: &[u8; 32],
    ) -> Result<Self, Problem> {
        let Some(given) = given else {
            let text = SourceKey::draw(verification, bytes)
                .ok_or_else(|| Problem::invalid_body("secret", "must be given: the sender's public key"))?;
            return Ok(Self { text, drawn: true });
        };
        SourceKey::read(verification, given)
            .map_err(|invalid| Problem::invalid_body("secret", invalid.to_string()))?;
        Ok(Self {
            text: given.clone(),
            drawn: false,
        })
    }

    /// Its text, where it was drawn.
    pub(super) fn to_show(&self) -> Option<String> {
        self.drawn.then(|| self.text.to_string())
    }
}

/// How a secret is rotated.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = SourceSecretRotation)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// The new secret, as the sender has it; drawn unless given.
    #[serde(default, deserialize_with = "super::forms::secret")]
    #[schema(value_type = Option<String>)]
    secret: Option<Zeroizing<String>>,
    /// For how many hours the present secret counts beside the new one, 0 to 168; the tenant's setting
    /// `secret_rotation_overlap_hours` (24 hours at first) unless given.
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 168)]
    overlap_hours: Option<OverlapHours>,
}

/// A new secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RotatedSourceSecret)]
struct Rotated {
    /// The secret that was drawn, for the other system; it is shown here and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// Until when the secret before it counts too.
    #[schema(value_type = String, format = "date-time")]
    previous_valid_until: Timestamp,
}

/// Rotate a source's secret
///
/// Until the overlap is over, a request is good if it fits the new secret or the one before it. Rotating again ends the
/// overlap of the rotation before.
#[utoipa::path(
    post, path = "/v1/sources/{id}/rotate-secret", tag = TAG,
    params(("id" = String, Path, description = "The source's id.")), request_body = Option<Rotation>,
    responses((status = 200, description = "The new secret counts from now on.", body = Rotated))
)]
async fn rotate_source_secret(
    member: Member,
    State(app): State<App>,
    Id(id): Id<SourceId>,
    OptionalBody(rotation): OptionalBody<Rotation>,
) -> Result<MayShow<Written<Rotated>>, Problem> {
    let tenant = &member.tenant;
    let call = member.meta("RotateSourceSecret");
    let done = app
        .dispatcher
        .done::<Source>(tenant, id.as_str(), &call)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    // What was given is not shown, so only a source that is there still tells what a drawn one looked like.
    let verification = source(&app, tenant, &id).await?;
    let verification = verification.settings().ok_or_else(Problem::not_found)?;
    let drawn = member.draw().secret("source secret");
    let chosen = Chosen::of(&verification.verification, rotation.secret.as_ref(), &drawn)?;
    let name = SecretId::new(member.ulid("source secret"));
    let (receipt, previous_valid_until) = match done {
        Some(receipt) => (receipt, valid_until(&app, tenant, &id, &receipt).await?),
        None => rotate(&app, tenant, &id, (name, &chosen), &rotation, call).await?,
    };
    erase_ended(&app, tenant, &id).await?;
    let written = Written {
        status: StatusCode::OK,
        positions: vec![receipt.position],
        body: Rotated {
            secret: chosen.to_show(),
            previous_valid_until,
        },
    };
    let shown = chosen.drawn.then(|| Shown::source_secret(&id));
    Ok(MayShow(written, shown))
}

/// Gives a source another secret, which is kept first; tells until when the one before it counts too.
async fn rotate(
    app: &App,
    tenant: &TenantId,
    id: &SourceId,
    (name, chosen): (SecretId, &Chosen),
    rotation: &Rotation,
    call: Call,
) -> Result<(Receipt, Timestamp), Problem> {
    let overlap = overlap(app, tenant, rotation).await?;
    app.source_secrets
        .keep((tenant, id, Some(&name)), &chosen.text)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    let (at, secret) = (Timestamp::from(SystemTime::now()), name.clone());
    let command = SourceCommand::RotateSecret { secret, at, overlap };
    let repeated = call.repeated;
    let rotated = app
        .dispatcher
        .execute::<Source>(tenant, id.as_str(), command, call)
        .await;
    let rotated = rotated.map_err(Problem::from);
    if rotated
        .as_ref()
        .is_err_and(|problem| problem.kind() == ProblemType::NotFound)
    {
        // It was removed meanwhile; if this fails too, what is left is a value nobody reads.
        let _ = app.source_secrets.erase((tenant, id, Some(&name))).await;
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

/// For how long the present secret counts beside the new one: as asked for, or as the tenant has set.
async fn overlap(app: &App, tenant: &TenantId, rotation: &Rotation) -> Result<OverlapHours, Problem> {
    if let Some(overlap) = rotation.overlap_hours {
        return Ok(overlap);
    }
    let settings = app
        .dispatcher
        .load::<Settings>(tenant, tenant.as_str(), MAX_AGE)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    Ok(settings.aggregate.current().secret_rotation_overlap_hours)
}

/// Until when the secret before the one of a rotation counts too, as its record says.
async fn valid_until(
    app: &App,
    tenant: &TenantId,
    id: &SourceId,
    receipt: &Receipt,
) -> Result<Timestamp, Problem> {
    #[derive(Deserialize)]
    struct Recorded {
        previous_valid_until: Timestamp,
    }
    let recorded: Recorded = recorded(app, tenant, format!("source/{id}"), receipt).await?;
    Ok(recorded.previous_valid_until)
}

/// Erases the secrets that count no more.
async fn erase_ended(app: &App, tenant: &TenantId, id: &SourceId) -> Result<(), Problem> {
    let after = source(app, tenant, id).await?;
    let ended: Vec<_> = after.secrets().into_iter().flat_map(Secrets::ended).collect();
    if let Err(error) = erase(app, tenant, id, &ended).await {
        // The next rotation, or the removal, tries again.
        tracing::warn!(%tenant, source = %id, %error, "A secret that counts no more could not be erased yet.");
    }
    Ok(())
}

/// Erases the secrets of a source that has been removed.
pub(super) async fn erase_all(app: &App, tenant: &TenantId, id: &SourceId) -> Result<(), Problem> {
    let removed = source(app, tenant, id).await?;
    let Some(secrets) = removed.secrets().filter(|_| removed.settings().is_none()) else {
        return Ok(());
    };
    let all: Vec<_> = secrets.all().collect();
    erase(app, tenant, id, &all).await.map_err(|error| {
        Problem::caused(
            ProblemType::Unavailable,
            "The source is removed, but its secrets could not be erased yet; send the request again.",
            &error,
        )
    })
}

async fn erase(
    app: &App,
    tenant: &TenantId,
    id: &SourceId,
    names: &[Option<&SecretId>],
) -> Result<(), SourceSecretError> {
    for name in names {
        app.source_secrets.erase((tenant, id, *name)).await?;
    }
    Ok(())
}
