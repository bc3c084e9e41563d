//! `/v1/dead-letters`: deliveries that used up their attempts, and what to do about them.
//!
//! Redriving and discarding are asked of the endpoints concerned, one command each, and carried out by the delivery
//! side a moment later.

mod act;
mod filter;
mod show;

use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::deliveries::{DeliveryView, READ_MODEL};
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::Parameters;
use crate::guard::{may, needs};
use crate::problem::Problem;
use filter::DeadLetterQuery;

const TAG: &str = "dead letters";

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::READ_DELIVERIES, routes!(list_dead_letters)))
        .merge(show::router())
        .merge(act::router())
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
    let (filter, page) = query.read();
    let found = app
        .read_models
        .deliveries(&member.tenant)
        .dead_letters(&filter, &page)
        .await?;
    Ok(Found::list(found, DeliveryView::from))
}
