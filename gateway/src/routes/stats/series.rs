//! `/v1/stats/series`: the course of a tenant's figures.

use std::time::SystemTime;

use axum::extract::State;
use domain::{EndpointId, EventType, Timestamp};
use projections::{Interval, InvalidSeries, Metric, Point, Points, Series, SeriesOf, SeriesQuery};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::TAG;
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found};
use crate::extract::Parameters;
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemType};

/// This operation.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(needs(may::READ_STATS, routes!(show_series)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Which figures: `events`, `deliveries` (attempts and failures too), `latency`, `attempt_duration` or
    /// `active_users`.
    #[param(value_type = String, example = "events")]
    metric: Metric,
    /// How long a bucket is: `hour` or `day`. Buckets begin at whole hours and days of UTC.
    #[param(value_type = String, example = "hour")]
    interval: Interval,
    /// From this time (RFC 3339) on, from the beginning of its bucket; unless given, the last 24 hours or 30 days.
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<Timestamp>,
    /// Before this time (RFC 3339), to the end of its bucket; now unless given. At most 744 hours (31 days) or 400 days
    /// after `since`.
    #[param(value_type = Option<String>, format = "date-time")]
    until: Option<Timestamp>,
    /// Of events of this type only; not of `active_users`, and not together with `endpoint`.
    #[serde(rename = "type")]
    #[param(value_type = Option<String>)]
    event_type: Option<EventType>,
    /// Of this endpoint only; not of `events` and `active_users`.
    #[param(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
}

/// The course of figures.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Series)]
struct SeriesView {
    /// When the first bucket begins.
    #[schema(value_type = String, format = "date-time")]
    since: Timestamp,
    /// When the last bucket ends.
    #[schema(value_type = String, format = "date-time")]
    until: Timestamp,
    /// Whether nothing is missing. 500 types and 500 endpoints have a series of their own on a day, those used first:
    /// of another that day, only the totals of the tenant tell.
    complete: bool,
    /// Every bucket, the oldest first; those in which nothing happened too.
    data: Vec<Bucket>,
}

/// A bucket, with the figures of the metric.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Bucket {
    /// When it begins.
    #[schema(value_type = String, format = "date-time")]
    at: Timestamp,
    /// `events`: how many were accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<u64>,
    /// `deliveries`: how many came into being.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<u64>,
    /// `deliveries`: how many attempts were made.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u64>,
    /// `deliveries`: how many attempts arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered: Option<u64>,
    /// `deliveries`: how many attempts failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<u64>,
    /// `deliveries`: how many of those were the last, so that the delivery became a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead: Option<u64>,
    /// `active_users`: how many different users events were about.
    #[serde(skip_serializing_if = "Option::is_none")]
    active_users: Option<u64>,
    /// `latency` and `attempt_duration`: how many were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// Half took no longer, in milliseconds, to 1.6 %; percentiles are absent where nothing was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    p50: Option<u64>,
    /// Nine of ten took no longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    p90: Option<u64>,
    /// 95 of 100 took no longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    p95: Option<u64>,
    /// 99 of 100 took no longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    p99: Option<u64>,
    /// The longest, to the millisecond.
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u64>,
}

/// Show the course of figures
///
/// `latency` is from an event's acceptance to its arrival at an endpoint, in the first run of its delivery;
/// `attempt_duration` from the start of an attempt to its end. `active_users` are the users whom events of the bucket
/// are about. Figures of today change with every event; those of past buckets too where a record comes late.
#[utoipa::path(
    get, path = "/v1/stats/series", tag = TAG, params(Wanted),
    responses((status = 200, description = "The figures, bucket by bucket.", body = SeriesView))
)]
async fn show_series(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(wanted): Parameters<Wanted>,
) -> Result<Found<SeriesView>, Problem> {
    let query = wanted.query(SystemTime::now().into())?;
    at_least.reached(&app, &SeriesOf::PROJECTIONS).await?;
    let points = app.read_models.series(&member.tenant).get(&query).await?;
    Ok(Found::new(points, SeriesView::from))
}

impl Wanted {
    fn query(self, now: Timestamp) -> Result<SeriesQuery, Problem> {
        let series = match (self.event_type, self.endpoint) {
            (None, None) => Series::All,
            (Some(event_type), None) => Series::Type(event_type),
            (None, Some(endpoint)) => Series::Endpoint(endpoint),
            (Some(_), Some(_)) => {
                let detail = "endpoint: series are kept by `type` or by `endpoint`, not by both";
                return Err(Problem::new(ProblemType::InvalidQuery, detail));
            }
        };
        let until = self.until.unwrap_or(now);
        SeriesQuery::new(self.metric, self.interval, series, self.since, until)
            .map_err(|error: InvalidSeries| Problem::new(ProblemType::InvalidQuery, error.to_string()))
    }
}

impl From<Points> for SeriesView {
    fn from(points: Points) -> Self {
        Self {
            since: points.since,
            until: points.until,
            complete: points.complete,
            data: points
                .buckets
                .into_iter()
                .map(|(at, point)| Bucket::of(at, point))
                .collect(),
        }
    }
}

impl Bucket {
    fn of(at: Timestamp, point: Point) -> Self {
        let bucket = Self {
            at,
            ..Self::default()
        };
        match point {
            Point::Events(events) => Self {
                events: Some(events),
                ..bucket
            },
            Point::Deliveries(figures) => Self {
                deliveries: Some(figures.deliveries),
                attempts: Some(figures.attempts),
                delivered: Some(figures.delivered),
                failures: Some(figures.failures),
                dead: Some(figures.dead),
                ..bucket
            },
            Point::Times(count, times) => Self {
                count: Some(count),
                p50: times.map(|times| times.p50),
                p90: times.map(|times| times.p90),
                p95: times.map(|times| times.p95),
                p99: times.map(|times| times.p99),
                max: times.map(|times| times.max),
                ..bucket
            },
            Point::Users(users) => Self {
                active_users: Some(users),
                ..bucket
            },
        }
    }
}
