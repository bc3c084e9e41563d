//! `/v1/replays/{id}/rows`: looking into a copy that stands at a past position.

use axum::extract::State;
use domain::{ReplayId, TenantId};
use projections::{CopiedRow, Page};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{TAG, view};
use crate::app::App;
use crate::auth::Administrator;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Id, Limit, Parameters};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::proofs;

/// This operation.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(needs(may::ADMINISTER_PLATFORM, routes!(list_copied_rows)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct RowsQuery {
    /// The table, as `users`.
    table: String,
    /// Whose rows.
    #[param(value_type = String)]
    tenant: TenantId,
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List rows of a copy
///
/// One tenant's rows of a table as they were at the position or time that the replay names with `to`, in the order of
/// their keys. `Tidings-Position` tells which position that was, and `Tidings-Age` how old it is. What a copy has not
/// seen it never sees: asked for with `Tidings-At-Least`, that is answered 412 `stale` at once.
#[utoipa::path(
    get, path = "/v1/replays/{id}/rows", tag = TAG,
    params(("id" = String, Path, description = "The replay's id."), RowsQuery),
    responses(
        (status = 200, description = "A page of rows: columns by name, times in milliseconds since 1970, bytes in base 64.",
            body = List<Object>),
        (status = 409, description = "`not_possible`: The replay has made no copy for inspection, or not yet, or it was \
            dropped.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn list_copied_rows(
    _: Administrator,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<ReplayId>,
    Parameters(query): Parameters<RowsQuery>,
) -> Result<Found<List<CopiedRow>>, Problem> {
    let (replay, sequence) = view(&app, &id).await?;
    let Some(replay) = replay else {
        let truth = at_least.judged(&app).await?;
        return Err(truth.with(proofs::position(sequence)).not_found());
    };
    let Some(projection) = app.read_models.projection_of(&query.table) else {
        let detail = format!("table: there is no table {} of a read model", query.table);
        return Err(Problem::new(ProblemType::InvalidQuery, detail));
    };
    let none = || {
        let detail = format!("This replay has no copy of {projection} to look into.");
        Problem::new(ProblemType::NotPossible, detail)
    };
    let generation = replay.generations.get(projection).ok_or_else(none)?;
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    let rows = app
        .read_models
        .copied_rows(&query.table, *generation, &query.tenant, &page)
        .await?;
    let rows = rows.ok_or_else(none)?;
    at_least.seen_by(&rows.positions)?;
    Ok(Found::list(rows, |row| row))
}
