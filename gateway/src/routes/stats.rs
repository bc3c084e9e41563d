//! `/v1/stats`: a tenant's figures.

mod series;

use std::time::SystemTime;

use axum::extract::State;
use domain::Timestamp;
use projections::{Stats, StatsOf};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found};
use crate::guard::{may, needs};
use crate::problem::Problem;

const TAG: &str = "stats";

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::READ_STATS, routes!(show_stats)))
        .merge(series::router())
}

/// A tenant's figures.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stats)]
struct StatsView {
    /// Events published, ever.
    total_events: u64,
    /// Deliveries by status.
    events_by_status: ByStatus,
    /// Events published in the last 24 hours, to the minute.
    events_last_24h: u64,
    /// Users registered.
    total_users: u64,
    /// Endpoints that exist.
    total_endpoints: u64,
    /// The most frequent types of events, most frequent first.
    events_by_type: Vec<OfType>,
}

/// Deliveries by status.
#[derive(Debug, Serialize, ToSchema)]
struct ByStatus {
    /// Not tried yet.
    pending: u64,
    /// Arrived.
    delivered: u64,
    /// To be tried again.
    failed: u64,
    /// Out of attempts.
    dead: u64,
}

/// How many events of a type there are.
#[derive(Debug, Serialize, ToSchema)]
struct OfType {
    /// The type.
    #[serde(rename = "type")]
    event_type: String,
    /// How many.
    total: u64,
}

/// Show the figures
#[utoipa::path(
    get, path = "/v1/stats", tag = TAG,
    responses((status = 200, description = "The figures.", body = StatsView))
)]
async fn show_stats(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
) -> Result<Found<StatsView>, Problem> {
    at_least.reached(&app, &StatsOf::PROJECTIONS).await?;
    let now = Timestamp::from(SystemTime::now());
    Ok(Found::new(
        app.read_models.stats(&member.tenant).get(now).await?,
        StatsView::from,
    ))
}

impl From<Stats> for StatsView {
    fn from(stats: Stats) -> Self {
        let counts = stats.events_by_status;
        let of_type = |row: projections::EventTypeTotal| OfType {
            event_type: row.event_type,
            total: row.total,
        };
        Self {
            total_events: stats.total_events,
            events_by_status: ByStatus {
                pending: counts.pending,
                delivered: counts.delivered,
                failed: counts.failed,
                dead: counts.dead,
            },
            events_last_24h: stats.events_last_24h,
            total_users: stats.total_users,
            total_endpoints: stats.total_endpoints,
            events_by_type: stats.events_by_type.into_iter().map(of_type).collect(),
        }
    }
}
