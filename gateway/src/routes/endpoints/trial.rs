//! Trying an endpoint: an event for it alone.

use axum::extract::State;
use bytes::Bytes;
use commands::Draft;
use domain::{EndpointId, EventId, EventType};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::TAG;
use super::secrets::endpoint;
use crate::answer::Written;
use crate::app::App;
use crate::auth::Member;
use crate::extract::{Id, OptionalBody};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::routes::events::{not_reserved, not_too_deep};
use crate::schemas::Subject;

/// The type of a test event, unless given.
const TYPE: &str = "endpoint.test";
/// The data of a test event, unless given.
const DATA: &str = r#"{"test":true}"#;

/// The operation that tries an endpoint.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(needs(may::WRITE_ENDPOINTS, routes!(test_endpoint)))
}

/// The event to send.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TestEvent {
    /// What it is about; `endpoint.test` unless given. Data of a registered type must fit it.
    #[serde(rename = "type")]
    #[schema(value_type = Option<String>, example = "invoice.paid")]
    event_type: Option<EventType>,
    /// Any JSON; `{"test":true}` unless given.
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
}

/// A test event on its way.
#[derive(Debug, Serialize, ToSchema)]
struct TestSent {
    /// Its id, as of any event; the receiver sees it as `webhook-id`.
    #[schema(value_type = String, example = "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: EventId,
}

/// Send a test event to an endpoint
///
/// It is delivered to this endpoint alone, whatever event types that wants, and is seen among events and deliveries
/// like any other.
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/test", tag = TAG,
    params(("id" = String, Path, description = "The endpoint's id.")), request_body = Option<TestEvent>,
    responses(
        (status = 202, description = "The event is in the log and will be delivered.", body = TestSent),
        (status = 409, description = "`not_possible`: The endpoint is disabled.", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 422, description = "`schema_violation`: The data do not fit the event type.", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
async fn test_endpoint(
    member: Member,
    State(app): State<App>,
    Id(id): Id<EndpointId>,
    OptionalBody(test): OptionalBody<TestEvent>,
) -> Result<Written<TestSent>, Problem> {
    let data = test.data.as_ref().map_or(DATA, |data| data.get());
    let drawn = EventId::new(member.ulid("event"));
    if let Err(problem) = must_be_sendable(&app, &member, &id, test.event_type.as_ref(), data).await {
        // What a repeated request sent when it was here before is not judged again.
        if !app.stored_before(&member, &[&drawn]).await?.contains(&drawn) {
            return Err(problem);
        }
    }
    let event_type = match test.event_type {
        Some(event_type) => event_type,
        None => TYPE
            .parse()
            .map_err(|error| Problem::caused(ProblemType::Internal, "", &error))?,
    };
    let draft = Draft {
        id: None,
        drawn,
        event_type,
        data: Bytes::copy_from_slice(data.as_bytes()),
        only_for: Some(id),
    };
    let results = app
        .publisher
        .publish(&member.tenant, vec![draft], member.origin())
        .await?;
    let published = results.into_iter().next().ok_or_else(Problem::not_found)??;
    Ok(Written::accepted(
        vec![published.position],
        TestSent { id: published.id },
    ))
}

/// Refuses an event that the endpoint would not get, or that does not fit its type.
async fn must_be_sendable(
    app: &App,
    member: &Member,
    id: &EndpointId,
    event_type: Option<&EventType>,
    data: &str,
) -> Result<(), Problem> {
    let known = endpoint(app, &member.tenant, id).await?;
    known.settings().ok_or_else(Problem::not_found)?;
    if !known.is_enabled() {
        let detail = "The endpoint is disabled and gets nothing; enable it, then test it.";
        return Err(Problem::new(ProblemType::NotPossible, detail));
    }
    not_too_deep(data, "data")?;
    if let Some(event_type) = event_type {
        not_reserved(event_type, "type")?;
        let subject = Subject {
            event_type,
            data,
            place: String::new(),
        };
        app.schemas.check(&member.tenant, &[subject]).await?;
    }
    Ok(())
}
