//! Publishing: one event, or many at once.

use std::collections::HashSet;

use axum::extract::State;
use bytes::Bytes;
use commands::{Draft, MAX_BULK, PublishError, Published};
use domain::{EventId, EventType, Position};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::TAG;
use crate::answer::Written;
use crate::app::App;
use crate::auth::Member;
use crate::extract::{Body, BulkBody, object};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody};
use crate::schemas::Subject;

/// How deep arrays and objects of an event's data may lie in each other: many JSON libraries stop at about this.
const MAX_DEPTH: usize = 100;

/// The operations that publish.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::PUBLISH_EVENTS, routes!(publish_event)))
        .routes(needs(may::PUBLISH_EVENTS, routes!(publish_events)))
}

/// An event to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "type": "invoice.paid", "data": { "amount": "12.50" } }))]
#[serde(deny_unknown_fields)]
struct NewEvent {
    /// What it is about: dotted words.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "invoice.paid")]
    event_type: EventType,
    /// Any JSON; receivers get it to the byte.
    #[schema(value_type = serde_json::Value)]
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
    #[schema(value_type = Vec<NewEvent>, min_items = 1, max_items = 1000)]
    events: Vec<Item>,
}

/// One of several events: an object, whatever else serde would take for one.
#[derive(Debug, Deserialize)]
struct Item(#[serde(deserialize_with = "object")] NewEvent);

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

/// Publish an event
#[utoipa::path(
    post, path = "/v1/events", tag = TAG, request_body = NewEvent,
    responses(
        (status = 202, description = "The event is in the log and will be delivered.", body = Accepted),
        (status = 409, description = "`event_id_reused`: Another event was published under this id.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`schema_violation`: The data do not fit the event type, or the tenant takes only \
            registered types and this is none.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn publish_event(
    member: Member,
    State(app): State<App>,
    Body(new): Body<NewEvent>,
) -> Result<Written<Accepted>, Problem> {
    not_reserved(&new.event_type, "type")?;
    not_too_deep(new.data.get(), "data")?;
    let drawn = EventId::new(member.ulid("event"));
    let subject = Subject {
        event_type: &new.event_type,
        data: new.data.get(),
        place: String::new(),
    };
    let id = new.id.as_ref().unwrap_or(&drawn);
    must_fit(&app, &member, &[id], vec![subject]).await?;
    let drafts = vec![draft(new, drawn)];
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
/// All new events are appended together, in the order given. A body that is not valid publishes none, nor does one
/// with an event that does not fit its type: `errors` then names the places in all of them.
#[utoipa::path(
    post, path = "/v1/events/bulk", tag = TAG, request_body = NewEvents,
    responses(
        (status = 202, description = "What became of each event.", body = BulkAccepted),
        (status = 422, description = "`schema_violation`: The data of some do not fit their types, or the tenant takes \
            only registered types.", body = ProblemBody, content_type = "application/problem+json"),
    )
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
    for (index, Item(event)) in new.events.iter().enumerate() {
        not_reserved(&event.event_type, &format!("events[{index}].type"))?;
        not_too_deep(event.data.get(), &format!("events[{index}].data"))?;
    }
    let subjects = new.events.iter().enumerate().map(|(index, Item(event))| Subject {
        event_type: &event.event_type,
        data: event.data.get(),
        place: format!("events[{index}]."),
    });
    let drawn = (0..new.events.len()).map(|index| EventId::new(member.draw().nth(index).ulid("event")));
    let drawn: Vec<_> = drawn.collect();
    let ids = new.events.iter().zip(&drawn);
    let ids: Vec<_> = ids
        .map(|(Item(event), drawn)| event.id.as_ref().unwrap_or(drawn))
        .collect();
    must_fit(&app, &member, &ids, subjects.collect()).await?;
    let drafts = new.events.into_iter().zip(drawn);
    let drafts = drafts.map(|(Item(event), drawn)| draft(event, drawn)).collect();
    let results = app
        .publisher
        .publish(&member.tenant, drafts, member.origin())
        .await?;
    let last = results.iter().flatten().map(|published| published.position).max();
    let body = BulkAccepted {
        results: results.into_iter().map(BulkResult::from).collect(),
    };
    Ok(Written::accepted(last.into_iter().collect(), body))
}

/// Refuses types of events that only Tidings itself publishes, or receivers could not trust them.
pub(crate) fn not_reserved(event_type: &EventType, place: &str) -> Result<(), Problem> {
    if event_type.is_reserved() {
        let message = format!(
            "types that begin with `{}` are published by the service itself",
            EventType::RESERVED
        );
        return Err(Problem::invalid_body(place, message));
    }
    Ok(())
}

/// Refuses events that do not fit their types. What a repeated request stored when it was here before is not judged
/// again: its type may have another schema by now.
async fn must_fit(
    app: &App,
    member: &Member,
    ids: &[&EventId],
    subjects: Vec<Subject<'_>>,
) -> Result<(), Problem> {
    let Err(refused) = app.schemas.check(&member.tenant, &subjects).await else {
        return Ok(());
    };
    let stored = app.stored_before(member, ids).await?;
    if stored.is_empty() {
        return Err(refused);
    }
    let new = subjects
        .into_iter()
        .zip(ids)
        .filter(|(_, id)| !stored.contains(id));
    let new: Vec<_> = new.map(|(subject, _)| subject).collect();
    app.schemas.check(&member.tenant, &new).await
}

impl App {
    /// Which of these events a repeated request has stored when it was here before: those the read model has seen, and
    /// those that stand in the log behind them.
    pub(crate) async fn stored_before(
        &self,
        member: &Member,
        ids: &[&EventId],
    ) -> Result<HashSet<EventId>, Problem> {
        let (mut stored, mut ends) = (HashSet::new(), Vec::new());
        if member.draw().repeats().is_none() {
            return Ok(stored);
        }
        let messages = self.read_models.messages(&member.tenant);
        for &id in ids {
            let answer = messages.get(id).await?;
            stored.extend(answer.data.map(|row| row.id));
            if ends.is_empty() {
                ends = answer.positions;
            }
        }
        for mut position in ends {
            while stored.len() < ids.len() {
                position.sequence += 1;
                let read = self.publisher.read(position).await;
                let Some(message) = read.map_err(|error| Problem::unavailable(&error))? else {
                    break;
                };
                if message.tenant == member.tenant && ids.contains(&&message.id) {
                    stored.insert(message.id);
                }
            }
        }
        Ok(stored)
    }
}

/// Refuses data, as JSON, that many who read them could not.
pub(crate) fn not_too_deep(data: &str, path: &str) -> Result<(), Problem> {
    if is_too_deep(data) {
        let message = format!("must not be nested more than {MAX_DEPTH} levels deep");
        return Err(Problem::invalid_body(path, message));
    }
    Ok(())
}

fn draft(new: NewEvent, drawn: EventId) -> Draft {
    Draft {
        id: new.id,
        drawn,
        event_type: new.event_type,
        data: Bytes::from(Box::<str>::from(new.data).into_string()),
        only_for: None,
    }
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

impl From<Published> for Accepted {
    fn from(published: Published) -> Self {
        Self {
            id: published.id,
            position: published.position,
            duplicate: published.duplicate,
        }
    }
}

impl From<Result<Published, PublishError>> for BulkResult {
    fn from(result: Result<Published, PublishError>) -> Self {
        match result {
            Ok(published) => Self::Accepted(published.into()),
            Err(error) => {
                let problem = Problem::from(error);
                Self::Rejected {
                    code: problem.kind().code(),
                    detail: problem.detail().to_owned(),
                }
            }
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
        let draft = draft(new, "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap());
        assert_eq!(
            &draft.data[..],
            br#"{"n": 1.50, "x":"\u00e4", "n": 12345678901234567890123}"#
        );
    }

    #[test]
    fn an_event_among_others_is_an_object() {
        let parse = |body: &str| serde_json::from_str::<NewEvents>(body);
        assert!(parse(r#"{"events":[{"type":"a.b","data":{"n":1.50}}]}"#).is_ok());
        let error = parse(r#"{"events":[["a.b",{"n":1.50},null]]}"#).unwrap_err();
        assert!(error.to_string().contains("expected an object"), "{error}");
    }

    #[test]
    fn what_the_page_proposes_can_be_published() {
        let schema = serde_json::to_value(<NewEvent as utoipa::PartialSchema>::schema()).unwrap();
        let example = schema["example"].to_string();
        let event: NewEvent = serde_json::from_str(&example).unwrap();
        assert_eq!(event.event_type.as_str(), "invoice.paid");
    }
}
