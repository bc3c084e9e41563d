//! `Idempotency-Key`: a request sent again under its key happens once and gets the same answer.
//!
//! The layer sits inside the guard: who calls is known and may do it. A receipt is put into a bucket before the
//! handler runs (`receipts`), with a seed from which everything the request draws is derived; when the handler has
//! answered, the receipt keeps the answer. Where that never came to be, because the process died or the service could
//! not do it then, the next request under the key takes the receipt over and runs the handler again **with the same
//! seed**: it draws the same ids and secrets, its commands bear the same ids and are found in the log
//! ([`commands::Call::repeated`]), and its events are found in theirs. So it does not matter where the first run ended.
//!
//! A keyed request runs in a task of its own: it goes on when its client goes away, who will ask again.

use std::panic::resume_unwind;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use tracing::Instrument;

use crate::app::App;
use crate::auth::Principal;
use crate::extract::read_body;
use crate::layers::RequestContext;
use crate::metrics;
use crate::problem::{Problem, ProblemType};

mod answer;
mod receipts;

use answer::Answer;
pub(crate) use answer::is_for_good;
use receipts::{Begun, Ticket};
pub(crate) use receipts::{Receipts, Settings};

/// The header of a request.
pub(crate) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

const MAX_KEY: usize = 255;

/// Marks an answer that is not for good although its status is: some of what was asked for may go well another time.
/// A repetition carries out the rest; what is done is found by its ids.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unfinished;

/// Routes whose bodies are streams, too long to be held: they are not part of what is compared, and their handlers
/// derive each row's draws from its number and content instead.
const STREAMED: &[&str] = &["/v1/users/import"];

/// Runs the handler, once for all requests under one key.
pub(crate) async fn once(app: &App, request: Request, next: Next) -> Response {
    if !is_change(request.method()) {
        return next.run(request).await;
    }
    match key(request.headers()) {
        Ok(None) => next.run(request).await,
        Ok(Some(key)) => keyed(app, &key, request, next)
            .await
            .unwrap_or_else(IntoResponse::into_response),
        Err(problem) => problem.into_response(),
    }
}

fn is_change(method: &Method) -> bool {
    matches!(
        *method,
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE
    )
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|text| {
        (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    match text {
        Some(text) if values.next().is_none() => Ok(Some(text.to_owned())),
        _ => Err(Problem::new(
            ProblemType::InvalidHeader,
            format!("Idempotency-Key: must be given once, as 1 to {MAX_KEY} visible ASCII characters"),
        )),
    }
}

async fn keyed(app: &App, key: &str, request: Request, next: Next) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let route = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
    let (body, bytes) = if route.is_some_and(|route| STREAMED.contains(&route)) {
        (body, Bytes::new())
    } else {
        let bytes = read_body(body, app.http.bulk_body_limit).await?;
        (Body::from(bytes.clone()), bytes)
    };
    let receipts = &app.receipts;
    let scope = [
        &caller(&parts, &bytes),
        parts.method.as_str(),
        parts.uri.path(),
        key,
    ];
    let begun = receipts
        .begin(&scope.map(str::as_bytes), &content(&parts, &bytes))
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    metrics::keyed_request(begun.label());
    match begun {
        Begun::Ours(ticket) => work_apart(app, ticket, Request::from_parts(parts, body), next).await,
        Begun::Answered(answer) => Ok(answer.replay()),
        Begun::Running => Err(Problem::new(
            ProblemType::RequestRunning,
            "The first request with this Idempotency-Key is still running; send this one again in a moment.",
        )),
        Begun::Other => Err(Problem::new(
            ProblemType::IdempotencyKeyReused,
            "This Idempotency-Key was used for a request with another body or query; nothing was changed.",
        )),
    }
}

/// What a request asks for, besides the address that is in its scope.
fn content<'a>(parts: &'a Parts, body: &'a [u8]) -> [&'a [u8]; 3] {
    let content_type = parts.headers.get(CONTENT_TYPE);
    [
        parts.uri.query().unwrap_or_default().as_bytes(),
        content_type.map_or(b"", |value| value.as_bytes()),
        body,
    ]
}

/// Whose keys these are. Without a credential the request proves itself by the token in its body: the same key with
/// another token is another caller's.
fn caller(parts: &Parts, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Proof {
        token: String,
    }
    match parts.extensions.get::<Principal>() {
        Some(Principal::Administrator) => "platform-admin".to_owned(),
        Some(Principal::Key(holder)) => format!("{}.{}", holder.tenant, holder.key),
        None => match serde_json::from_slice::<Proof>(body) {
            Ok(proof) => format!("token.{}", proof.token),
            Err(_) => "nobody".to_owned(),
        },
    }
}

/// Runs the handler in a task of its own, which ends whether or not somebody waits for it.
async fn work_apart(app: &App, ticket: Ticket, request: Request, next: Next) -> Result<Response, Problem> {
    let work = work(app.clone(), ticket, request, next).in_current_span();
    match tokio::spawn(work).await {
        Ok(response) => Ok(response),
        Err(ended) => match ended.try_into_panic() {
            // The layer outside answers for handlers that panic.
            Ok(panic) => resume_unwind(panic),
            Err(cancelled) => Err(Problem::unavailable(&cancelled)),
        },
    }
}

async fn work(app: App, ticket: Ticket, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(ticket.draw().clone());
    let (parts, body) = request.into_parts();
    let request_id = RequestContext::of(&parts.headers, &parts.extensions).id;
    let request = Request::from_parts(parts, body);
    let Ok(response) = tokio::time::timeout(app.http.request_timeout, next.run(request)).await else {
        app.receipts.leave(ticket).await;
        return Problem::new(ProblemType::Timeout, "The service did not finish this in time.")
            .into_response();
    };
    let (response, answer) = Answer::take(response, &request_id).await;
    match answer {
        Some(answer) => app.receipts.finish(ticket, &answer).await,
        None => app.receipts.leave(ticket).await,
    }
    response
}

/// How long a run may go on at most before another may take over.
pub(crate) fn longest_run(request_timeout: Duration) -> Duration {
    request_timeout + Duration::from_secs(2)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_given_once_in_visible_characters() {
        let parse = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(KEY, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            key(&headers).map_err(|problem| problem.kind())
        };
        assert_eq!(parse(&[]), Ok(None));
        let long = "k".repeat(255);
        for good in ["a", "\"quoted\"", &long] {
            assert_eq!(parse(&[good]), Ok(Some(good.to_owned())));
        }
        for bad in [
            &[""][..],
            &["a b"],
            &["ä"],
            &["k".repeat(256).as_str()],
            &["a", "b"],
        ] {
            assert_eq!(parse(bad), Err(ProblemType::InvalidHeader), "{bad:?}");
        }
    }

    #[test]
    fn without_a_credential_the_token_tells_who_calls() {
        let parts = Request::new(Body::empty()).into_parts().0;
        assert_eq!(caller(&parts, br#"{"token":"abc","name":"Ada"}"#), "token.abc");
        assert_eq!(caller(&parts, b"nonsense"), "nobody");
    }
}
