//! The call that brings commands, and what became of each.

use axum::extract::{MatchedPath, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, StatusCode};
use axum::response::Response;
use serde_json::value::RawValue;

use crate::access_log::{Shown, Shows};
use crate::consistency::POSITION;
use crate::draw::Draw;
use crate::idempotency;
use crate::layers::tell;
use crate::problem::{Problem, ProblemType};

/// What belongs to the call itself and not to the requests inside it.
const OWN: [HeaderName; 7] = [
    AUTHORIZATION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    COOKIE,
    EXPECT,
    TRANSFER_ENCODING,
    idempotency::KEY,
];

/// The most bytes of one answer.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// What the requests inside a call share with it: who calls, from where, under which request id and trace.
#[derive(Clone)]
pub(crate) struct Carrier {
    headers: HeaderMap,
    extensions: Extensions,
}

impl Carrier {
    /// Of a call that the guard has let through.
    pub(crate) fn of(parts: &Parts) -> Self {
        let mut headers = parts.headers.clone();
        for name in &OWN {
            headers.remove(name);
        }
        let mut extensions = parts.extensions.clone();
        // The router would name the inner route as one under the outer.
        extensions.remove::<MatchedPath>();
        Self { headers, extensions }
    }

    /// What the call draws from.
    pub(crate) fn draw(&self) -> Draw {
        self.extensions.get().cloned().unwrap_or_else(Draw::fresh)
    }

    /// The same call, from which one of its requests draws.
    pub(crate) fn drawing(&self, draw: Draw) -> Self {
        let mut part = self.clone();
        part.extensions.insert(draw);
        part
    }

    /// Gives a request what it shares with its call.
    pub(super) fn load(&self, mut request: Request) -> Request {
        let own = request.headers_mut();
        for (name, value) in &self.headers {
            own.append(name, value.clone());
        }
        *request.extensions_mut() = self.extensions.clone();
        request
    }
}

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The status its own route answered.
    pub(crate) status: StatusCode,
    /// Where it stands, as in the header of that answer.
    pub(crate) position: Option<String>,
    /// What its own route answered; none where that has no body.
    pub(crate) outcome: Result<Option<Box<RawValue>>, Problem>,
    /// The secrets that the answer shows.
    pub(crate) shows: Vec<Shown>,
}

impl From<Problem> for Answered {
    fn from(problem: Problem) -> Self {
        Self {
            status: problem.kind().status(),
            position: None,
            outcome: Err(problem),
            shows: Vec::new(),
        }
    }
}

impl Answered {
    /// The same of a body that stands at a place of a larger one.
    pub(crate) fn within(mut self, place: &str) -> Self {
        self.outcome = self.outcome.map_err(|problem| problem.within(place));
        self
    }

    /// Of the answer of a command's route.
    pub(super) async fn of(mut response: Response) -> Self {
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            tell(&problem);
            return Self::from(problem);
        }
        let (status, shows) = (response.status(), Shows::of(&response));
        let position = response.headers().get(POSITION);
        let position = position.and_then(|value| value.to_str().ok()).map(str::to_owned);
        match body(response).await {
            Ok(body) => Self {
                status,
                position,
                outcome: Ok(body),
                shows,
            },
            Err(problem) => Self::from(problem),
        }
    }
}

async fn body(response: Response) -> Result<Option<Box<RawValue>>, Problem> {
    let unreadable = |error: &(dyn std::error::Error + 'static)| {
        Problem::caused(
            ProblemType::Internal,
            "The answer of this command cannot be shown; the command was carried out.",
            error,
        )
    };
    let bytes = axum::body::to_bytes(response.into_body(), MAX_ANSWER)
        .await
        .map_err(|error| unreadable(&error))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| unreadable(&error))
}
