//! What happens around every request: its id, its span, its measures, its limits, and the rendering of problems.

mod context;
mod pieces;
mod unread;

use std::any::Any;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use ulid::Ulid;

use crate::metrics;
use crate::problem::{Problem, ProblemType};

use context::{REQUEST_ID, RequestId, accepted_id};

pub(crate) use context::RequestContext;
pub(crate) use pieces::bound_pieces;
pub(crate) use unread::discard_unread;

/// Outermost: names the request, opens its span, measures it, and renders problems under its id.
pub(crate) async fn identify(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id =
        accepted_id(request.headers(), &REQUEST_ID).unwrap_or_else(|| format!("req_{}", Ulid::generate()));
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unmatched", MatchedPath::as_str)
        .to_owned();
    let span = tracing::info_span!(
        "request",
        http.method = %method,
        http.route = route,
        request.id = id,
        tenant.id = tracing::field::Empty,
    );
    let inner = span.clone();
    let response = async move {
        let response = next.run(request).instrument(inner).await;
        finish(response, &id)
    }
    .instrument(span)
    .await;
    let status = response.status().as_u16();
    let took = started.elapsed();
    tracing::debug!(%method, route, status, millis = took.as_millis(), "request answered");
    metrics::request(method.as_str(), &route, status, took);
    response
}

fn finish(mut response: Response, id: &str) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        tell(&problem);
        let mut rendered = problem.render(id);
        for (name, value) in response.headers() {
            if name != CONTENT_TYPE && name != CONTENT_LENGTH && !rendered.headers().contains_key(name) {
                rendered.headers_mut().append(name, value.clone());
            }
        }
        response = rendered;
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The one place where a failed request, or a part of one, is told to the operator.
pub(crate) fn tell(problem: &Problem) {
    let (code, detail) = (problem.kind().code(), problem.detail());
    let cause = problem.cause().unwrap_or("none");
    if problem.kind().status().is_server_error() {
        tracing::error!(code, detail, cause, "a request failed");
    } else {
        tracing::debug!(code, detail, cause, "a request was refused");
    }
}

/// Answers for a handler that takes too long.
pub(crate) async fn bound_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            ProblemType::Timeout,
            "The service did not finish this in time. A change that was asked for may or may not have happened.",
        )
        .into_response(),
    }
}

/// Tells the client that its connection closes, once the service is asked to stop.
pub(crate) async fn part(
    State(stopping): State<CancellationToken>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    if stopping.is_cancelled() {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Answers for a handler that panicked.
pub(crate) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let message = match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic
            .downcast_ref::<&str>()
            .map_or("unknown", |text| *text)
            .to_owned(),
    };
    let cause = std::io::Error::other(format!("a handler panicked: {message}"));
    Problem::caused(
        ProblemType::Internal,
        "The service failed on this request.",
        &cause,
    )
    .into_response()
}

/// Answers for an address that is not there.
pub(crate) async fn not_found() -> Problem {
    Problem::not_found()
}

/// Answers for a method that an address does not offer.
pub(crate) async fn method_not_allowed() -> Problem {
    Problem::new(
        ProblemType::MethodNotAllowed,
        "The header `Allow` lists the methods offered here.",
    )
}
