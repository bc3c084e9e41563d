//! `/v1/events`: a tenant's own events, on their way to its endpoints.
//!
//! The data of an event is the publisher's JSON to the byte: it is never parsed into values and written again.

mod publish;

use axum::extract::State;
use axum::response::Response;
use domain::{EventId, EventType, Position, TenantId, Timestamp};
use futures::{StreamExt, TryStreamExt, stream};
use projections::{Answer, MessageFilter, MessageRow, Page};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::export::{self, Format, Part, Row};
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List, Truth};
use crate::extract::{Id, Limit, Parameters};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};

pub(crate) use publish::{not_reserved, not_too_deep};

const TAG: &str = "events";
const READ_MODEL: &[&str] = &["messages"];

/// How many events an export reads from the log at once.
const READS: usize = 16;

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(publish::router())
        .routes(needs(may::READ_EVENTS, routes!(list_events)))
        .routes(needs(may::READ_EVENTS, routes!(export_events)))
        .routes(needs(may::READ_EVENTS, routes!(show_event)))
}

/// An event without its data.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventSummary)]
struct EventView {
    /// Its id.
    #[schema(value_type = String)]
    id: EventId,
    /// What it is about.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    event_type: EventType,
    /// When it was accepted.
    #[schema(value_type = String, format = "date-time")]
    published_at: Timestamp,
    /// Where it stands.
    #[schema(value_type = String)]
    position: Position,
    /// How long its data is, in bytes.
    size: u64,
}

/// An event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
struct FullEvent {
    /// Its id.
    #[schema(value_type = String)]
    id: EventId,
    /// What it is about.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    event_type: EventType,
    /// When it was accepted.
    #[schema(value_type = String, format = "date-time")]
    published_at: Timestamp,
    /// Where it stands.
    #[schema(value_type = String)]
    position: Position,
    /// Who published it: `key_…` or `system:<part>`.
    actor: String,
    /// The HTTP request it came with.
    request_id: Option<String>,
    /// What it belongs to, across requests: the header `Correlation-Id`, or else the request's id.
    correlation_id: Option<String>,
    /// What directly led to it.
    causation_id: Option<String>,
    /// W3C trace context.
    traceparent: Option<String>,
    /// The publisher's JSON.
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EventQuery {
    /// Events of this type only.
    #[serde(rename = "type")]
    #[param(value_type = Option<String>)]
    event_type: Option<EventType>,
    /// Accepted at this time (RFC 3339) or later.
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<Timestamp>,
    /// Accepted before this time (RFC 3339).
    #[param(value_type = Option<String>, format = "date-time")]
    until: Option<Timestamp>,
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ExportQuery {
    /// The form of the file.
    #[param(inline)]
    format: Format,
    /// Events of this type only.
    #[serde(rename = "type")]
    #[param(value_type = Option<String>)]
    event_type: Option<EventType>,
    /// Accepted at this time (RFC 3339) or later.
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<Timestamp>,
    /// Accepted before this time (RFC 3339).
    #[param(value_type = Option<String>, format = "date-time")]
    until: Option<Timestamp>,
}

/// List events
#[utoipa::path(
    get, path = "/v1/events", tag = TAG, params(EventQuery),
    responses((status = 200, description = "A page of events, newest first, without their data.",
        body = List<EventView>))
)]
async fn list_events(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<EventQuery>,
) -> Result<Found<List<EventView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let filter = MessageFilter {
        event_type: query.event_type,
        since: query.since,
        until: query.until,
    };
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    Ok(Found::list(
        app.read_models
            .messages(&member.tenant)
            .list(&filter, &page)
            .await?,
        EventView::from,
    ))
}

/// Show an event
#[utoipa::path(
    get, path = "/v1/events/{id}", tag = TAG, params(("id" = String, Path, description = "The event's id.")),
    responses(
        (status = 200, description = "The event with its data.", body = FullEvent),
        (status = 410, description = "`event_expired`: The data of this event is no longer kept.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn show_event(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<EventId>,
) -> Result<Found<FullEvent>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let found = app.read_models.messages(&member.tenant).get(&id).await?;
    let truth = Truth::from(&found);
    let row = found.data.ok_or_else(|| truth.not_found())?;
    let event = full(&app, &member.tenant, row).await?.ok_or_else(|| {
        Problem::new(
            ProblemType::EventExpired,
            "It was published longer ago than this installation keeps events.",
        )
    })?;
    let answer = Answer {
        data: event,
        positions: found.positions,
        fresh_at: found.fresh_at,
    };
    Ok(Found::new(answer, |event| event))
}

/// Reads the event's data from the log; none where retention has removed it.
async fn full(app: &App, tenant: &TenantId, row: MessageRow) -> Result<Option<FullEvent>, Problem> {
    let message = app
        .publisher
        .read(row.position)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    let Some(message) = message.filter(|message| message.tenant == *tenant && message.id == row.id) else {
        return Ok(None);
    };
    let unreadable = |error: &(dyn std::error::Error + 'static)| {
        Problem::caused(ProblemType::Internal, "The event's data cannot be read.", error)
    };
    let text = String::from_utf8(message.data).map_err(|error| unreadable(&error))?;
    let data = RawValue::from_string(text).map_err(|error| unreadable(&error))?;
    Ok(Some(FullEvent {
        id: row.id,
        event_type: row.event_type,
        published_at: row.published_at,
        position: row.position,
        actor: message.actor.label(),
        request_id: message.request_id,
        correlation_id: message.correlation_id,
        causation_id: message.causation_id,
        traceparent: message.traceparent,
        data,
    }))
}

/// Export events with their data
///
/// Newest first. Events whose data is no longer kept are left out.
#[utoipa::path(
    get, path = "/v1/events/export", tag = TAG, params(ExportQuery),
    responses((status = 200, description = "The file.", content((String = "application/jsonl"), (String = "text/csv"))))
)]
async fn export_events(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<ExportQuery>,
) -> Result<Response, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let filter = MessageFilter {
        event_type: query.event_type,
        since: query.since,
        until: query.until,
    };
    let tenant = member.tenant;
    export::stream(query.format, "events", move |cursor| {
        let (app, tenant, filter) = (app.clone(), tenant.clone(), filter.clone());
        async move {
            let page = Page {
                limit: Some(Page::MAX),
                cursor,
            };
            let found = app.read_models.messages(&tenant).list(&filter, &page).await?;
            let page = Part::of(found, |row| full(&app, &tenant, row));
            let rows: Vec<_> = stream::iter(page.rows).buffered(READS).try_collect().await?;
            Ok(Part {
                rows: rows.into_iter().flatten().collect(),
                next: page.next,
                truth: page.truth,
            })
        }
    })
    .await
}

impl Row for FullEvent {
    const COLUMNS: &'static [&'static str] = &["id", "type", "published_at", "position", "data"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.event_type.to_string(),
            self.published_at.to_string(),
            self.position.to_string(),
            self.data.get().to_owned(),
        ]
    }
}

impl From<MessageRow> for EventView {
    fn from(row: MessageRow) -> Self {
        Self {
            id: row.id,
            event_type: row.event_type,
            published_at: row.published_at,
            position: row.position,
            size: row.size,
        }
    }
}
