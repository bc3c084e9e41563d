//! The public keys that an endpoint's webhooks are signed with, for its receiver's programs.

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use delivery::PublicKey;
use domain::endpoint::policy::SigningScheme;
use domain::endpoint::{Endpoint, Secrets};
use domain::{EndpointId, TenantId, Timestamp};
use serde::Serialize;
use std::time::SystemTime;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::TAG;
use crate::app::App;
use crate::auth::MAX_AGE;
use crate::extract::Pair;
use crate::guard::{Need, needs};
use crate::problem::Problem;

/// How long an answer may be kept: a new key signs beside the one before it for longer, unless a leak forbids that.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// The operation on public keys.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(needs(Need::Nothing, routes!(show_public_keys)))
}

/// Public keys (RFC 7517).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PublicKeys)]
struct KeySet {
    /// Those that sign at present, the newest first.
    keys: Vec<Key>,
}

/// One of them (RFC 8037).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PublicKey)]
struct Key {
    /// Always `OKP`.
    #[schema(value_type = String, example = "OKP")]
    kty: &'static str,
    /// Always `Ed25519`.
    #[schema(value_type = String, example = "Ed25519")]
    crv: &'static str,
    /// The key, in base64url.
    #[schema(example = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")]
    x: String,
    /// Its name: the thumbprint of RFC 7638.
    #[schema(example = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")]
    kid: String,
    /// Always `EdDSA`.
    #[schema(value_type = String, example = "EdDSA")]
    alg: &'static str,
    /// Always `sig`.
    #[serde(rename = "use")]
    #[schema(value_type = String, example = "sig")]
    usage: &'static str,
}

impl From<PublicKey> for Key {
    fn from(key: PublicKey) -> Self {
        Self {
            kty: "OKP",
            crv: "Ed25519",
            x: key.x(),
            kid: key.id(),
            alg: "EdDSA",
            usage: "sig",
        }
    }
}

/// Where an endpoint's public keys are, under this service's own address.
pub(super) fn address(tenant: &TenantId, endpoint: &EndpointId) -> String {
    format!("/v1/tenants/{tenant}/endpoints/{endpoint}/jwks.json")
}

/// Show the public keys of an endpoint
///
/// For receivers, who need no key of the API: what an endpoint with the signature `ed25519` signs with at present, and
/// during a rotation both. An endpoint that does not sign so has none.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/endpoints/{id}/jwks.json", tag = TAG,
    params(
        ("tenant" = String, Path, description = "The tenant's id."),
        ("id" = String, Path, description = "The endpoint's id."),
    ),
    responses((status = 200, description = "A JSON Web Key Set (RFC 7517).", body = KeySet))
)]
async fn show_public_keys(
    State(app): State<App>,
    Pair(tenant, id): Pair<TenantId, EndpointId>,
) -> Result<Response, Problem> {
    let loaded = app
        .dispatcher
        .load::<Endpoint>(&tenant, id.as_str(), MAX_AGE)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    let endpoint = loaded.aggregate;
    let settings = endpoint.settings().ok_or_else(Problem::not_found)?;
    let mut keys = Vec::new();
    if settings.policy.signature == SigningScheme::Ed25519 {
        let now = Timestamp::from(SystemTime::now());
        let names = endpoint.secrets().into_iter();
        for name in names.flat_map(|secrets: &Secrets| secrets.signing_at(now)) {
            let found = app.public_keys.find(&tenant, &id, name).await;
            let found = found.map_err(|error| Problem::unavailable(&error))?;
            keys.extend(found.map(Key::from));
        }
    }
    Ok(([(CACHE_CONTROL, CACHED)], axum::Json(KeySet { keys })).into_response())
}
