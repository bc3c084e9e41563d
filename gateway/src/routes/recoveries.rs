//! `/v1/recoveries`: delivering past events to an endpoint that did not get them.

mod request;
mod view;

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::State;
use broker::layout::Log;
use broker::{Filter, ReadError};
use domain::recovery::{Recovery, RecoveryCommand, RecoveryRejection};
use domain::{EndpointId, RecoveryId, Source, TenantId};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::Done;
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Id, Limit, Parameters};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};
use view::RecoveryView;

const TAG: &str = "recoveries";

/// Records of the log that are read at once.
const PAGE: usize = 500;

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(request::router())
        .routes(needs(may::READ_DELIVERIES, routes!(list_recoveries)))
        .routes(needs(may::READ_DELIVERIES, routes!(show_recovery)))
        .routes(needs(may::RESEND_DELIVERIES, routes!(pause_recovery)))
        .routes(needs(may::RESEND_DELIVERIES, routes!(resume_recovery)))
        .routes(needs(may::RESEND_DELIVERIES, routes!(cancel_recovery)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct RecoveriesQuery {
    /// For this endpoint only.
    #[param(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List recoveries, newest first
#[utoipa::path(
    get, path = "/v1/recoveries", tag = TAG, params(RecoveriesQuery),
    responses((status = 200, description = "A page of recoveries.", body = List<RecoveryView>))
)]
async fn list_recoveries(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<RecoveriesQuery>,
) -> Result<Found<List<RecoveryView>>, Problem> {
    let truth = at_least.judged_to_the_end(&app, &[Source::Events]).await?;
    let wrong = |_| {
        let detail = "cursor: take it unchanged from `next_cursor` of this very list";
        Problem::new(ProblemType::InvalidQuery, detail)
    };
    let before: Option<RecoveryId> = query
        .cursor
        .map(|cursor| cursor.parse().map_err(wrong))
        .transpose()?;
    let ids = ids(&app, &member.tenant).await;
    let ids = ids.map_err(|error| Problem::unavailable(&error))?;
    let older = |id: &&RecoveryId| before.as_ref().is_none_or(|before| *id < before);
    let mut ids = ids.iter().rev().filter(older);
    let rows = usize::try_from(Limit::rows(query.limit)).unwrap_or(usize::MAX);
    let mut data = Vec::new();
    let mut last = None;
    for id in ids.by_ref() {
        last = Some(id.to_string());
        let view = view(&app, &member.tenant, id).await?;
        let of = |view: &RecoveryView| query.endpoint.as_ref().is_none_or(|of| view.endpoint == *of);
        data.extend(view.filter(of));
        if data.len() == rows {
            break;
        }
    }
    let more = ids.next().is_some();
    Ok(truth.of(List {
        next_cursor: last.filter(|_| more),
        data,
    }))
}

/// Show a recovery and how far it is
#[utoipa::path(
    get, path = "/v1/recoveries/{id}", tag = TAG, params(("id" = String, Path, description = "The recovery's id.")),
    responses((status = 200, description = "The recovery.", body = RecoveryView))
)]
async fn show_recovery(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<RecoveryId>,
) -> Result<Found<RecoveryView>, Problem> {
    let truth = at_least.judged_to_the_end(&app, &[Source::Events]).await?;
    let view = view(&app, &member.tenant, &id).await?;
    let view = view.ok_or_else(|| truth.not_found())?;
    Ok(truth.of(view))
}

/// Pause a recovery
///
/// It stands still within about a second; what it has put into the queue is delivered.
#[utoipa::path(
    post, path = "/v1/recoveries/{id}/pause", tag = TAG,
    params(("id" = String, Path, description = "The recovery's id.")),
    responses(
        (status = 204, description = "It stands still."),
        (status = 409, description = "`not_possible`: The recovery has ended.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn pause_recovery(
    member: Member,
    State(app): State<App>,
    Id(id): Id<RecoveryId>,
) -> Result<Done, Problem> {
    execute(&app, &member, &id, RecoveryCommand::Pause, "PauseRecovery").await
}

/// Resume a recovery
#[utoipa::path(
    post, path = "/v1/recoveries/{id}/resume", tag = TAG,
    params(("id" = String, Path, description = "The recovery's id.")),
    responses(
        (status = 204, description = "It goes on from where it stood."),
        (status = 409, description = "`not_possible`: The recovery has ended.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn resume_recovery(
    member: Member,
    State(app): State<App>,
    Id(id): Id<RecoveryId>,
) -> Result<Done, Problem> {
    execute(&app, &member, &id, RecoveryCommand::Resume, "ResumeRecovery").await
}

/// Cancel a recovery
///
/// It ends within about a second; what it has put into the queue is delivered.
#[utoipa::path(
    post, path = "/v1/recoveries/{id}/cancel", tag = TAG,
    params(("id" = String, Path, description = "The recovery's id.")),
    responses(
        (status = 204, description = "It has ended."),
        (status = 409, description = "`not_possible`: The recovery has ended already.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn cancel_recovery(
    member: Member,
    State(app): State<App>,
    Id(id): Id<RecoveryId>,
) -> Result<Done, Problem> {
    execute(&app, &member, &id, RecoveryCommand::Cancel, "CancelRecovery").await
}

async fn execute(
    app: &App,
    member: &Member,
    id: &RecoveryId,
    command: RecoveryCommand,
    name: &str,
) -> Result<Done, Problem> {
    let meta = member.meta(name);
    let receipt = app
        .dispatcher
        .execute::<Recovery>(&member.tenant, id.as_str(), command, meta)
        .await?;
    Ok(Done(receipt.position))
}

async fn view(app: &App, tenant: &TenantId, id: &RecoveryId) -> Result<Option<RecoveryView>, Problem> {
    let loaded = app
        .dispatcher
        .load::<Recovery>(tenant, id.as_str(), Duration::ZERO)
        .await;
    let recovery = loaded.map_err(|error| Problem::unavailable(&error))?.aggregate;
    Ok(RecoveryView::of(id, &recovery))
}

/// The ids of a tenant's recoveries, in the order of their making.
async fn ids(app: &App, tenant: &TenantId) -> Result<BTreeSet<RecoveryId>, ReadError> {
    let mut ids = BTreeSet::new();
    let Some((_, log)) = app.logs.iter().find(|(log, _)| *log == Log::Events(0)) else {
        return Ok(ids);
    };
    let filter = Filter::new(format!("ev.{tenant}.recovery.*"));
    let filter = filter.map_err(|error| ReadError::Unavailable(Box::new(error)))?;
    let mut after = 0;
    loop {
        let page = log.read(after, Some(&filter), PAGE).await?;
        let Some(last) = page.last() else { return Ok(ids) };
        after = last.sequence;
        let named = page
            .iter()
            .filter_map(|record| record.subject.as_str().rsplit('.').next()?.parse().ok());
        ids.extend(named);
    }
}

impl From<RecoveryRejection> for Problem {
    fn from(rejection: RecoveryRejection) -> Self {
        match rejection {
            RecoveryRejection::NotFound => Self::not_found(),
            RecoveryRejection::Ended => Self::new(
                ProblemType::NotPossible,
                format!("Nothing was changed: {rejection}."),
            ),
            RecoveryRejection::NoTime => Self::invalid_body("until", rejection.to_string()),
            RecoveryRejection::ListTooLong => Self::invalid_body("event_types", rejection.to_string()),
            // Only an id drawn twice could lead here.
            RecoveryRejection::AlreadyRequested => {
                Self::new(ProblemType::Conflict, "Send the request again.")
            }
        }
    }
}
