//! `/v1/endpoints`: where a tenant's events are delivered.

mod forms;
mod jwks;
mod policy;
mod secrets;
mod trial;
mod view;

use std::time::Instant;

use axum::extract::State;
use commands::{Call, Receipt};
use delivery::{Forbidden, Secret};
use domain::endpoint::{
    Endpoint, EndpointChange as Change, EndpointCommand, EndpointRejection, EndpointSettings, Policy, Reason,
};
use domain::tenant::Counted;
use domain::{EndpointId, TenantId};
use projections::{AuditFilter, Page};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access_log::{MayShow, Shown};
use crate::answer::{Done, Written};
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Body, Id, Limit, OptionalBody, Parameters};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::quotas;

use forms::{EndpointChange, EndpointChangeFields, NewEndpoint, NewEndpointFields};
use policy::Sealed;
use secrets::ShownKey;
use view::EndpointView;

const TAG: &str = "endpoints";
const READ_MODEL: &[&str] = &["endpoints"];
const AUDIT: &[&str] = &["audit"];
const BY_REQUEST: &str = "disabled by request";

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::WRITE_ENDPOINTS, routes!(create_endpoint)))
        .routes(needs(may::READ_ENDPOINTS, routes!(list_endpoints)))
        .routes(needs(may::READ_ENDPOINTS, routes!(show_endpoint)))
        .routes(needs(
            may::WRITE_ENDPOINTS,
            routes!(change_endpoint, remove_endpoint),
        ))
        .routes(needs(may::WRITE_ENDPOINTS, routes!(enable_endpoint)))
        .routes(needs(may::WRITE_ENDPOINTS, routes!(disable_endpoint)))
        .merge(secrets::router())
        .merge(jwks::router())
        .merge(trial::router())
}

/// Why it is disabled.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Disable {
    /// For the audit trail: at most 200 characters.
    #[schema(value_type = Option<String>)]
    reason: Option<Reason>,
}

/// An endpoint that has come into being.
#[derive(Debug, Serialize, ToSchema)]
struct Created {
    /// The endpoint's id.
    #[schema(value_type = String, example = "ep_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: EndpointId,
    /// What its webhooks are signed with and verified.
    #[serde(flatten)]
    key: ShownKey,
    /// The URL in its normal form.
    url: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EndpointQuery {
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Create an endpoint
///
/// The secret is kept before the endpoint exists: nothing can be sent to an endpoint that has none.
#[utoipa::path(
    post, path = "/v1/endpoints", tag = TAG, request_body = NewEndpointFields,
    responses(
        (status = 201, description = "The endpoint exists and gets events from now on.", body = Created),
        (status = 422, description = "`url_refused`: Receivers may not be at this address.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn create_endpoint(
    member: Member,
    State(app): State<App>,
    Body(new): Body<NewEndpoint>,
) -> Result<MayShow<Written<Created>>, Problem> {
    let id = EndpointId::new(member.ulid("endpoint"));
    let secret = Secret::new(*member.draw().secret("endpoint"));
    let url = new.url.to_string();
    let scheme = new.policy.scheme();
    let call = member.meta("CreateEndpoint");
    let done = app
        .dispatcher
        .done::<Endpoint>(&member.tenant, id.as_str(), &call)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    // What is there already is not judged again, nor is its secret kept again: both may be gone since.
    let receipt = match done {
        Some(receipt) => receipt,
        None => create(&app, &member, &id, new, &secret, call).await?,
    };
    let key = ShownKey::of(scheme, &member.tenant, &id, &secret);
    let shown = key.shows().then(|| Shown::endpoint_secret(&id));
    let body = Created { id, key, url };
    Ok(MayShow(Written::created(receipt.position, body), shown))
}

/// Creates an endpoint that may be there, its secrets first.
async fn create(
    app: &App,
    member: &Member,
    id: &EndpointId,
    new: NewEndpoint,
    secret: &Secret,
    call: Call,
) -> Result<Receipt, Problem> {
    let tenant = &member.tenant;
    let Sealed { change, texts } = Sealed::of(new.policy, member)?;
    let settings = EndpointSettings {
        url: new.url,
        event_types: new.event_types,
        description: new.description,
        policy: Box::new(change.apply_to(Policy::default())),
    };
    settings.check()?;
    settings.url.check_host().map_err(EndpointRejection::Url)?;
    app.egress.check(settings.url.as_url()).await?;
    policy::check_egress(app, &settings.policy).await?;
    policy::keep(app, tenant, id, &texts).await?;
    secrets::keep(app, tenant, id, None, secret).await?;
    let command = EndpointCommand::Create(settings);
    quotas::execute::<Endpoint>(app, tenant, Counted::Endpoints, id.as_str(), command, call).await
}

/// List endpoints
#[utoipa::path(
    get, path = "/v1/endpoints", tag = TAG, params(EndpointQuery),
    responses((status = 200, description = "A page of endpoints.", body = List<EndpointView>))
)]
async fn list_endpoints(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<EndpointQuery>,
) -> Result<Found<List<EndpointView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    Ok(Found::list(
        app.read_models.endpoints(&member.tenant).list(&page).await?,
        EndpointView::from,
    ))
}

/// Show an endpoint
#[utoipa::path(
    get, path = "/v1/endpoints/{id}", tag = TAG, params(("id" = String, Path, description = "The endpoint's id.")),
    responses((status = 200, description = "The endpoint.", body = EndpointView))
)]
async fn show_endpoint(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<EndpointId>,
) -> Result<Found<EndpointView>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    Found::one(
        app.read_models.endpoints(&member.tenant).get(&id).await?,
        EndpointView::from,
    )
}

/// Change an endpoint
#[utoipa::path(
    patch, path = "/v1/endpoints/{id}", tag = TAG, params(("id" = String, Path, description = "The endpoint's id.")),
    request_body = EndpointChangeFields,
    responses(
        (status = 204, description = "The endpoint is as asked for."),
        (status = 422, description = "`url_refused`: Receivers may not be at this address.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn change_endpoint(
    member: Member,
    State(app): State<App>,
    Id(id): Id<EndpointId>,
    Body(change): Body<EndpointChange>,
) -> Result<Done, Problem> {
    let tenant = &member.tenant;
    let call = member.meta("ChangeEndpoint");
    let seals = change.policy.seals();
    let done = app
        .dispatcher
        .done::<Endpoint>(tenant, id.as_str(), &call)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    let receipt = match done {
        // What it was given may have been replaced and erased since, which then stays so.
        Some(receipt) => receipt,
        None => self::change(&app, &member, &id, change, call).await?,
    };
    if seals {
        secrets::erase_ended(&app, tenant, &id).await?;
    }
    Ok(Done(receipt.position))
}

/// Changes an endpoint, after what its policy keeps secret is kept.
async fn change(
    app: &App,
    member: &Member,
    id: &EndpointId,
    asked: EndpointChange,
    call: Call,
) -> Result<Receipt, Problem> {
    let tenant = &member.tenant;
    let Sealed { change, texts } = Sealed::of(asked.policy, member)?;
    if let Some(url) = &asked.url {
        url.check_host().map_err(EndpointRejection::Url)?;
        app.egress.check(url.as_url()).await?;
    }
    policy::check_egress(app, &change.clone().apply_to(Policy::default())).await?;
    if !texts.is_empty() {
        // Nothing is kept for an endpoint that is not there.
        let before = secrets::endpoint(app, tenant, id).await?;
        before.settings().ok_or_else(Problem::not_found)?;
        policy::keep(app, tenant, id, &texts).await?;
    }
    let change = Change {
        url: asked.url,
        event_types: asked.event_types,
        description: asked.description,
        policy: Box::new(change),
    };
    let command = EndpointCommand::Change(change);
    let changed = app
        .dispatcher
        .execute::<Endpoint>(tenant, id.as_str(), command, call)
        .await;
    let changed = changed.map_err(Problem::from);
    let refused =
        |problem: &Problem| matches!(problem.kind(), ProblemType::NotFound | ProblemType::InvalidBody);
    if changed.as_ref().is_err_and(refused) {
        let names: Vec<_> = texts.iter().map(|(name, _)| Some(name)).collect();
        // If this fails too, what is left are values nobody reads.
        let _ = secrets::erase(app, tenant, id, &names).await;
    }
    changed
}

/// Remove an endpoint
///
/// Its secrets are erased.
#[utoipa::path(
    delete, path = "/v1/endpoints/{id}", tag = TAG, params(("id" = String, Path, description = "The endpoint's id.")),
    responses((status = 204, description = "The endpoint is gone for ever."))
)]
async fn remove_endpoint(
    member: Member,
    State(app): State<App>,
    Id(id): Id<EndpointId>,
) -> Result<Done, Problem> {
    let removed = execute(&app, &member, &id, EndpointCommand::Remove, "RemoveEndpoint").await;
    // Also where it was removed before: a failure then may have left them.
    secrets::erase_all(&app, &member.tenant, &id).await?;
    removed
}

/// Enable an endpoint
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/enable", tag = TAG,
    params(("id" = String, Path, description = "The endpoint's id.")),
    responses((status = 204, description = "The endpoint gets events from now on."))
)]
async fn enable_endpoint(
    member: Member,
    State(app): State<App>,
    Id(id): Id<EndpointId>,
) -> Result<Done, Problem> {
    execute(&app, &member, &id, EndpointCommand::Enable, "EnableEndpoint").await
}

/// Disable an endpoint
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/disable", tag = TAG,
    params(("id" = String, Path, description = "The endpoint's id.")), request_body = Option<Disable>,
    responses((status = 204, description = "The endpoint gets no events from now on."))
)]
async fn disable_endpoint(
    member: Member,
    State(app): State<App>,
    Id(id): Id<EndpointId>,
    OptionalBody(disable): OptionalBody<Disable>,
) -> Result<Done, Problem> {
    let reason = match disable.reason {
        Some(reason) => reason,
        None => {
            Reason::new(BY_REQUEST).map_err(|error| Problem::caused(ProblemType::Internal, "", &error))?
        }
    };
    execute(
        &app,
        &member,
        &id,
        EndpointCommand::Disable { reason },
        "DisableEndpoint",
    )
    .await
}

/// Executes a command on one of the caller's endpoints.
pub(super) async fn execute(
    app: &App,
    member: &Member,
    id: &EndpointId,
    command: EndpointCommand,
    name: &str,
) -> Result<Done, Problem> {
    let meta = member.meta(name);
    let receipt = app
        .dispatcher
        .execute::<Endpoint>(&member.tenant, id.as_str(), command, meta)
        .await?;
    Ok(Done(receipt.position))
}

/// What the event of a receipt says, as the audit trail tells: a repeated request is answered by its record, for the
/// aggregate may have changed since. `resource` is the aggregate, as `endpoint/ep_…`.
pub(super) async fn recorded<T: DeserializeOwned>(
    app: &App,
    tenant: &TenantId,
    resource: String,
    receipt: &Receipt,
) -> Result<T, Problem> {
    let deadline = Instant::now() + app.http.consistency_wait;
    app.read_models
        .wait_for(AUDIT, &[receipt.position], deadline)
        .await
        .map_err(|stale| Problem::unavailable(&stale))?;
    let filter = AuditFilter {
        resource: Some(resource),
        ..AuditFilter::default()
    };
    let mut cursor = None;
    loop {
        let page = Page {
            limit: Some(Page::MAX),
            cursor,
        };
        let rows = app.read_models.audit(tenant).list(&filter, &page).await?.data;
        let row = rows.data.into_iter().find(|row| row.position == receipt.position);
        if let Some(row) = row {
            return serde_json::from_value(row.data)
                .map_err(|error| Problem::caused(ProblemType::Internal, "", &error));
        }
        cursor = rows.next_cursor;
        if cursor.is_none() {
            let detail = "The request was carried out, but the audit trail does not tell how.";
            return Err(Problem::new(ProblemType::Internal, detail));
        }
    }
}

impl From<EndpointRejection> for Problem {
    fn from(rejection: EndpointRejection) -> Self {
        match rejection {
            EndpointRejection::NotFound => Self::not_found(),
            // Only an id drawn twice could lead here.
            EndpointRejection::AlreadyCreated => Self::new(ProblemType::Conflict, "Send the request again."),
            EndpointRejection::Url(host) => Self::invalid_body("url", host.to_string()),
            EndpointRejection::Policy(policy) => Self::invalid_body(policy.place(), policy.to_string()),
            EndpointRejection::Disabled => Self::new(
                ProblemType::NotPossible,
                format!("Nothing was changed: {rejection}."),
            ),
            EndpointRejection::NoEventTypes | EndpointRejection::ListTooLong => {
                Self::invalid_body("event_types", rejection.to_string())
            }
        }
    }
}

impl From<Forbidden> for Problem {
    fn from(refused: Forbidden) -> Self {
        Self::new(
            ProblemType::UrlRefused,
            "Choose a receiver on the public internet.",
        )
        .at("url", refused.to_string())
    }
}
