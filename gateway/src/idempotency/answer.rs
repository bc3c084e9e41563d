//! An answer as it is kept: status, headers and body.

use axum::body::{Body, HttpBody, to_bytes};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{REPLAYED, Unfinished};
use crate::access_log::{Shown, Shows};
use crate::problem::{Problem, ProblemType};

/// The longest body that is kept. Longer ones, and streams, are made again by a repeated request, from the same seed.
const LONGEST: u64 = 32 << 20;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<(String, serde_bytes::ByteBuf)>,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    /// The secrets it shows, each time it is given.
    #[serde(default)]
    shows: Vec<Shown>,
}

impl Answer {
    /// Takes a copy of a response; none of one that a repeated request shall not get again.
    ///
    /// A problem is rendered under the id of the first request: the same answer names the same request.
    pub(super) async fn take(response: Response, request_id: &str) -> (Response, Option<Self>) {
        if let Some(problem) = response.extensions().get::<Problem>() {
            if !is_for_good(problem.kind()) {
                return (response, None);
            }
            let mut rendered = problem.render(request_id);
            for (name, value) in response.headers() {
                if !rendered.headers().contains_key(name) {
                    rendered.headers_mut().append(name, value.clone());
                }
            }
            let (_, answer) = Self::copy(rendered).await;
            return (response, answer);
        }
        let unfinished = response.extensions().get::<Unfinished>().is_some();
        if is_final(response.status()) && !unfinished {
            Self::copy(response).await
        } else {
            (response, None)
        }
    }

    async fn copy(response: Response) -> (Response, Option<Self>) {
        let (parts, body) = response.into_parts();
        if body.size_hint().exact().is_none_or(|size| size > LONGEST) {
            return (Response::from_parts(parts, body), None);
        }
        let Ok(bytes) = to_bytes(body, usize::MAX).await else {
            return (Response::from_parts(parts, Body::empty()), None);
        };
        let response = Response::from_parts(parts, Body::from(bytes.clone()));
        let kept = response.headers().iter().filter(|(name, _)| is_kept(name));
        let answer = Self {
            status: response.status().as_u16(),
            headers: kept
                .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec().into()))
                .collect(),
            body: bytes.to_vec(),
            shows: Shows::of(&response),
        };
        (response, Some(answer))
    }

    /// The response again, marked as given before.
    pub(super) fn replay(self) -> Response {
        let mut response = Response::new(Body::from(Bytes::from(self.body)));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&value)) {
                headers.append(name, value);
            }
        }
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        Shows::mark(&mut response, self.shows);
        response
    }
}

/// Whether the same request would be answered the same again: not where the service could not do it, or not then.
fn is_final(status: StatusCode) -> bool {
    !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::UNAUTHORIZED
}

/// Whether a problem is the same request's for good: not one that asks to send the request again, at once or once
/// the tenant is reactivated.
pub(crate) fn is_for_good(kind: ProblemType) -> bool {
    is_final(kind.status()) && !matches!(kind, ProblemType::Conflict | ProblemType::TenantSuspended)
}

/// Headers of the answer, not of its way through one connection.
fn is_kept(name: &HeaderName) -> bool {
    ![CONTENT_LENGTH, CONNECTION, TRANSFER_ENCODING, DATE].contains(name)
}

#[cfg(test)]
mod tests {
    use axum::http::header::CONTENT_TYPE;
    use axum::response::IntoResponse;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_given_again_as_it_was() {
        let first = (StatusCode::CREATED, [("tidings-position", "e0-7")], "{\"id\":1}");
        let (response, answer) = Answer::take(first.into_response(), "req_1").await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let again = answer.unwrap().replay();
        assert_eq!(again.status(), response.status());
        assert_eq!(again.headers()["tidings-position"], "e0-7");
        assert_eq!(again.headers()[CONTENT_TYPE], response.headers()[CONTENT_TYPE]);
        assert_eq!(again.headers()[REPLAYED], "true");
        let (first, again) = (
            to_bytes(response.into_body(), 99),
            to_bytes(again.into_body(), 99),
        );
        assert_eq!(first.await.unwrap(), again.await.unwrap());
    }

    #[tokio::test]
    async fn a_problem_is_kept_as_it_was_shown() {
        let problem = Problem::new(ProblemType::NotFound, "No.").into_response();
        let (response, answer) = Answer::take(problem, "req_1").await;
        assert!(
            response.extensions().get::<Problem>().is_some(),
            "it is still to be rendered"
        );
        let again = answer.unwrap().replay();
        assert_eq!(again.status(), StatusCode::NOT_FOUND);
        let body = to_bytes(again.into_body(), 9_999).await.unwrap();
        assert!(String::from_utf8_lossy(&body).contains("req_1"));
    }

    #[tokio::test]
    async fn what_may_go_well_another_time_is_not_kept() {
        for kind in [
            ProblemType::Unavailable,
            ProblemType::Overloaded,
            ProblemType::Internal,
            ProblemType::RateLimited,
            ProblemType::Unauthenticated,
            ProblemType::Conflict,
        ] {
            let (_, answer) = Answer::take(Problem::new(kind, "").into_response(), "req_1").await;
            assert_eq!(answer, None, "{kind:?}");
        }
        let mut partly = StatusCode::OK.into_response();
        partly.extensions_mut().insert(Unfinished);
        assert_eq!(Answer::take(partly, "req_1").await.1, None);
        let stream = Body::from_stream(futures::stream::iter([Ok::<_, std::io::Error>("a")]));
        let (response, answer) = Answer::take(stream.into_response(), "req_1").await;
        assert_eq!(answer, None);
        assert_eq!(&to_bytes(response.into_body(), 9).await.unwrap()[..], b"a");
    }
}
