//! `/v1/events`: a tenant's own events, on their way to its endpoints.
//!
//! The data of an event is the publisher's JSON to the byte: it is never parsed into values and written again.

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use commands::{Draft, MAX_BULK, Published};
use domain::{EventId, EventType, Position, TenantId, Timestamp};
use projections::{Answer, MessageFilter, MessageRow, Page};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::export::{self, Format, Part, Row};
use crate::answer::Written;
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Body, BulkBody, Id, Limit, Parameters};
use crate::problem::{Problem, ProblemBody, ProblemType};

const TAG: &str = "events";
const READ_MODEL: &[&str] = &["messages"];

/// How deep arrays and objects of an event's data may lie in each other: many JSON libraries stop at about this.
const MAX_DEPTH: usize = 100;

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(publish_event, list_events))
        .routes(routes!(publish_events))
        .routes(routes!(export_events))
        .routes(routes!(show_event))
}

/// An event to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewEvent {
    /// What it is about: dotted words.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "invoice.paid")]
    event_type: EventType,
    /// Any JSON; receivers get it to the byte.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
    /// An id of your choice, `evt_` and a ULID: the same event sent again under it within a day is stored once.
    #[schema(value_type = Option<String>)]
    id: Option<EventId>,
}

/// Events to publish together, in this order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewEvents {
    /// 1 to 1,000 events.
    #[schema(min_items = 1, max_items = 1000)]
    events: Vec<NewEvent>,
}

/// An event that is in the log.
#[derive(Debug, Serialize, ToSchema)]
struct Accepted {
    /// Its id; receivers see it as `webhook-id`.
    #[schema(value_type = String, example = "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: EventId,
    /// Where it stands.
    #[schema(value_type = String, example = "m0-42")]
    position: Position,
    /// It was published before, under this id.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

/// What became of one event of several.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
enum BulkResult {
    /// It is in the log.
    Accepted(Accepted),
    /// It is not.
    Rejected {
        /// The problem's code.
        code: &'static str,
        /// The problem in words.
        detail: String,
    },
}

/// What became of each event, in the order in which they were sent.
#[derive(Debug, Serialize, ToSchema)]
struct BulkAccepted {
    /// One result per event.
    results: Vec<BulkResult>,
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
    /// The publisher's JSON.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
}

#[derive(Debug, Deserialize, IntoParams)]
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

/// Publish an event
#[utoipa::path(
    post, path = "/v1/events", tag = TAG, request_body = NewEvent,
    responses(
        (status = 202, description = "The event is in the log and will be delivered.", body = Accepted),
        (status = 409, description = "`event_id_reused`: Another event was published under this id.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn publish_event(
    member: Member,
    State(app): State<App>,
    Body(new): Body<NewEvent>,
) -> Result<Written<Accepted>, Problem> {
    let drafts = vec![draft(new, "data")?];
    let results = app
        .publisher
        .publish(&member.tenant, drafts, member.origin())
        .await?;
    let published = results.into_iter().next().ok_or_else(Problem::not_found)??;
    Ok(Written::accepted(
        vec![published.position],
        Accepted::from(published),
    ))
}

/// Publish up to 1,000 events
///
/// All new events are appended together, in the order given. A body that is not valid publishes none.
#[utoipa::path(
    post, path = "/v1/events/bulk", tag = TAG, request_body = NewEvents,
    responses((status = 202, description = "What became of each event.", body = BulkAccepted))
)]
async fn publish_events(
    member: Member,
    State(app): State<App>,
    BulkBody(new): BulkBody<NewEvents>,
) -> Result<Written<BulkAccepted>, Problem> {
    if !(1..=MAX_BULK).contains(&new.events.len()) {
        return Err(Problem::invalid_body(
            "events",
            format!("must hold 1 to {MAX_BULK} events"),
        ));
    }
    let drafts = new.events.into_iter().enumerate();
    let drafts = drafts.map(|(index, event)| draft(event, &format!("events[{index}].data")));
    let drafts = drafts.collect::<Result<Vec<_>, _>>()?;
    let results = app
        .publisher
        .publish(&member.tenant, drafts, member.origin())
        .await?;
    let last = results.iter().flatten().map(|published| published.position).max();
    let results = results.into_iter().map(|result| match result {
        Ok(published) => BulkResult::Accepted(published.into()),
        Err(error) => {
            let problem = Problem::from(error);
            BulkResult::Rejected {
                code: problem.kind().code(),
                detail: problem.detail().to_owned(),
            }
        }
    });
    let body = BulkAccepted {
        results: results.collect(),
    };
    Ok(Written::accepted(last.into_iter().collect(), body))
}

fn draft(new: NewEvent, path: &str) -> Result<Draft, Problem> {
    if is_too_deep(new.data.get()) {
        return Err(Problem::invalid_body(
            path,
            format!("must not be nested more than {MAX_DEPTH} levels deep"),
        ));
    }
    let data = Bytes::from(Box::<str>::from(new.data).into_string());
    Ok(Draft {
        id: new.id,
        event_type: new.event_type,
        data,
    })
}

/// Whether valid JSON is nested too deep; told without recursion, whatever the depth.
fn is_too_deep(json: &str) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
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
    let row = found.data.ok_or_else(Problem::not_found)?;
    let event = full(&app, &member.tenant, row).await?.ok_or_else(|| {
        Problem::new(
            ProblemType::EventExpired,
            "It was published longer ago than this installation keeps events.",
        )
    })?;
    Ok(Found::new(
        Answer {
            data: event,
            positions: found.positions,
        },
        |event| event,
    ))
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
            let mut rows = Vec::with_capacity(found.data.data.len());
            for row in found.data.data {
                rows.extend(full(&app, &tenant, row).await?);
            }
            Ok(Part {
                rows,
                next: found.data.next_cursor,
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

impl From<Published> for Accepted {
    fn from(published: Published) -> Self {
        Self {
            id: published.id,
            position: published.position,
            duplicate: published.duplicate,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_of_texts() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!is_too_deep(&nested(MAX_DEPTH)));
        assert!(is_too_deep(&nested(MAX_DEPTH + 1)));
        assert!(is_too_deep(&"{\"a\":".repeat(400_000)));
        assert!(!is_too_deep(&format!(
            "\"{}\\\"{}\"",
            "[".repeat(500),
            "{".repeat(500)
        )));
        assert!(!is_too_deep(&"[],".repeat(500)));
    }

    #[test]
    fn data_keeps_its_bytes() {
        let body = br#"{"type":"a.b","data": {"n": 1.50, "x":"\u00e4", "n": 12345678901234567890123} }"#;
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let new: NewEvent = serde_path_to_error::deserialize(&mut deserializer).unwrap();
        let draft = draft(new, "data").unwrap();
        assert_eq!(
            &draft.data[..],
            br#"{"n": 1.50, "x":"\u00e4", "n": 12345678901234567890123}"#
        );
    }
}
