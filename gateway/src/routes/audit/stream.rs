//! `/v1/audit/stream`: the trail as it grows, as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! A stream follows the read model in the order of the log, from a place that the client names. What it has not seen of
//! a place it sees later, and nothing twice: rows and the position of their fold become visible together.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{AUTHORIZATION, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use domain::TenantId;
use futures::stream;
use projections::{AuditFilter, AuditPlace, AuditRow};
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::view::{AuditView, OutcomeView};
use super::{READ_MODEL, TAG};
use crate::app::App;
use crate::auth::{Auditor, MAX_AGE};
use crate::consistency::{AtLeast, Truth};
use crate::extract::Parameters;
use crate::guard::{authorize, may, needs};
use crate::problem::{Problem, ProblemType};

/// The place after which a client goes on, as browsers send it.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Asks proxies to pass on what comes at once.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The most streams of one tenant in one process.
const OF_TENANT: usize = 10;
/// The most streams of one process.
const OF_PROCESS: usize = 100;
/// How many entries are read at once.
const BATCH: usize = 100;
/// How often something is sent at least.
const BEAT: Duration = Duration::from_secs(10);
/// How long a stream waits for news before it looks by itself.
const LOOK: Duration = Duration::from_millis(500);
/// How long it leaves the read model alone at least.
const PAUSE: Duration = Duration::from_millis(50);

/// This part's operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(needs(may::READ_AUDIT, routes!(stream_audit)))
}

/// The streams of this process.
#[derive(Clone)]
pub(crate) struct Streams {
    open: Arc<Mutex<HashMap<TenantId, usize>>>,
    stopping: CancellationToken,
}

/// The right to one stream.
struct Permit {
    streams: Streams,
    tenant: TenantId,
}

impl Streams {
    /// None open; all end with the token.
    pub(crate) fn new(stopping: CancellationToken) -> Self {
        Self {
            open: Arc::default(),
            stopping,
        }
    }

    fn take(&self, tenant: &TenantId) -> Result<Permit, Problem> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.get(tenant).copied().unwrap_or_default();
        if own >= OF_TENANT || all >= OF_PROCESS {
            let detail = format!(
                "A process keeps {OF_TENANT} streams of a tenant open at most, and {OF_PROCESS} of all; close one first."
            );
            return Err(Problem::new(ProblemType::RateLimited, detail));
        }
        open.insert(tenant.clone(), own + 1);
        Ok(Permit {
            streams: self.clone(),
            tenant: tenant.clone(),
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.tenant);
            }
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct StreamQuery {
    /// Begin after this place: an earlier event's `id`, or a position; now unless given. The header `Last-Event-ID`
    /// goes before it.
    #[param(value_type = Option<String>, example = "e0-42")]
    after: Option<String>,
    /// By this actor.
    actor: Option<String>,
    /// This action, as `user.registered`.
    action: Option<String>,
    /// On this resource: its id, its kind, or `kind/id`.
    resource: Option<String>,
    /// With this outcome.
    #[param(inline)]
    outcome: Option<OutcomeView>,
    /// With this text in action, command, actor, resource id or data, whatever the case of A to Z.
    q: Option<String>,
}

/// Follow the trail
///
/// Server-sent events in the order of the log: `event: entry` has an entry as its data; every event has an `id`, after
/// which the stream goes on when it is opened again. Something is sent every 10 seconds. A stream ends when its key
/// does (`event: end`), and when the service stops; a process keeps 10 streams of a tenant open at most.
#[utoipa::path(
    get, path = "/v1/audit/stream", tag = TAG, params(StreamQuery),
    responses((status = 200, description = "The entries as they come.", content((String = "text/event-stream"))))
)]
async fn stream_audit(
    auditor: Auditor,
    State(app): State<App>,
    at_least: AtLeast,
    headers: HeaderMap,
    Parameters(query): Parameters<StreamQuery>,
) -> Result<Response, Problem> {
    let named = named(&headers, query.after.as_deref())?;
    at_least.reached(&app, READ_MODEL).await?;
    let permit = app.streams.take(&auditor.tenant)?;
    let truth = Truth::from(&app.read_models.seen(&auditor.tenant, READ_MODEL).await?);
    let place = match named {
        Some(place) => place,
        None => app.read_models.audit(&auditor.tenant).end().await?,
    };
    let filter = AuditFilter {
        actor: query.actor,
        action: query.action,
        resource: query.resource,
        outcome: query.outcome.map(Into::into),
        q: query.q,
        ..AuditFilter::default()
    };
    let mut credential = HeaderMap::new();
    if let Some(value) = headers.get(AUTHORIZATION) {
        credential.insert(AUTHORIZATION, value.clone());
    }
    let following = Following {
        app,
        permit,
        credential,
        filter,
        place,
        checked: Instant::now(),
        sent: None,
        ended: false,
    };
    let events = stream::unfold(following, Following::next);
    let mut response = Sse::new(futures::StreamExt::flat_map(events, stream::iter)).into_response();
    response
        .headers_mut()
        .insert(UNBUFFERED, HeaderValue::from_static("no"));
    Ok(truth.told_by(response))
}

/// The place that a client names.
fn named(headers: &HeaderMap, after: Option<&str>) -> Result<Option<AuditPlace>, Problem> {
    let last = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty());
    if let Some(value) = last {
        let place = value.to_str().ok().and_then(|text| text.parse().ok());
        return place.map(Some).ok_or_else(|| {
            let detail = format!("{LAST_EVENT_ID}: send back the id of an event of this stream");
            Problem::new(ProblemType::InvalidHeader, detail)
        });
    }
    let place = after.map(str::parse).transpose();
    place.map_err(|error| Problem::new(ProblemType::InvalidQuery, format!("after: {error}")))
}

/// A stream under way.
struct Following {
    app: App,
    permit: Permit,
    /// What it was opened with.
    credential: HeaderMap,
    filter: AuditFilter,
    place: AuditPlace,
    /// When the credential was last looked at.
    checked: Instant,
    /// When something was last sent.
    sent: Option<Instant>,
    ended: bool,
}

type Events = Vec<Result<Event, Infallible>>;

impl Following {
    /// What is sent next, and the stream after it.
    async fn next(mut self) -> Option<(Events, Self)> {
        loop {
            if self.ended || self.permit.streams.stopping.is_cancelled() {
                return None;
            }
            if self.checked.elapsed() >= MAX_AGE {
                if let Err(problem) = self.admitted().await {
                    self.ended = true;
                    return Some((vec![Ok(self.end(&problem))], self));
                }
                self.checked = Instant::now();
            }
            let events = self.read().await?;
            let due = self.sent.is_none_or(|sent| sent.elapsed() >= BEAT);
            if !events.is_empty() || due {
                self.sent = Some(Instant::now());
                return Some((self.with_beat(events), self));
            }
            self.wait().await;
        }
    }

    /// The entries that have come; none where they cannot be read, which ends the stream: it is opened again after the
    /// last id.
    async fn read(&mut self) -> Option<Events> {
        let tenant = self.permit.tenant.clone();
        loop {
            let audit = self.app.read_models.audit(&tenant);
            let found = audit.after(&self.filter, self.place, BATCH).await;
            let found = found
                .inspect_err(|error| tracing::warn!(%error, "A stream of the audit trail was broken off."))
                .ok()?;
            self.place = found.reached;
            if found.rows.is_empty() && found.more {
                continue;
            }
            return Some(found.rows.into_iter().map(|row| Ok(entry(row))).collect());
        }
    }

    /// An id without data lets a client go on from there, however long nothing of what it wants has happened.
    fn with_beat(&self, mut events: Events) -> Events {
        if events.is_empty() {
            let beat = Event::default().id(self.place.to_string()).comment("alive");
            events.push(Ok(beat));
        }
        events
    }

    /// Waits until the trail may have grown.
    async fn wait(&self) {
        let (stopping, read_models) = (&self.permit.streams.stopping, &self.app.read_models);
        let grown = async {
            tokio::time::sleep(PAUSE).await;
            read_models.moved_beyond("audit", self.place.position, LOOK).await;
        };
        tokio::select! {
            () = stopping.cancelled() => {}
            () = grown => {}
        }
    }

    /// Whether the credential still opens this stream.
    async fn admitted(&self) -> Result<(), Problem> {
        let principal = self.app.authority.authenticate(&self.credential).await?;
        authorize(&may::READ_AUDIT, &principal)?;
        if principal.tenant() == self.permit.tenant {
            Ok(())
        } else {
            let detail = "This is another tenant's key.";
            Err(Problem::new(ProblemType::Forbidden, detail))
        }
    }

    /// The last event: why it is the last.
    fn end(&self, problem: &Problem) -> Event {
        let data = serde_json::json!({ "code": problem.kind().code() });
        Event::default()
            .event("end")
            .id(self.place.to_string())
            .data(data.to_string())
    }
}

fn entry(row: AuditRow) -> Event {
    let place = AuditPlace {
        position: row.position,
        version: Some(row.version),
    };
    let data = serde_json::to_string(&AuditView::from(row)).unwrap_or_default();
    Event::default().event("entry").id(place.to_string()).data(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_counted_and_given_back() {
        let streams = Streams::new(CancellationToken::new());
        let tenant = |number: u128| TenantId::new(ulid::Ulid(number));
        let own: Vec<_> = (0..OF_TENANT)
            .map(|_| streams.take(&tenant(1)).unwrap())
            .collect();
        let refused = streams.take(&tenant(1)).err().map(|problem| problem.kind());
        assert_eq!(refused, Some(ProblemType::RateLimited));
        let others: Vec<_> = (OF_TENANT..OF_PROCESS)
            .map(|number| streams.take(&tenant(number as u128 + 2)).unwrap())
            .collect();
        assert!(streams.take(&tenant(0)).is_err(), "the process has no more");
        drop(own);
        assert!(streams.take(&tenant(1)).is_ok());
        drop(others);
        assert!(streams.open.lock().unwrap().is_empty());
    }

    #[test]
    fn the_header_goes_before_the_query() {
        let mut headers = HeaderMap::new();
        let text = |place: Option<AuditPlace>| place.map(|place| place.to_string());
        assert_eq!(
            text(named(&headers, Some("e0-7")).unwrap()).as_deref(),
            Some("e0-7")
        );
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static("e0-9.2"));
        assert_eq!(
            text(named(&headers, Some("e0-7")).unwrap()).as_deref(),
            Some("e0-9.2")
        );
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static("nonsense"));
        assert!(named(&headers, None).is_err());
        assert!(named(&HeaderMap::new(), Some("42")).is_err());
        assert_eq!(named(&HeaderMap::new(), None).unwrap(), None);
    }
}
