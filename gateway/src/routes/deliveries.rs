//! `/v1/deliveries`: what became of each event at each endpoint.

pub(super) mod attempts;

use axum::extract::State;
use domain::endpoint::EndpointCommand;
use domain::{DeliveryId, EndpointId, EventId, EventType, MessageRef, Timestamp};
use projections::{DeliveryFilter, DeliveryRow, DeliveryStatus, Page};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::endpoints::execute;
use crate::answer::Written;
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Id, Limit, Parameters};
use crate::guard::{may, needs};
use crate::problem::Problem;

pub(super) const TAG: &str = "deliveries";

/// The read model of deliveries, attempts and dead letters.
pub(super) const READ_MODEL: &[&str] = &["deliveries"];

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::READ_DELIVERIES, routes!(list_deliveries)))
        .routes(needs(may::READ_DELIVERIES, routes!(show_delivery)))
        .routes(needs(may::RESEND_DELIVERIES, routes!(resend_delivery)))
        .merge(attempts::router())
}

/// A delivery: one event for one endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(super) struct DeliveryView {
    /// Its id.
    #[schema(value_type = String)]
    id: DeliveryId,
    /// The event.
    #[schema(value_type = String)]
    event: EventId,
    /// The event's type.
    #[schema(value_type = String)]
    event_type: EventType,
    /// The endpoint.
    #[schema(value_type = String)]
    endpoint: EndpointId,
    /// `pending` (not tried yet), `failed` (to be tried again), `delivered`, or `dead` (out of attempts).
    #[schema(value_type = String, example = "delivered")]
    status: DeliveryStatus,
    /// How often it was tried, over all runs.
    attempts: u64,
    /// Which run; another begins when it is redriven or sent again.
    run: u32,
    /// The response status of the last attempt, if a response came.
    last_status: Option<i64>,
    /// Why the last attempt failed, as one word.
    last_error: Option<String>,
    /// When it is due, while it is.
    #[schema(value_type = Option<String>, format = "date-time")]
    next_due: Option<Timestamp>,
    /// When it came into being.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// When it arrived or died.
    #[schema(value_type = Option<String>, format = "date-time")]
    completed_at: Option<Timestamp>,
    /// When the dead letter was given up for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    discarded_at: Option<Timestamp>,
}

/// A delivery that will be sent once more.
#[derive(Debug, Serialize, ToSchema)]
struct Resent {
    /// Its id.
    #[schema(value_type = String)]
    id: DeliveryId,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DeliveryQuery {
    /// Of this event only.
    #[param(value_type = Option<String>)]
    event: Option<EventId>,
    /// For this endpoint only.
    #[param(value_type = Option<String>)]
    endpoint: Option<EndpointId>,
    /// `pending`, `failed`, `delivered` or `dead` only.
    #[serde(default, deserialize_with = "status")]
    #[param(value_type = Option<String>)]
    status: Option<DeliveryStatus>,
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DeliveryStatus>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(D::Error::custom)
}

/// List deliveries
#[utoipa::path(
    get, path = "/v1/deliveries", tag = TAG, params(DeliveryQuery),
    responses((status = 200, description = "A page of deliveries, newest first.", body = List<DeliveryView>))
)]
async fn list_deliveries(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<DeliveryQuery>,
) -> Result<Found<List<DeliveryView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let filter = DeliveryFilter {
        event: query.event,
        endpoint: query.endpoint,
        status: query.status,
    };
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    Ok(Found::list(
        app.read_models
            .deliveries(&member.tenant)
            .list(&filter, &page)
            .await?,
        DeliveryView::from,
    ))
}

/// Show a delivery
#[utoipa::path(
    get, path = "/v1/deliveries/{id}", tag = TAG, params(("id" = String, Path, description = "The delivery's id.")),
    responses((status = 200, description = "The delivery.", body = DeliveryView))
)]
async fn show_delivery(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<DeliveryId>,
) -> Result<Found<DeliveryView>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    Found::one(
        app.read_models.deliveries(&member.tenant).get(&id).await?,
        DeliveryView::from,
    )
}

/// Send a delivery once more
///
/// Whatever became of it before; receivers see the same `webhook-id`.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/resend", tag = TAG,
    params(("id" = String, Path, description = "The delivery's id.")),
    responses((status = 202, description = "It will be sent once more.", body = Resent))
)]
async fn resend_delivery(
    member: Member,
    State(app): State<App>,
    Id(id): Id<DeliveryId>,
) -> Result<Written<Resent>, Problem> {
    let found = app.read_models.deliveries(&member.tenant).get(&id).await?;
    let row = found.data.ok_or_else(Problem::not_found)?;
    let message = MessageRef {
        id: row.event,
        event_type: row.event_type,
        position: row.position,
        published_at: None,
    };
    let command = EndpointCommand::Resend {
        delivery: id.clone(),
        message,
    };
    let done = execute(&app, &member, &row.endpoint, command, "ResendDelivery").await?;
    Ok(Written::accepted(vec![done.0], Resent { id }))
}

impl From<DeliveryRow> for DeliveryView {
    fn from(row: DeliveryRow) -> Self {
        Self {
            id: row.id,
            event: row.event,
            event_type: row.event_type,
            endpoint: row.endpoint,
            status: row.status,
            attempts: row.attempts,
            run: row.run,
            last_status: row.last_status,
            last_error: row.last_error,
            next_due: row.next_due,
            created_at: row.created_at,
            completed_at: row.completed_at,
            discarded_at: row.discarded_at,
        }
    }
}
