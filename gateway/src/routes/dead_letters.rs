//! `/v1/dead-letters`: deliveries that used up their attempts, and what to do about them.
//!
//! Redriving and discarding are asked of the endpoints concerned, one command each, and carried out by the delivery
//! side a moment later.

use std::collections::BTreeMap;

use axum::extract::State;
use domain::endpoint::{EndpointCommand, MAX_LIST, Selection};
use domain::{DeliveryId, EndpointId};
use projections::{DeliveryStatus, Page};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::deliveries::{DeliveryView, READ_MODEL};
use super::endpoints::execute;
use crate::answer::Written;
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Body, Limit, Parameters};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemType};

const TAG: &str = "dead letters";

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::READ_DELIVERIES, routes!(list_dead_letters)))
        .routes(needs(may::RESEND_DELIVERIES, routes!(redrive_dead_letters)))
        .routes(needs(may::RESEND_DELIVERIES, routes!(discard_dead_letters)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DeadLetterQuery {
    /// Of this endpoint only.
    #[param(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Which dead letters are meant: exactly one of the three.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "all": true }))]
#[serde(deny_unknown_fields)]
struct Which {
    /// These deliveries: 1 to 1,000.
    #[schema(value_type = Option<Vec<String>>)]
    ids: Option<Vec<DeliveryId>>,
    /// All of this endpoint.
    #[schema(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
    /// `true`: all of the tenant.
    all: Option<bool>,
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
    /// How many deliveries were named; null: all there are when it is carried out.
    count: Option<usize>,
}

/// What was asked for.
#[derive(Debug, Serialize, ToSchema)]
struct AskedFor {
    /// One entry per endpoint concerned.
    requests: Vec<Asked>,
    /// Ids that name no dead letter of this tenant.
    #[schema(value_type = Vec<String>)]
    unknown: Vec<DeliveryId>,
}

/// List dead letters
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = TAG, params(DeadLetterQuery),
    responses((status = 200, description = "A page of dead letters, newest first.", body = List<DeliveryView>))
)]
async fn list_dead_letters(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<DeadLetterQuery>,
) -> Result<Found<List<DeliveryView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    let found = app
        .read_models
        .deliveries(&member.tenant)
        .dead_letters(query.endpoint.as_ref(), &page)
        .await?;
    Ok(Found::list(found, DeliveryView::from))
}

/// Redrive dead letters
///
/// They go back into the queue and are tried anew by the whole schedule.
#[utoipa::path(
    post, path = "/v1/dead-letters/redrive", tag = TAG, request_body = Which,
    responses((status = 202, description = "They will be tried again.", body = AskedFor))
)]
async fn redrive_dead_letters(
    member: Member,
    State(app): State<App>,
    Body(which): Body<Which>,
) -> Result<Written<AskedFor>, Problem> {
    ask(
        &app,
        &member,
        which,
        EndpointCommand::Redrive,
        "RedriveDeadLetters",
    )
    .await
}

/// Discard dead letters
///
/// They are given up for good; their deliveries remain on record.
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
    command: fn(Selection) -> EndpointCommand,
    name: &str,
) -> Result<Written<AskedFor>, Problem> {
    let one_named = which.endpoint.is_some();
    let (selections, mut unknown) = select(app, member, which).await?;
    let mut requests = Vec::with_capacity(selections.len());
    for (endpoint, selection) in selections {
        let ids = match &selection {
            Selection::All => None,
            Selection::Deliveries(ids) => Some(ids.clone()),
        };
        // Which endpoints are concerned may have changed when the request is repeated.
        let member = &member.apart(endpoint.as_str());
        match execute(app, member, &endpoint, command(selection), name).await {
            Ok(done) => {
                let count = ids.map(|ids| ids.len());
                requests.push(Asked {
                    endpoint,
                    position: done.0,
                    count,
                });
            }
            // A removed endpoint's dead letters can be discarded, but nobody can be asked to send them.
            Err(problem) if problem.kind() == ProblemType::NotFound && !one_named => {
                unknown.extend(ids.into_iter().flatten());
            }
            Err(problem) => return Err(problem),
        }
    }
    let positions = requests
        .iter()
        .map(|asked| asked.position)
        .max()
        .into_iter()
        .collect();
    Ok(Written::accepted(positions, AskedFor { requests, unknown }))
}

type Selections = Vec<(EndpointId, Selection)>;

/// The endpoints concerned with what is asked of each, and the ids that name nothing.
async fn select(app: &App, member: &Member, which: Which) -> Result<(Selections, Vec<DeliveryId>), Problem> {
    match (which.ids, which.endpoint, which.all) {
        (Some(ids), None, None) => by_ids(app, member, ids).await,
        (None, Some(endpoint), None) => Ok((vec![(endpoint, Selection::All)], Vec::new())),
        (None, None, Some(true)) => Ok((of_all(app, member).await?, Vec::new())),
        _ => Err(Problem::invalid_body(
            ".",
            "must name exactly one of ids, endpoint, all: true",
        )),
    }
}

/// All dead letters of every endpoint that has some.
async fn of_all(app: &App, member: &Member) -> Result<Selections, Problem> {
    let found = app
        .read_models
        .deliveries(&member.tenant)
        .dead_letter_endpoints()
        .await?;
    let endpoints = found.data.into_iter().map(|row| row.endpoint);
    Ok(endpoints.map(|endpoint| (endpoint, Selection::All)).collect())
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
