//! `/v1/api-keys`: what programs prove with which tenant they act for; `/v1/tenants/{id}/api-keys`: a new owner's
//! key for a tenant that has lost its own.

mod forms;

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use commands::Receipt;
use domain::api_key::{
    ApiKey, ApiKeyCommand, ApiKeyRejection, By, KeyChange, KeyName, KeySettings, Overlap, Scopes,
};
use domain::settings::{Settings, Values};
use domain::tenant::{Counted, Standing};
use domain::{CredentialId, Grant, KeyId, Permission, TenantId, Timestamp};
use projections::Page;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access_log::{Showing, Shown};
use crate::answer::{Done, Written};
use crate::app::App;
use crate::auth::{Administrator, Member, NewKey};
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Body, Id, Limit, OptionalBody, Parameters};
use crate::guard::{self, may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::{quotas, router, tenancy};

pub(super) use forms::RateLimitForm;
use forms::{ApiKeyChange, ApiKeyQuery, ApiKeyView, Issued, NewApiKey, OwnerKey, Rotated, Rotation};

const TAG: &str = "api keys";
const READ_MODEL: &[&str] = &["api_keys"];
const OWNER: &str = "owner";

/// How old the tenant's settings may be by which a key is issued.
const MAX_AGE: Duration = Duration::from_secs(5);

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::WRITE_API_KEYS, routes!(issue_api_key)))
        .routes(needs(may::READ_API_KEYS, routes!(list_api_keys)))
        .routes(needs(may::READ_API_KEYS, routes!(show_api_key)))
        .routes(needs(may::WRITE_API_KEYS, routes!(change_api_key)))
        .routes(needs(may::WRITE_API_KEYS, routes!(rotate_api_key)))
        .routes(needs(may::WRITE_API_KEYS, routes!(revoke_api_key)))
        .routes(needs(may::ADMINISTER_PLATFORM, routes!(issue_owner_key)))
}

/// Issue an API key
///
/// It may do what its scopes grant, and nothing unless some are given. No scope can go beyond those of the key that
/// asks. The text is shown once; a request repeated under its `Idempotency-Key` is answered the same.
#[utoipa::path(
    post, path = "/v1/api-keys", tag = TAG, request_body = NewApiKey,
    responses((status = 201, description = "The key is issued.", body = Issued))
)]
async fn issue_api_key(
    member: Member,
    State(app): State<App>,
    Body(new): Body<NewApiKey>,
) -> Result<Showing<Written<Issued>>, Problem> {
    let settings = KeySettings {
        name: new.name,
        scopes: known(new.scopes)?,
        expires_at: new.expires_at,
        rate_limit: new.rate_limit.map(Into::into),
    };
    let by = by(&app, &member).await?;
    let call = member.meta("IssueApiKey");
    if !call.repeated {
        // Nothing is kept for a key that cannot be issued.
        by.may_issue(&settings)?;
    }
    let key = NewKey::draw(&member.tenant, member.draw());
    app.authority.keep(&member.tenant, &key).await?;
    let command = ApiKeyCommand::Issue { settings, by };
    let (tenant, counted) = (&member.tenant, Counted::ApiKeys);
    let receipt = quotas::execute::<ApiKey>(&app, tenant, counted, key.id.as_str(), command, call).await?;
    let shown = Shown::key(&key.id);
    Ok(Showing(
        Written::created(receipt.position, Issued::from(key)),
        shown,
    ))
}

/// List API keys
///
/// Expired and revoked ones too, newest first.
#[utoipa::path(
    get, path = "/v1/api-keys", tag = TAG, params(ApiKeyQuery),
    responses((status = 200, description = "A page of keys.", body = List<ApiKeyView>))
)]
async fn list_api_keys(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<ApiKeyQuery>,
) -> Result<Found<List<ApiKeyView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    let now = Timestamp::from(SystemTime::now());
    Ok(Found::list(
        app.read_models.api_keys(&member.tenant).list(&page).await?,
        |row| ApiKeyView::of(row, now),
    ))
}

/// Show an API key
///
/// Never its text.
#[utoipa::path(
    get, path = "/v1/api-keys/{id}", tag = TAG, params(("id" = String, Path, description = "The key's id.")),
    responses((status = 200, description = "The key.", body = ApiKeyView))
)]
async fn show_api_key(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<KeyId>,
) -> Result<Found<ApiKeyView>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let now = Timestamp::from(SystemTime::now());
    Found::one(app.read_models.api_keys(&member.tenant).get(&id).await?, |row| {
        ApiKeyView::of(row, now)
    })
}

/// Change an API key
///
/// Every process goes by the change within five seconds.
#[utoipa::path(
    patch, path = "/v1/api-keys/{id}", tag = TAG, params(("id" = String, Path, description = "The key's id.")),
    request_body = ApiKeyChange,
    responses(
        (status = 204, description = "The key is as asked for."),
        (status = 409, description = "`not_possible`: The key is revoked or has expired.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn change_api_key(
    member: Member,
    State(app): State<App>,
    Id(id): Id<KeyId>,
    Body(change): Body<ApiKeyChange>,
) -> Result<Done, Problem> {
    if change.is_empty() {
        return Err(Problem::invalid_body(
            ".",
            "must name at least one of name, scopes, expires_at, rate_limit",
        ));
    }
    let change = KeyChange {
        name: change.name,
        scopes: change.scopes.map(known).transpose()?,
        expires_at: change.expires_at,
        rate_limit: change.rate_limit.map(|limit| limit.map(Into::into)),
    };
    let by = by(&app, &member).await?;
    let meta = member.meta("ChangeApiKey");
    let receipt = app
        .dispatcher
        .execute::<ApiKey>(
            &member.tenant,
            id.as_str(),
            ApiKeyCommand::Change { change, by },
            meta,
        )
        .await?;
    Ok(Done(receipt.position))
}

/// Give an API key another text
///
/// The text before stays good until `previous_valid_until`; one that was still good beside that ends at once.
#[utoipa::path(
    post, path = "/v1/api-keys/{id}/rotate", tag = TAG,
    params(("id" = String, Path, description = "The key's id.")),
    request_body(content = Option<Rotation>),
    responses(
        (status = 200, description = "The key has another text.", body = Rotated),
        (status = 409, description = "`not_possible`: The key is revoked or has expired.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn rotate_api_key(
    member: Member,
    State(app): State<App>,
    Id(id): Id<KeyId>,
    OptionalBody(rotation): OptionalBody<Rotation>,
) -> Result<Showing<Written<Rotated>>, Problem> {
    let tenant = &member.tenant;
    let overlap = match rotation.overlap_seconds {
        Some(overlap) => overlap,
        None => usual_overlap(&settings(&app, tenant).await?)?,
    };
    let by = by(&app, &member).await?;
    let call = member.meta("RotateApiKey");
    if !call.repeated {
        // Nothing is kept for a key that cannot be rotated.
        stored(&app, tenant, &id).await?.check_changeable(&by)?;
    }
    let credential = CredentialId::new(member.ulid("credential"));
    let key = NewKey::again(tenant, id.clone(), credential.clone(), member.draw());
    app.authority.keep(tenant, &key).await?;
    let command = ApiKeyCommand::Rotate {
        credential: credential.clone(),
        overlap,
        by,
    };
    let receipt = app
        .dispatcher
        .execute::<ApiKey>(tenant, id.as_str(), command, call)
        .await?;
    let previous_valid_until = stored(&app, tenant, &id).await?.previous_until(&credential);
    let shown = Shown::key(&key.id);
    let written = Written {
        status: StatusCode::OK,
        positions: vec![receipt.position],
        body: Rotated {
            issued: key.into(),
            previous_valid_until,
        },
    };
    Ok(Showing(written, shown))
}

/// Revoke an API key
///
/// For ever. Every process refuses it within five seconds. A key can revoke itself, and the last key of a tenant can
/// be revoked: the platform administrator can then issue another.
#[utoipa::path(
    post, path = "/v1/api-keys/{id}/revoke", tag = TAG,
    params(("id" = String, Path, description = "The key's id.")),
    responses((status = 204, description = "The key is revoked."))
)]
async fn revoke_api_key(member: Member, State(app): State<App>, Id(id): Id<KeyId>) -> Result<Done, Problem> {
    let meta = member.meta("RevokeApiKey");
    let receipt = app
        .dispatcher
        .execute::<ApiKey>(&member.tenant, id.as_str(), ApiKeyCommand::Revoke, meta)
        .await?;
    Ok(Done(receipt.position))
}

/// Issue an owner's key
///
/// For a tenant that has lost its own: a key that may do everything in the tenant and does not expire. Keys it has
/// stay valid.
#[utoipa::path(
    post, path = "/v1/tenants/{id}/api-keys", tag = TAG,
    params(("id" = String, Path, description = "The tenant's id.")),
    request_body(content = Option<OwnerKey>),
    responses((status = 201, description = "The key is issued.", body = Issued))
)]
async fn issue_owner_key(
    administrator: Administrator,
    State(app): State<App>,
    Id(tenant): Id<TenantId>,
    OptionalBody(new): OptionalBody<OwnerKey>,
) -> Result<Showing<Written<Issued>>, Problem> {
    if !app.authority.tenant_exists(&tenant).await? {
        return Err(Problem::not_found());
    }
    if let Some(standing @ Standing::Terminated(_)) = tenancy::tenant(&app, &tenant).await?.standing() {
        tenancy::may_change(standing)?;
    }
    let (key, receipt) = issue_to_owner(&app, &administrator, &tenant, new.name).await?;
    let shown = Shown::key(&key.id).of(&tenant);
    Ok(Showing(
        Written::created(receipt.position, Issued::from(key)),
        shown,
    ))
}

/// Issues a key that may do everything in a tenant, on the platform's word.
pub(super) async fn issue_to_owner(
    app: &App,
    administrator: &Administrator,
    tenant: &TenantId,
    name: Option<KeyName>,
) -> Result<(NewKey, Receipt), Problem> {
    let usual = || KeyName::new(OWNER).map_err(|error| Problem::caused(ProblemType::Internal, "", &error));
    let settings = KeySettings {
        name: name.map_or_else(usual, Ok)?,
        scopes: Scopes::everything(),
        expires_at: None,
        rate_limit: None,
    };
    let key = NewKey::draw(tenant, administrator.draw());
    app.authority.keep(tenant, &key).await?;
    let meta = administrator.meta("IssueApiKey");
    let by = By {
        at: Timestamp::from(SystemTime::now()),
        grants: vec![Grant::everything()],
        longest: None,
    };
    let command = ApiKeyCommand::Issue { settings, by };
    let counted = Counted::ApiKeys;
    let receipt = quotas::execute::<ApiKey>(app, tenant, counted, key.id.as_str(), command, meta).await?;
    Ok((key, receipt))
}

/// The key as it stands in the log.
async fn stored(app: &App, tenant: &TenantId, id: &KeyId) -> Result<ApiKey, Problem> {
    let loaded = app
        .dispatcher
        .load::<ApiKey>(tenant, id.as_str(), Duration::ZERO)
        .await;
    loaded
        .map(|loaded| loaded.aggregate)
        .map_err(|error| Problem::unavailable(&error))
}

async fn settings(app: &App, tenant: &TenantId) -> Result<Values, Problem> {
    let loaded = app
        .dispatcher
        .load::<Settings>(tenant, tenant.as_str(), MAX_AGE)
        .await;
    loaded
        .map(|loaded| loaded.aggregate.current().clone())
        .map_err(|error| Problem::unavailable(&error))
}

async fn by(app: &App, member: &Member) -> Result<By, Problem> {
    Ok(By {
        at: Timestamp::from(SystemTime::now()),
        grants: member.scopes().to_vec(),
        longest: settings(app, &member.tenant).await?.api_key_max_lifetime_days,
    })
}

fn usual_overlap(values: &Values) -> Result<Overlap, Problem> {
    let seconds = values.secret_rotation_overlap_hours.get().saturating_mul(60 * 60);
    Overlap::try_from(seconds).map_err(|error| Problem::caused(ProblemType::Internal, "", &error))
}

/// The scopes, each of which must grant something that a call of this API needs: a mistyped one would grant nothing
/// in silence.
fn known(scopes: Scopes) -> Result<Scopes, Problem> {
    static NEEDED: LazyLock<BTreeSet<Permission>> =
        LazyLock::new(|| guard::permissions(&router::operations().1));
    let idle = |scope: &&Grant| !NEEDED.iter().any(|permission| scope.covers(permission));
    match scopes.as_slice().iter().find(idle) {
        Some(scope) => Err(Problem::invalid_body(
            "scopes",
            format!(
                "{scope} covers no permission that a call needs; `x-permission` in /openapi.json names them"
            ),
        )),
        None => Ok(scopes),
    }
}

impl From<ApiKeyRejection> for Problem {
    fn from(rejection: ApiKeyRejection) -> Self {
        let not_possible = |detail: &str| Self::new(ProblemType::NotPossible, detail);
        match rejection {
            ApiKeyRejection::NotFound => Self::not_found(),
            // Only an id drawn twice could lead here.
            ApiKeyRejection::AlreadyIssued => Self::new(ProblemType::Conflict, "Send the request again."),
            ApiKeyRejection::Revoked => not_possible("The key is revoked, which is for ever; issue another."),
            ApiKeyRejection::Expired => {
                not_possible("The key has expired, which is for ever; issue another.")
            }
            ApiKeyRejection::ExpiryPast => Self::invalid_body("expires_at", "must lie in the future"),
            ApiKeyRejection::ExpiryTooLate(latest) => Self::invalid_body(
                "expires_at",
                format!(
                    "must be {latest} at the latest: the tenant's settings limit how long a key is valid"
                ),
            ),
            ApiKeyRejection::BeyondOwn(scope) => Self::new(
                ProblemType::Forbidden,
                format!(
                    "The scope {scope} goes beyond those of your own key, so you cannot give it, or change or rotate a key that has it."
                ),
            ),
        }
    }
}
