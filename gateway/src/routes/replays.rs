//! `/v1/replays`: making read models again from the log, for the platform administrator.

mod request;
mod rows;
mod view;

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::State;
use broker::layout::Log;
use broker::{Filter, ReadError};
use domain::replay::{Replay, ReplayCommand, ReplayRejection};
use domain::{ReplayId, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::{Done, Written};
use crate::app::App;
use crate::auth::Administrator;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Body, Id, Limit, OptionalBody, Parameters};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::proofs;
use crate::routes::projections::decisions::Because;
use request::NewReplay;
use view::ReplayView;

const TAG: &str = "replays";

/// Records of the log that are read at once.
const PAGE: usize = 500;

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(
            may::ADMINISTER_PLATFORM,
            routes!(start_replay, list_replays),
        ))
        .routes(needs(may::ADMINISTER_PLATFORM, routes!(show_replay)))
        .routes(needs(may::ADMINISTER_PLATFORM, routes!(cancel_replay)))
        .merge(rows::router())
}

/// A replay that was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayStarted {
    /// Names it: `GET /v1/replays/{id}` tells how far it is.
    #[schema(value_type = String, example = "rpl_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    pub(crate) id: ReplayId,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ReplaysQuery {
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Start a replay
///
/// Makes the tables of projections again from the log, beside those that queries read, compares the two at one and the
/// same position, folds what was stored meanwhile, and switches: no query waits, none is answered with less than before,
/// and what was read before is kept for a rollback. Nothing but tables is touched: no webhook is sent again. Replays
/// are carried out one at a time, in the order they were asked for, and go on after a restart.
#[utoipa::path(
    post, path = "/v1/replays", tag = TAG, request_body = NewReplay,
    responses((status = 202, description = "It will be done.", body = ReplayStarted))
)]
async fn start_replay(
    administrator: Administrator,
    State(app): State<App>,
    Body(new): Body<NewReplay>,
) -> Result<Written<ReplayStarted>, Problem> {
    let reason = new.reason.clone();
    let work = new.check(&app).await?;
    let id = ReplayId::new(administrator.draw().ulid("replay"));
    let meta = administrator.meta("StartReplay");
    let platform = TenantId::platform();
    let receipt = app
        .dispatcher
        .execute::<Replay>(&platform, id.as_str(), ReplayCommand::Request(work, reason), meta)
        .await?;
    Ok(Written::accepted(vec![receipt.position], ReplayStarted { id }))
}

/// List replays, newest first
#[utoipa::path(
    get, path = "/v1/replays", tag = TAG, params(ReplaysQuery),
    responses((status = 200, description = "A page of replays.", body = List<ReplayView>))
)]
async fn list_replays(
    _: Administrator,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<ReplaysQuery>,
) -> Result<Found<List<ReplayView>>, Problem> {
    let truth = at_least.judged(&app).await?;
    let wrong = |_| {
        let detail = "cursor: take it unchanged from `next_cursor` of this very list";
        Problem::new(ProblemType::InvalidQuery, detail)
    };
    let before: Option<ReplayId> = query
        .cursor
        .map(|cursor| cursor.parse().map_err(wrong))
        .transpose()?;
    let (ids, last) = ids(&app).await.map_err(|error| Problem::unavailable(&error))?;
    let truth = truth.with(proofs::position(last));
    let older = |id: &&ReplayId| before.as_ref().is_none_or(|before| *id < before);
    let mut ids = ids.iter().rev().filter(older);
    let rows = usize::try_from(Limit::rows(query.limit)).unwrap_or(usize::MAX);
    let mut data = Vec::new();
    for id in ids.by_ref().take(rows) {
        if let (Some(view), _) = view(&app, id).await? {
            data.push(view);
        }
    }
    let more = ids.next().is_some();
    let last = data.last().map(|last| last.id.to_string());
    Ok(truth.of(List {
        next_cursor: last.filter(|_| more),
        data,
    }))
}

/// Show a replay and how far it is
#[utoipa::path(
    get, path = "/v1/replays/{id}", tag = TAG, params(("id" = String, Path, description = "The replay's id.")),
    responses((status = 200, description = "The replay.", body = ReplayView))
)]
async fn show_replay(
    _: Administrator,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<ReplayId>,
) -> Result<Found<ReplayView>, Problem> {
    let truth = at_least.judged(&app).await?;
    let (view, sequence) = view(&app, &id).await?;
    let truth = truth.with(proofs::position(sequence));
    let view = view.ok_or_else(|| truth.not_found())?;
    Ok(truth.of(view))
}

/// Cancel a replay
///
/// What it has built is dropped, and what queries read stays as it is. One that has begun to switch, or to put away what
/// it compared, is brought to its end: so is one that comes there before the request is heeded.
#[utoipa::path(
    post, path = "/v1/replays/{id}/cancel", tag = TAG,
    params(("id" = String, Path, description = "The replay's id.")), request_body = Because,
    responses(
        (status = 204, description = "It will end in a moment."),
        (status = 409, description = "`not_possible`: The replay has ended, is a rollback, or is switching.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn cancel_replay(
    administrator: Administrator,
    State(app): State<App>,
    Id(id): Id<ReplayId>,
    OptionalBody(because): OptionalBody<Because>,
) -> Result<Done, Problem> {
    let row = app.read_models.rebuild(id.as_str()).await?;
    if row.is_some_and(|row| !row.phase.is_over() && !row.phase.can_be_cancelled()) {
        return Err(Problem::new(
            ProblemType::NotPossible,
            "Nothing was changed: the replay is being brought to its end, and is not cancelled any more.",
        ));
    }
    let meta = administrator.meta("CancelReplay");
    let platform = TenantId::platform();
    let receipt = app
        .dispatcher
        .execute::<Replay>(
            &platform,
            id.as_str(),
            ReplayCommand::Cancel(because.reason),
            meta,
        )
        .await?;
    Ok(Done(receipt.position))
}

/// How a replay is shown, and its last record; none of an id that is no replay's.
async fn view(app: &App, id: &ReplayId) -> Result<(Option<ReplayView>, u64), Problem> {
    let platform = TenantId::platform();
    let loaded = app
        .dispatcher
        .load::<Replay>(&platform, id.as_str(), Duration::ZERO)
        .await;
    let replay = loaded.map_err(|error| Problem::unavailable(&error))?;
    let row = app.read_models.rebuild(id.as_str()).await?;
    Ok((ReplayView::of(id, &replay.aggregate, row), replay.sequence))
}

/// The ids of all replays, in the order of their making, and the last record about any of them.
async fn ids(app: &App) -> Result<(BTreeSet<ReplayId>, u64), ReadError> {
    let (mut ids, mut after) = (BTreeSet::new(), 0);
    let Some((_, log)) = app.logs.iter().find(|(log, _)| *log == Log::Events(0)) else {
        return Ok((ids, after));
    };
    let filter = Filter::new(format!("ev.{}.replay.*", TenantId::platform()));
    let filter = filter.map_err(|error| ReadError::Unavailable(Box::new(error)))?;
    loop {
        let page = log.read(after, Some(&filter), PAGE).await?;
        let Some(last) = page.last() else {
            return Ok((ids, after));
        };
        after = last.sequence;
        let named = page
            .iter()
            .filter_map(|record| record.subject.as_str().rsplit('.').next()?.parse().ok());
        ids.extend(named);
    }
}

impl From<ReplayRejection> for Problem {
    fn from(rejection: ReplayRejection) -> Self {
        match rejection {
            ReplayRejection::NotFound => Self::not_found(),
            ReplayRejection::Ended | ReplayRejection::NotToBeCancelled => Self::new(
                ProblemType::NotPossible,
                format!("Nothing was changed: {rejection}."),
            ),
            ReplayRejection::Projections => Self::invalid_body("projections", rejection.to_string()),
            ReplayRejection::NotToBeSwitched => Self::invalid_body("switch", rejection.to_string()),
            // Only an id drawn twice could lead here.
            ReplayRejection::AlreadyRequested => Self::new(ProblemType::Conflict, "Send the request again."),
        }
    }
}
