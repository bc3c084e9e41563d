//! `POST /v1/in/{source}`: what other systems send becomes a tenant's events.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use commands::{Draft, Loaded, PublishError, Published};
use domain::source::{Source, SourceSettings, Verification};
use domain::{EventId, EventType, SourceAddress, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::events::not_too_deep;
use crate::access_log::Sending;
use crate::app::App;
use crate::auth::{Anyone, MAX_AGE};
use crate::extract::{Id, read_body};
use crate::guard::{Need, needs};
use crate::inbound::{Incoming, Named, Proof, SourceKey, named, prove};
use crate::problem::{Problem, ProblemBody, ProblemType};
use crate::schemas::Subject;
use crate::source_secrets::SourceSecretError;
use crate::{metrics, tenancy};

const TAG: &str = "sources";

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(needs(Need::Signature, routes!(receive_webhook)))
}

/// A webhook that has become an event.
#[derive(Debug, Serialize, ToSchema)]
struct Received {
    /// The event's id.
    #[schema(value_type = String, example = "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: EventId,
    /// It was sent before, and is there once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

/// What is answered to a request that proved itself.
enum Answer {
    /// It is an event now.
    Taken(Received),
    /// The sender wanted an answer and nothing else.
    Told(Value),
}

impl Answer {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Taken(Received { duplicate: true, .. }) => "repeated",
            Self::Taken(_) => "taken",
            Self::Told(_) => "answered",
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Self::Taken(received) => (StatusCode::ACCEPTED, Json(received)).into_response(),
            Self::Told(body) => Json(body).into_response(),
        }
    }
}

/// Receive a webhook of another system
///
/// The address is a source's. No key is needed: the request proves itself by its signature, as the source asks for. The
/// body becomes the data of an event. Sent again, because the answer was lost, it is answered as before and published
/// once. GitHub's ping and Slack's challenge are answered and not published.
#[utoipa::path(
    post, path = "/v1/in/{source}", tag = TAG,
    params(("source" = String, Path, description = "The last part of the source's `address`.")),
    request_body(content = serde_json::Value, description = "What the other system sends.",
        content_type = "application/json"),
    responses(
        (status = 200, description = "A ping or challenge, answered as its sender expects."),
        (status = 202, description = "The event is in the log and will be delivered.", body = Received),
        (status = 401, description = "`signature_refused`: The request does not prove where it comes from.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`replayed`: This was sent before, as another message. `not_possible`: The \
            source is disabled.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`schema_violation`: The body does not fit the event type, or the tenant takes \
            only registered types and this is none.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn receive_webhook(
    anyone: Anyone,
    State(app): State<App>,
    Id(address): Id<SourceAddress>,
    request: Request,
) -> Result<Response, Problem> {
    let who = anyone.origin().map(|origin| (address.clone(), origin));
    let visit = Visit {
        app: &app,
        anyone: &anyone,
        address: &address,
        who,
    };
    let answer = visit.take(request).await;
    metrics::inbound(match &answer {
        Ok(answer) => answer.outcome(),
        Err(problem) => problem.kind().code(),
    });
    answer.map(IntoResponse::into_response)
}

/// A request at the door of a source.
struct Visit<'r> {
    app: &'r App,
    anyone: &'r Anyone,
    address: &'r SourceAddress,
    /// Whose wrong signatures are counted: many senders may share an address, so one source's trouble is not another's.
    who: Option<(SourceAddress, IpAddr)>,
}

impl Visit<'_> {
    async fn take(&self, request: Request) -> Result<Answer, Problem> {
        self.app.impostors.admit(self.who.as_ref())?;
        let source = self.source().await?;
        let (parts, body) = request.into_parts();
        let received = read_body(body, self.app.http.body_limit).await;
        let received = received.inspect_err(|problem| self.tell(false, problem))?;
        let proved = self.proved(source, &parts.headers, &received).await;
        let (source, proof) = proved.inspect_err(|problem| self.tell(false, problem))?;
        let taken = self.publish(&source, &proof, &parts, &received).await;
        taken.inspect_err(|problem| self.tell(true, problem))
    }

    /// The source, which exists; that it does not is believed only of the log itself.
    async fn source(&self) -> Result<Loaded<Source>, Problem> {
        let known = self.load(MAX_AGE).await?;
        if known.aggregate.settings().is_some() {
            return Ok(known);
        }
        let known = self.load(Duration::ZERO).await?;
        let exists = known.aggregate.settings().is_some();
        exists.then_some(known).ok_or_else(Problem::not_found)
    }

    async fn load(&self, max_age: Duration) -> Result<Loaded<Source>, Problem> {
        let SourceAddress { tenant, source } = self.address;
        let loaded = self
            .app
            .dispatcher
            .load::<Source>(tenant, source.as_str(), max_age)
            .await;
        loaded.map_err(|error| Problem::unavailable(&error))
    }

    /// The source once a request has proved to come from it, and what was proved.
    async fn proved(
        &self,
        mut source: Loaded<Source>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(Source, Proof), Problem> {
        let now = SystemTime::now();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let incoming = Incoming {
            headers,
            body,
            now: i64::try_from(since).unwrap_or(i64::MAX),
        };
        let mut proof = self.prove(&source.aggregate, &incoming, now.into()).await?;
        if proof.is_none() {
            // Another process may just have given it another secret.
            let latest = self.load(Duration::ZERO).await?;
            if latest.version != source.version {
                source = latest;
                proof = self.prove(&source.aggregate, &incoming, now.into()).await?;
            }
        }
        let Some(proof) = proof else {
            self.app.impostors.count(self.who.as_ref());
            return Err(Problem::new(
                ProblemType::SignatureRefused,
                "The request is not signed as this source asks for.",
            ));
        };
        Ok((source.aggregate, proof))
    }

    async fn prove(
        &self,
        source: &Source,
        incoming: &Incoming<'_>,
        now: Timestamp,
    ) -> Result<Option<Proof>, Problem> {
        let (Some(settings), Some(secrets)) = (source.settings(), source.secrets()) else {
            return Err(Problem::not_found());
        };
        let SourceAddress { tenant, source: id } = self.address;
        let mut keys = Vec::new();
        for name in secrets.signing_at(now) {
            match self.app.source_secrets.open((tenant, id, name)).await {
                Ok(text) => keys.extend(SourceKey::read(&settings.verification, &text)),
                // It was erased by a rotation that this process has not heard of.
                Err(SourceSecretError::Missing) => {}
                Err(error) => return Err(Problem::unavailable(&error)),
            }
        }
        Ok(prove(settings, &keys, incoming))
    }

    /// Publishes what a source sent, or answers it.
    async fn publish(
        &self,
        source: &Source,
        proof: &Proof,
        parts: &Parts,
        received: &[u8],
    ) -> Result<Answer, Problem> {
        let settings = source.settings().ok_or_else(Problem::not_found)?;
        let authority = &self.app.authority;
        authority
            .count_for_source(self.address, settings.rate_limit)
            .await?;
        let tenant = tenancy::tenant(self.app, &self.address.tenant).await?;
        tenant.standing().map_or(Ok(()), tenancy::may_change)?;
        let incoming = Incoming {
            headers: &parts.headers,
            body: received,
            now: 0,
        };
        let (text, body) = json_of(&incoming)?;
        if let Some(answer) = asked_for(&settings.verification, &incoming, &body) {
            return Ok(Answer::Told(answer));
        }
        if !source.is_enabled() {
            let detail = "The source is disabled; nothing was published.";
            return Err(Problem::new(ProblemType::NotPossible, detail));
        }
        let event_type = event_type(settings, &incoming, &body)?;
        let named = named(settings, proof, &incoming, &body);
        let published = self.publish_once(event_type, text, &named).await?;
        Ok(Answer::Taken(Received {
            id: published.id,
            duplicate: published.duplicate,
        }))
    }

    async fn publish_once(
        &self,
        event_type: EventType,
        text: &str,
        named: &Named,
    ) -> Result<Published, Problem> {
        let SourceAddress { tenant, source } = self.address;
        let id = EventId::derive(tenant, source, &named.name);
        // What was published is not judged again: its type may have another schema by now.
        if !self.app.publisher.knows(tenant, &id).await? {
            let subject = Subject {
                event_type: &event_type,
                data: text,
                place: String::new(),
            };
            self.app.schemas.check(tenant, &[subject]).await?;
        }
        let draft = Draft {
            id: Some(id.clone()),
            drawn: id,
            event_type,
            data: Bytes::copy_from_slice(text.as_bytes()),
            only_for: None,
        };
        let origin = self.anyone.sending(self.address);
        let publisher = &self.app.publisher;
        match publisher.publish_once(tenant, draft, &named.sent, origin).await {
            Err(PublishError::IdReused(_)) => Err(Problem::new(
                ProblemType::Replayed,
                "What is signed was sent before, as another message; nothing was published.",
            )),
            published => Ok(published?),
        }
    }

    /// Tells the tenant of a request that was refused.
    fn tell(&self, proved: bool, problem: &Problem) {
        let sending = Sending {
            address: self.address,
            context: self.anyone.context(),
            proved,
        };
        self.app.access.refused_sender(&sending, problem.kind());
    }
}

/// The body as JSON, as the sender wrote it and as it is read.
fn json_of<'r>(incoming: &Incoming<'r>) -> Result<(&'r str, Value), Problem> {
    let media_type = incoming
        .header(CONTENT_TYPE.as_str())
        .unwrap_or("application/json");
    let essence = media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if essence != "application/json" && !essence.ends_with("+json") {
        return Err(Problem::new(
            ProblemType::UnsupportedMediaType,
            "Sources take JSON only; have it sent with the content type `application/json`.",
        ));
    }
    let malformed = |error: &dyn std::fmt::Display| {
        Problem::new(
            ProblemType::MalformedJson,
            format!("The body is not JSON: {error}."),
        )
    };
    let text = std::str::from_utf8(incoming.body).map_err(|error| malformed(&error))?;
    not_too_deep(text, ".")?;
    let body = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    Ok((text.trim_ascii(), body))
}

/// The answer to what is no message, but asks whether somebody is there.
fn asked_for(verification: &Verification, incoming: &Incoming<'_>, body: &Value) -> Option<Value> {
    match verification {
        Verification::Github {} if incoming.header("x-github-event") == Some("ping") => {
            Some(json!({ "pong": true }))
        }
        Verification::Slack {} if body["type"] == "url_verification" => {
            Some(json!({ "challenge": body["challenge"] }))
        }
        _ => None,
    }
}

fn event_type(
    settings: &SourceSettings,
    incoming: &Incoming<'_>,
    body: &Value,
) -> Result<EventType, Problem> {
    let header = |name: &domain::source::Header| incoming.header(name.as_str());
    let named = settings.event_type.event_type(header, body);
    named.map_err(|error| Problem::invalid_body(".", error.to_string()))
}
