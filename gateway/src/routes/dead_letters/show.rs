//! One dead letter with everything there is to judge it by.

use axum::extract::State;
use domain::{DeliveryId, EventId, EventType, Message, Timestamp};
use projections::{AttemptRow, DeliveryRow, DeliveryStatus};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::TAG;
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, Truth};
use crate::extract::Id;
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemType};
use crate::routes::deliveries::attempts::AttemptView;
use crate::routes::deliveries::{DeliveryView, READ_MODEL};

/// The operation that shows one.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(needs(may::READ_DELIVERIES, routes!(show_dead_letter)))
}

/// What a dead letter should have brought.
#[derive(Debug, Serialize, ToSchema)]
struct Payload {
    /// The event's id.
    #[schema(value_type = String)]
    id: EventId,
    /// Its type.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "invoice.paid")]
    event_type: EventType,
    /// When it was accepted.
    #[schema(value_type = String, format = "date-time")]
    published_at: Timestamp,
    /// The publisher's JSON, to the byte.
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
}

/// A dead letter: the delivery, its event, and its last attempt.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLetter {
    /// The delivery.
    delivery: DeliveryView,
    /// The event; null where it is no longer kept: then there is nothing left that could be delivered.
    event: Option<Payload>,
    /// The last attempt, with what the receiver answered.
    last_attempt: Option<AttemptView>,
}

/// Show a dead letter
#[utoipa::path(
    get, path = "/v1/dead-letters/{id}", tag = TAG, params(("id" = String, Path, description = "The delivery's id.")),
    responses((status = 200, description = "The dead letter with its event and its last attempt.", body = DeadLetter))
)]
async fn show_dead_letter(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<DeliveryId>,
) -> Result<Found<DeadLetter>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let deliveries = app.read_models.deliveries(&member.tenant);
    let mut found = deliveries.get(&id).await?;
    let truth = Truth::from(&found);
    found.data = found.data.filter(is_dead_letter);
    let row = found.data.as_ref().ok_or_else(|| truth.not_found())?;
    let message = app.publisher.read(row.position).await;
    let message = message.map_err(|error| Problem::unavailable(&error))?;
    let message = message.filter(|message| message.tenant == member.tenant && message.id == row.event);
    let event = message.map(payload).transpose()?;
    let attempts = deliveries.attempts(&id).await?.data.unwrap_or_default();
    let last_attempt = attempts.into_iter().max_by_key(made).map(AttemptView::from);
    Found::one(found, |row| DeadLetter {
        delivery: DeliveryView::from(row),
        event,
        last_attempt,
    })
}

fn is_dead_letter(row: &DeliveryRow) -> bool {
    row.status == DeliveryStatus::Dead && row.discarded_at.is_none()
}

fn made(attempt: &AttemptRow) -> (u32, u32, Timestamp) {
    (attempt.run, attempt.attempt, attempt.at)
}

fn payload(message: Message) -> Result<Payload, Problem> {
    let unreadable = |error: &(dyn std::error::Error + 'static)| {
        Problem::caused(ProblemType::Internal, "The event's data cannot be read.", error)
    };
    let text = String::from_utf8(message.data).map_err(|error| unreadable(&error))?;
    Ok(Payload {
        id: message.id,
        event_type: message.event_type,
        published_at: message.published_at,
        data: RawValue::from_string(text).map_err(|error| unreadable(&error))?,
    })
}
