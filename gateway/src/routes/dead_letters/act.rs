//! Redriving and discarding: one, some, those that match, or all.

use std::collections::BTreeMap;

use axum::extract::State;
use domain::endpoint::{EndpointCommand, MAX_LIST, Rate, Selection};
use domain::{DeliveryId, EndpointId};
use projections::{DeadLetterFilter, DeliveryStatus};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::TAG;
use super::filter::Which;
use crate::answer::Written;
use crate::app::App;
use crate::auth::Member;
use crate::extract::Body;
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::routes::endpoints::execute;

/// The operations that act.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::RESEND_DELIVERIES, routes!(redrive_dead_letters)))
        .routes(needs(may::RESEND_DELIVERIES, routes!(discard_dead_letters)))
}

/// What is to be redriven, and how fast.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "all": true, "rate": 20 }))]
#[serde(deny_unknown_fields)]
struct Redrive {
    /// These deliveries: 1 to 1,000.
    #[schema(value_type = Option<Vec<String>>)]
    ids: Option<Vec<DeliveryId>>,
    /// All of this endpoint.
    #[schema(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
    /// Those that match.
    matching: Option<super::filter::MatchingBody>,
    /// `true`: all of the tenant.
    all: Option<bool>,
    /// How many become due in a second at each endpoint, 1 to 10,000; all at once unless given.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    rate: Option<Rate>,
}

/// What was asked of one endpoint.
#[derive(Debug, Serialize, ToSchema)]
struct Asked {
    /// The endpoint.
    #[schema(value_type = String)]
    endpoint: EndpointId,
    /// Where the request stands.
    #[schema(value_type = String)]
    position: domain::Position,
    /// How many deliveries were named; null: all that are meant when it is carried out.
    count: Option<usize>,
}

/// What was asked for.
#[derive(Debug, Serialize, ToSchema)]
struct AskedFor {
    /// One entry per endpoint concerned.
    requests: Vec<Asked>,
    /// Ids that name no dead letter of this tenant, or one of an endpoint that cannot be sent anything.
    #[schema(value_type = Vec<String>)]
    unknown: Vec<DeliveryId>,
    /// Endpoints with such dead letters that cannot be sent anything: they are disabled or removed.
    #[schema(value_type = Vec<String>)]
    refused: Vec<EndpointId>,
}

/// Redrive dead letters
///
/// They go back into the queue and are tried anew by the whole schedule; with a `rate`, spread over time, which
/// outlives restarts. A disabled or removed endpoint cannot be sent anything: its dead letters stay as they are.
#[utoipa::path(
    post, path = "/v1/dead-letters/redrive", tag = TAG, request_body = Redrive,
    responses(
        (status = 202, description = "They will be tried again.", body = AskedFor),
        (status = 409, description = "`not_possible`: The endpoint named is disabled; enable it first.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn redrive_dead_letters(
    member: Member,
    State(app): State<App>,
    Body(redrive): Body<Redrive>,
) -> Result<Written<AskedFor>, Problem> {
    let rate = redrive.rate;
    let which = Which {
        ids: redrive.ids,
        endpoint: redrive.endpoint,
        matching: redrive.matching,
        all: redrive.all,
    };
    let command = |selection| EndpointCommand::Redrive { selection, rate };
    ask(&app, &member, which, command, "RedriveDeadLetters").await
}

/// Discard dead letters
///
/// They are given up for good; their deliveries remain on record. Those of disabled and removed endpoints can be
/// discarded too.
#[utoipa::path(
    post, path = "/v1/dead-letters/discard", tag = TAG, request_body = Which,
    responses((status = 202, description = "They are given up.", body = AskedFor))
)]
async fn discard_dead_letters(
    member: Member,
    State(app): State<App>,
    Body(which): Body<Which>,
) -> Result<Written<AskedFor>, Problem> {
    ask(
        &app,
        &member,
        which,
        EndpointCommand::Discard,
        "DiscardDeadLetters",
    )
    .await
}

async fn ask(
    app: &App,
    member: &Member,
    which: Which,
    command: impl Fn(Selection) -> EndpointCommand,
    name: &str,
) -> Result<Written<AskedFor>, Problem> {
    let one_named = which.endpoint.is_some();
    let (selections, unknown) = select(app, member, which).await?;
    let mut asked = AskedFor {
        requests: Vec::with_capacity(selections.len()),
        unknown,
        refused: Vec::new(),
    };
    for (endpoint, selection) in selections {
        let ids = match &selection {
            Selection::All | Selection::Matching(_) => None,
            Selection::Deliveries(ids) => Some(ids.clone()),
        };
        // Which endpoints are concerned may have changed when the request is repeated.
        let member = &member.apart(endpoint.as_str());
        match execute(app, member, &endpoint, command(selection), name).await {
            Ok(done) => {
                let count = ids.map(|ids| ids.len());
                asked.requests.push(Asked {
                    endpoint,
                    position: done.0,
                    count,
                });
            }
            // A removed endpoint's dead letters can be discarded, but nobody can be asked to send them.
            Err(problem)
                if matches!(problem.kind(), ProblemType::NotFound | ProblemType::NotPossible)
                    && !one_named =>
            {
                asked.unknown.extend(ids.into_iter().flatten());
                asked.refused.push(endpoint);
            }
            Err(problem) => return Err(problem),
        }
    }
    let positions = asked.requests.iter().map(|asked| asked.position).max();
    Ok(Written::accepted(positions.into_iter().collect(), asked))
}

type Selections = Vec<(EndpointId, Selection)>;

/// The endpoints concerned with what is asked of each, and the ids that name nothing.
async fn select(app: &App, member: &Member, which: Which) -> Result<(Selections, Vec<DeliveryId>), Problem> {
    match (which.ids, which.endpoint, which.matching, which.all) {
        (Some(ids), None, None, None) => by_ids(app, member, ids).await,
        (None, Some(endpoint), None, None) => Ok((vec![(endpoint, Selection::All)], Vec::new())),
        (None, None, Some(matching), None) => {
            let (matching, filter) = matching.read()?;
            let selection = Selection::Matching(matching);
            Ok((of_endpoints(app, member, &filter, &selection).await?, Vec::new()))
        }
        (None, None, None, Some(true)) => {
            let filter = DeadLetterFilter::default();
            Ok((
                of_endpoints(app, member, &filter, &Selection::All).await?,
                Vec::new(),
            ))
        }
        _ => Err(Problem::invalid_body(
            ".",
            "must name exactly one of ids, endpoint, matching, all: true",
        )),
    }
}

/// The same of every endpoint that has such dead letters.
async fn of_endpoints(
    app: &App,
    member: &Member,
    filter: &DeadLetterFilter,
    selection: &Selection,
) -> Result<Selections, Problem> {
    let found = app
        .read_models
        .deliveries(&member.tenant)
        .dead_letter_endpoints(filter)
        .await?;
    let endpoints = found.data.into_iter().map(|row| row.endpoint);
    Ok(endpoints.map(|endpoint| (endpoint, selection.clone())).collect())
}

async fn by_ids(
    app: &App,
    member: &Member,
    mut ids: Vec<DeliveryId>,
) -> Result<(Selections, Vec<DeliveryId>), Problem> {
    if !(1..=MAX_LIST).contains(&ids.len()) {
        return Err(Problem::invalid_body(
            "ids",
            format!("must hold 1 to {MAX_LIST} ids"),
        ));
    }
    ids.sort_unstable();
    ids.dedup();
    let deliveries = app.read_models.deliveries(&member.tenant);
    // What a repeated request asked for may be carried out: the same is asked again, and found in the log. Of what was
    // not asked yet, the delivery side passes over what is no dead letter.
    let again = member.draw().repeats().is_some();
    let (mut by_endpoint, mut unknown) = (BTreeMap::<EndpointId, Vec<DeliveryId>>::new(), Vec::new());
    for id in ids {
        match deliveries.get(&id).await?.data {
            Some(row) if again || (row.status == DeliveryStatus::Dead && row.discarded_at.is_none()) => {
                by_endpoint.entry(row.endpoint).or_default().push(id);
            }
            _ => unknown.push(id),
        }
    }
    let selections = by_endpoint
        .into_iter()
        .map(|(endpoint, ids)| (endpoint, Selection::Deliveries(ids)));
    Ok((selections.collect(), unknown))
}
