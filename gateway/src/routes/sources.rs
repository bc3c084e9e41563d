//! `/v1/sources`: other systems whose webhooks a tenant receives.

mod forms;
mod secrets;

use std::time::Duration;

use axum::extract::State;
use commands::{Call, Receipt};
use domain::source::{Source, SourceChange as Change, SourceCommand, SourceRejection, SourceSettings};
use domain::{SourceId, TenantId};
use projections::Page;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access_log::{MayShow, Shown};
use crate::answer::{Done, Written};
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Body, Id, Limit, OptionalBody, Parameters};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemType};
use forms::{Created, Disable, NewSource, SourceChange, SourceQuery, SourceView, address};
use secrets::Chosen;

const TAG: &str = "sources";
const READ_MODEL: &[&str] = &["sources"];

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::WRITE_SOURCES, routes!(create_source)))
        .routes(needs(may::READ_SOURCES, routes!(list_sources)))
        .routes(needs(may::READ_SOURCES, routes!(show_source)))
        .routes(needs(may::WRITE_SOURCES, routes!(change_source, remove_source)))
        .routes(needs(may::WRITE_SOURCES, routes!(enable_source)))
        .routes(needs(may::WRITE_SOURCES, routes!(disable_source)))
        .merge(secrets::router())
}

/// Create a source
///
/// Give its `address` to the other system. Without a `secret` one is drawn and shown this once; where only the sender
/// has one to give (ed25519), it must be given.
#[utoipa::path(
    post, path = "/v1/sources", tag = TAG, request_body = NewSource,
    responses((status = 201, description = "The source exists, and what it sends is taken.", body = Created))
)]
async fn create_source(
    member: Member,
    State(app): State<App>,
    Body(new): Body<NewSource>,
) -> Result<MayShow<Written<Created>>, Problem> {
    let id = SourceId::new(member.ulid("source"));
    let drawn = member.draw().secret("source secret");
    let chosen = Chosen::of(&new.verification, new.secret.as_ref(), &drawn)?;
    let call = member.meta("CreateSource");
    let done = app
        .dispatcher
        .done::<Source>(&member.tenant, id.as_str(), &call)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    // What is there already is not judged again, nor is its secret kept again: both may be gone since.
    let receipt = match done {
        Some(receipt) => receipt,
        None => create(&app, &member.tenant, &id, new, &chosen, call).await?,
    };
    let shown = chosen.drawn.then(|| Shown::source_secret(&id));
    let body = Created {
        address: address(&member.tenant, &id),
        id,
        secret: chosen.to_show(),
    };
    Ok(MayShow(Written::created(receipt.position, body), shown))
}

/// Creates a source that may be there, its secret first.
async fn create(
    app: &App,
    tenant: &TenantId,
    id: &SourceId,
    new: NewSource,
    chosen: &Chosen,
    call: Call,
) -> Result<Receipt, Problem> {
    let event_type = new.event_type.or_else(|| new.verification.usual_event_type());
    let settings = SourceSettings {
        event_type: event_type
            .ok_or_else(|| Problem::invalid_body("event_type", "must be given for this scheme"))?,
        name: new.name,
        verification: new.verification,
        tolerance_seconds: new.tolerance_seconds.unwrap_or(SourceSettings::TOLERANCE),
        rate_limit: new.rate_limit,
    };
    app.source_secrets
        .keep((tenant, id, None), &chosen.text)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    let command = SourceCommand::Create(settings);
    let receipt = app
        .dispatcher
        .execute::<Source>(tenant, id.as_str(), command, call)
        .await?;
    Ok(receipt)
}

/// List sources
#[utoipa::path(
    get, path = "/v1/sources", tag = TAG, params(SourceQuery),
    responses((status = 200, description = "A page of sources.", body = List<SourceView>))
)]
async fn list_sources(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<SourceQuery>,
) -> Result<Found<List<SourceView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    Ok(Found::list(
        app.read_models.sources(&member.tenant).list(&page).await?,
        |row| SourceView::of(&member.tenant, row),
    ))
}

/// Show a source
#[utoipa::path(
    get, path = "/v1/sources/{id}", tag = TAG, params(("id" = String, Path, description = "The source's id.")),
    responses((status = 200, description = "The source.", body = SourceView))
)]
async fn show_source(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<SourceId>,
) -> Result<Found<SourceView>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    Found::one(app.read_models.sources(&member.tenant).get(&id).await?, |row| {
        SourceView::of(&member.tenant, row)
    })
}

/// Change a source
///
/// How its requests prove themselves cannot be changed: that is another source.
#[utoipa::path(
    patch, path = "/v1/sources/{id}", tag = TAG, params(("id" = String, Path, description = "The source's id.")),
    request_body = SourceChange,
    responses((status = 204, description = "The source is as asked for."))
)]
async fn change_source(
    member: Member,
    State(app): State<App>,
    Id(id): Id<SourceId>,
    Body(change): Body<SourceChange>,
) -> Result<Done, Problem> {
    let change = Change {
        name: change.name,
        event_type: change.event_type,
        tolerance_seconds: change.tolerance_seconds,
        rate_limit: change.rate_limit,
    };
    execute(&app, &member, &id, SourceCommand::Change(change), "ChangeSource").await
}

/// Remove a source
///
/// Its secrets are erased.
#[utoipa::path(
    delete, path = "/v1/sources/{id}", tag = TAG, params(("id" = String, Path, description = "The source's id.")),
    responses((status = 204, description = "The source is gone for ever."))
)]
async fn remove_source(
    member: Member,
    State(app): State<App>,
    Id(id): Id<SourceId>,
) -> Result<Done, Problem> {
    let removed = execute(&app, &member, &id, SourceCommand::Remove, "RemoveSource").await;
    // Also where it was removed before: a failure then may have left them.
    secrets::erase_all(&app, &member.tenant, &id).await?;
    removed
}

/// Enable a source
#[utoipa::path(
    post, path = "/v1/sources/{id}/enable", tag = TAG,
    params(("id" = String, Path, description = "The source's id.")),
    responses((status = 204, description = "What the source sends is taken from now on."))
)]
async fn enable_source(
    member: Member,
    State(app): State<App>,
    Id(id): Id<SourceId>,
) -> Result<Done, Problem> {
    execute(&app, &member, &id, SourceCommand::Enable, "EnableSource").await
}

/// Disable a source
///
/// What it sends is answered 409 at once by the process that answers, and by the others within five seconds.
#[utoipa::path(
    post, path = "/v1/sources/{id}/disable", tag = TAG,
    params(("id" = String, Path, description = "The source's id.")), request_body = Option<Disable>,
    responses((status = 204, description = "Nothing of the source is taken from now on."))
)]
async fn disable_source(
    member: Member,
    State(app): State<App>,
    Id(id): Id<SourceId>,
    OptionalBody(disable): OptionalBody<Disable>,
) -> Result<Done, Problem> {
    let reason = disable.reason()?;
    let command = SourceCommand::Disable { reason };
    execute(&app, &member, &id, command, "DisableSource").await
}

/// Executes a command on one of the caller's sources.
async fn execute(
    app: &App,
    member: &Member,
    id: &SourceId,
    command: SourceCommand,
    name: &str,
) -> Result<Done, Problem> {
    let receipt = app
        .dispatcher
        .execute::<Source>(&member.tenant, id.as_str(), command, member.meta(name))
        .await?;
    Ok(Done(receipt.position))
}

/// The source as the log has it now.
async fn source(app: &App, tenant: &TenantId, id: &SourceId) -> Result<Source, Problem> {
    let loaded = app
        .dispatcher
        .load::<Source>(tenant, id.as_str(), Duration::ZERO)
        .await;
    loaded
        .map(|loaded| loaded.aggregate)
        .map_err(|error| Problem::unavailable(&error))
}

impl From<SourceRejection> for Problem {
    fn from(rejection: SourceRejection) -> Self {
        match rejection {
            SourceRejection::NotFound => Self::not_found(),
            // Only an id drawn twice could lead here.
            SourceRejection::AlreadyCreated => Self::new(ProblemType::Conflict, "Send the request again."),
        }
    }
}
