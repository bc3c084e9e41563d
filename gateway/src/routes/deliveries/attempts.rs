//! A delivery's attempts: what each brought, and on request what was sent, to the byte.

use axum::extract::State;
use broker::layout::Log;
use delivery::body_again;
use domain::{
    DeliveryFact, DeliveryId, DeliveryRecord, HeadField, Position, ResponseHead, Sent, Source, Timestamp,
};
use projections::AttemptRow;
use serde::Serialize;
use url::Url;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{READ_MODEL, TAG};
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Id, Pair};
use crate::guard::{may, needs};
use crate::problem::{Problem, ProblemType};

/// The operations on attempts.
pub(in crate::routes) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::READ_DELIVERIES, routes!(list_attempts)))
        .routes(needs(may::READ_DELIVERIES, routes!(show_attempt_request)))
}

/// One field of an HTTP head.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::routes) struct Header {
    /// Its name, in lower case.
    #[schema(example = "content-type")]
    name: String,
    /// Its value; null where it is, or may be, a secret.
    #[schema(example = "application/json")]
    value: Option<String>,
}

/// One HTTP try.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(in crate::routes) struct AttemptView {
    /// Its id: where it stands in the delivery log.
    #[schema(value_type = String, example = "d0-42")]
    id: Position,
    /// Which run, from 1.
    run: u32,
    /// Its number within the run, from 1.
    attempt: u32,
    /// When.
    #[schema(value_type = String, format = "date-time")]
    at: Timestamp,
    /// The response's status, if one came.
    status: Option<i64>,
    /// Why it failed, as one word: `dns`, `forbidden` (receivers may not be there), `refused`, `tls`, `timeout`, `reset`,
    /// `status` (an answer other than 2xx) or `gone` (there was nothing to send or nobody to send it to); null for a
    /// success.
    error: Option<String>,
    /// The failure in words.
    detail: Option<String>,
    /// The head of the response, if one came: at most 4 KiB of it, without what may be secrets.
    response_headers: Option<Vec<Header>>,
    /// Whether the head had more fields than are kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    response_headers_cut: bool,
    /// The beginning of the response body.
    response_body: Option<String>,
    /// From its start to its end, in milliseconds.
    duration_ms: u64,
}

/// A request as it was sent.
#[derive(Debug, Serialize, ToSchema)]
struct SentRequest {
    /// The method.
    #[schema(example = "POST")]
    method: String,
    /// Where it went.
    url: String,
    /// The head's fields; secrets have no value here.
    headers: Vec<Header>,
    /// The body, to the byte; null where the event is no longer kept.
    body: Option<String>,
    /// The length of the body in bytes.
    body_bytes: u64,
    /// The SHA-256 of the body, in hexadecimal digits.
    body_sha256: String,
}

/// List a delivery's attempts
#[utoipa::path(
    get, path = "/v1/deliveries/{id}/attempts", tag = TAG,
    params(("id" = String, Path, description = "The delivery's id.")),
    responses((status = 200, description = "All attempts, in their order; there is one page.",
        body = List<AttemptView>))
)]
async fn list_attempts(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Id(id): Id<DeliveryId>,
) -> Result<Found<List<AttemptView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let found = app.read_models.deliveries(&member.tenant).attempts(&id).await?;
    Found::one(found, |attempts| List {
        data: attempts.into_iter().map(AttemptView::from).collect(),
        next_cursor: None,
    })
}

/// Show what an attempt sent
///
/// Method, address, head and body as the receiver got them; secrets in the head are named and not shown. Kept as long
/// as the delivery log, the body as long as the event.
#[utoipa::path(
    get, path = "/v1/deliveries/{id}/attempts/{attempt}/request", tag = TAG,
    params(
        ("id" = String, Path, description = "The delivery's id."),
        ("attempt" = String, Path, description = "The attempt's id."),
    ),
    responses((status = 200, description = "The request.", body = SentRequest))
)]
async fn show_attempt_request(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Pair(id, attempt): Pair<DeliveryId, Position>,
) -> Result<Found<SentRequest>, Problem> {
    let logs = [Source::Deliveries, Source::Messages];
    let truth = at_least.judged_to_the_end(&app, &logs).await?;
    let record = record(&app, attempt).await?;
    let record = record.filter(|record| record.tenant == member.tenant && record.delivery == id);
    let record = record.ok_or_else(|| truth.not_found())?;
    let sent = sent(&record).ok_or_else(|| {
        let detail = "This attempt sent nothing, or was made before requests were kept.";
        Problem::new(ProblemType::NotFound, detail)
    })?;
    let message = app
        .publisher
        .read(record.message.position)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    let body = message.and_then(|message| body_again(&message, sent));
    let text = body.map(String::from_utf8).transpose();
    let text =
        text.map_err(|error| Problem::caused(ProblemType::Internal, "The body is no text.", &error))?;
    Ok(truth.of(SentRequest::of(sent, text)))
}

/// The record of the delivery log at a position; none, if retention has removed it or nothing stands there.
async fn record(app: &App, position: Position) -> Result<Option<DeliveryRecord>, Problem> {
    let log = app.logs.iter().find(|(log, _)| *log == Log::Attempts);
    let Some((_, log)) = log.filter(|_| position.source == Source::Deliveries && position.shard == 0) else {
        return Ok(None);
    };
    let found = log.at(position.sequence).await;
    let Some(record) = found.map_err(|error| Problem::unavailable(&error))? else {
        return Ok(None);
    };
    DeliveryRecord::decode(&record.payload)
        .map(Some)
        .map_err(|error| {
            Problem::caused(
                ProblemType::Internal,
                "The attempt's record cannot be read.",
                &error,
            )
        })
}

fn sent(record: &DeliveryRecord) -> Option<&Sent> {
    match &record.fact {
        DeliveryFact::Attempted { outcome, .. } => outcome.sent.as_deref(),
        DeliveryFact::Created | DeliveryFact::Redriven | DeliveryFact::Discarded => None,
    }
}

impl SentRequest {
    fn of(sent: &Sent, body: Option<String>) -> Self {
        // What HTTP adds on the way, from URL and body (RFC 9110 §7.2, §8.6).
        let host = sent.url.parse().ok().as_ref().and_then(host);
        let added = [
            ("host", host),
            ("content-length", Some(sent.body_bytes.to_string())),
        ];
        let added = added.into_iter().filter_map(|(name, value)| {
            Some(Header {
                name: name.to_owned(),
                value: Some(value?),
            })
        });
        Self {
            method: sent.method.clone(),
            url: sent.url.clone(),
            headers: headers(sent.fields.clone()).into_iter().chain(added).collect(),
            body,
            body_bytes: sent.body_bytes,
            body_sha256: hex::encode(&sent.body_sha256),
        }
    }
}

/// The `host` field of a request to this address.
fn host(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

fn headers(fields: Vec<HeadField>) -> Vec<Header> {
    let header = |HeadField(name, value)| Header { name, value };
    fields.into_iter().map(header).collect()
}

impl From<AttemptRow> for AttemptView {
    fn from(row: AttemptRow) -> Self {
        let head = row
            .response_head
            .map(|ResponseHead { fields, cut }| (headers(fields), cut));
        let (response_headers, cut) = head.unzip();
        Self {
            id: row.position,
            run: row.run,
            attempt: row.attempt,
            at: row.at,
            status: row.status,
            error: row.error,
            detail: row.detail,
            response_headers,
            response_headers_cut: cut.unwrap_or_default(),
            response_body: row.response_body,
            duration_ms: row.duration_ms,
        }
    }
}
