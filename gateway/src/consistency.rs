//! Read your writes: `Tidings-Position` out, `Tidings-At-Least` in.

use std::time::{Duration, Instant, SystemTime};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use broker::layout::Log;
use domain::{Position, Source, Timestamp};
use projections::{Answer, Listing, QueryError, Stale};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::problem::{Problem, ProblemType};

/// Where a change stands, or what a query's answer is true of.
pub(crate) const POSITION: HeaderName = HeaderName::from_static("tidings-position");
/// How old what a query's answer is true of may be, in seconds with three decimals: the answer has seen everything that
/// was acknowledged so long ago.
pub(crate) const AGE: HeaderName = HeaderName::from_static("tidings-age");
/// What a query's answer must have seen.
pub(crate) const AT_LEAST: HeaderName = HeaderName::from_static("tidings-at-least");

/// How often the logs are asked for their ends while a query waits for them.
const POLL: Duration = Duration::from_millis(20);

/// More positions than there are logs make no sense.
const MAX_POSITIONS: usize = 64;

/// The positions a query must have seen.
#[derive(Debug, Default)]
pub(crate) struct AtLeast(Vec<Position>);

impl AtLeast {
    /// Waits until the read models named have seen them, for as long as a query waits.
    pub(crate) async fn reached(&self, app: &App, projections: &[&str]) -> Result<(), Problem> {
        if self.0.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + app.http.consistency_wait;
        app.read_models
            .wait_for(projections, &self.0, deadline)
            .await
            .map_err(Problem::from)
    }

    /// What a query is true of that is judged on the log of events itself, which has seen every change that was
    /// acknowledged. It waits for what no log has yet as others wait for read models, and asks the log for its end only
    /// where something is asked of it: otherwise its position is that of the last record it was judged on.
    pub(crate) async fn judged(&self, app: &App) -> Result<Truth, Problem> {
        self.judged_on(app, &[Source::Events]).await
    }

    /// The same of some logs, up to their ends.
    pub(crate) async fn judged_to_the_end(&self, app: &App, sources: &[Source]) -> Result<Truth, Problem> {
        let truth = self.judged_on(app, sources).await?;
        if !truth.positions.is_empty() {
            return Ok(truth);
        }
        let asked = SystemTime::now();
        Ok(Truth::judged(ends(app, sources).await?, asked))
    }

    async fn judged_on(&self, app: &App, sources: &[Source]) -> Result<Truth, Problem> {
        let wanted = self.0.iter().filter(|at| sources.contains(&at.source));
        let wanted: Vec<_> = wanted.collect();
        let deadline = Instant::now() + app.http.consistency_wait;
        loop {
            let asked = SystemTime::now();
            if wanted.is_empty() {
                return Ok(Truth::judged(Vec::new(), asked));
            }
            let ends = ends(app, sources).await?;
            if wanted.iter().all(|wanted| has(&ends, wanted)) {
                return Ok(Truth::judged(ends, asked));
            }
            if Instant::now() >= deadline {
                return Err(Stale::Behind { current: ends }.into());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// That an answer which stands still has seen them: it is not waited for what it will never see.
    pub(crate) fn seen_by(&self, positions: &[Position]) -> Result<(), Problem> {
        let follows = |wanted: &&Position| {
            let mut same = positions.iter().map(|at| (at.source, at.shard));
            same.any(|log| log == (wanted.source, wanted.shard))
        };
        if self.0.iter().filter(follows).all(|wanted| has(positions, wanted)) {
            return Ok(());
        }
        let current = positions.to_vec();
        Err(Stale::Behind { current }.into())
    }
}

/// Whether these positions are as far as one is.
fn has(positions: &[Position], wanted: &Position) -> bool {
    let same = |at: &&Position| (at.source, at.shard) == (wanted.source, wanted.shard);
    positions
        .iter()
        .find(same)
        .is_some_and(|at| at.sequence >= wanted.sequence)
}

/// The ends of logs.
async fn ends(app: &App, sources: &[Source]) -> Result<Vec<Position>, Problem> {
    let mut ends = Vec::new();
    for (log, port) in &app.logs {
        let (source, shard) = match *log {
            Log::Events(shard) => (Source::Events, shard),
            Log::Messages(shard) => (Source::Messages, shard),
            Log::Attempts => (Source::Deliveries, 0),
        };
        if sources.contains(&source) {
            let state = port.state().await.map_err(|error| Problem::unavailable(&error))?;
            ends.push(Position {
                source,
                shard,
                sequence: state.last,
            });
        }
    }
    Ok(ends)
}

impl FromRequestParts<App> for AtLeast {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let invalid =
            |message: String| Problem::new(ProblemType::InvalidHeader, format!("{AT_LEAST}: {message}"));
        let mut positions = Vec::new();
        for value in parts.headers.get_all(AT_LEAST) {
            let text = value
                .to_str()
                .map_err(|_| invalid("this is not a list of positions".to_owned()))?;
            for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                positions.push(
                    part.parse()
                        .map_err(|error: domain::InvalidPosition| invalid(error.to_string()))?,
                );
            }
        }
        if positions.len() > MAX_POSITIONS {
            return Err(invalid(format!("at most {MAX_POSITIONS} positions can be named")));
        }
        Ok(Self(positions))
    }
}

impl From<Stale> for Problem {
    fn from(stale: Stale) -> Self {
        match stale {
            Stale::Behind { current } => {
                let detail = "The read model has not seen what the query must have seen; send it again.";
                let problem = Self::new(ProblemType::Stale, detail);
                match header(&current) {
                    Some(value) => problem.with_header(POSITION, value),
                    None => problem,
                }
            }
            Stale::Query(error) => error.into(),
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::BadCursor => Self::new(
                ProblemType::InvalidQuery,
                "cursor: take it unchanged from `next_cursor` of this very list",
            ),
            QueryError::Unavailable(_) => Self::unavailable(&error),
        }
    }
}

fn header(positions: &[Position]) -> Option<HeaderValue> {
    let text = positions
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    HeaderValue::from_str(&text)
        .ok()
        .filter(|value| !value.is_empty())
}

/// The response with its positions.
pub(crate) fn with_positions(mut response: Response, positions: &[Position]) -> Response {
    if let Some(value) = header(positions) {
        response.headers_mut().insert(POSITION, value);
    }
    response
}

fn age(fresh_at: Timestamp) -> Option<HeaderValue> {
    let now = Timestamp::from(SystemTime::now());
    let milliseconds = now.as_millis().saturating_sub(fresh_at.as_millis()).max(0);
    let (seconds, rest) = (milliseconds / 1_000, milliseconds % 1_000);
    HeaderValue::from_str(&format!("{seconds}.{rest:03}")).ok()
}

/// What a query's answer is true of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Truth {
    positions: Vec<Position>,
    fresh_at: Option<Timestamp>,
}

impl<T> From<&Answer<T>> for Truth {
    fn from(answer: &Answer<T>) -> Self {
        Self {
            positions: answer.positions.clone(),
            fresh_at: answer.fresh_at,
        }
    }
}

impl Truth {
    /// What was judged on the log of events when it ended there at least.
    fn judged(ends: Vec<Position>, at: SystemTime) -> Self {
        Self {
            positions: ends,
            fresh_at: Some(at.into()),
        }
    }

    /// The same, of something whose last record is known.
    #[must_use]
    pub(crate) fn with(mut self, record: Position) -> Self {
        let same = |at: &&mut Position| (at.source, at.shard) == (record.source, record.shard);
        match self.positions.iter_mut().find(same) {
            Some(at) => *at = (*at).max(record),
            None => self.positions.push(record),
        }
        self
    }

    /// An answer that is true of this.
    pub(crate) fn of<T>(self, body: T) -> Found<T> {
        Found { truth: self, body }
    }

    fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let position = header(&self.positions).map(|value| (POSITION, value));
        let age = self.fresh_at.and_then(age).map(|value| (AGE, value));
        position.into_iter().chain(age)
    }

    /// The response, which tells it.
    pub(crate) fn told_by(&self, mut response: Response) -> Response {
        response.headers_mut().extend(self.headers());
        response
    }

    /// That what was asked for is not there, as far as this goes.
    pub(crate) fn not_found(&self) -> Problem {
        let with = |problem: Problem, (name, value)| problem.with_header(name, value);
        self.headers().fold(Problem::not_found(), with)
    }
}

/// A query's answer with what it is true of.
#[derive(Debug)]
pub(crate) struct Found<T> {
    truth: Truth,
    body: T,
}

impl<T> Found<T> {
    /// The answer in the API's form.
    pub(crate) fn new<R>(answer: Answer<R>, form: impl FnOnce(R) -> T) -> Self {
        Self {
            truth: Truth::from(&answer),
            body: form(answer.data),
        }
    }

    /// The one thing asked for, which may not be there.
    pub(crate) fn one<R>(answer: Answer<Option<R>>, form: impl FnOnce(R) -> T) -> Result<Self, Problem> {
        let truth = Truth::from(&answer);
        let row = answer.data.ok_or_else(|| truth.not_found())?;
        Ok(Self {
            body: form(row),
            truth,
        })
    }
}

impl<T> Found<List<T>> {
    /// A page of a list.
    pub(crate) fn list<R>(answer: Answer<Listing<R>>, form: impl FnMut(R) -> T) -> Self {
        Self::new(answer, |page| List {
            data: page.data.into_iter().map(form).collect(),
            next_cursor: page.next_cursor,
        })
    }
}

impl<T: Serialize> IntoResponse for Found<T> {
    fn into_response(self) -> Response {
        self.truth.told_by(axum::Json(self.body).into_response())
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List<T> {
    /// The page's rows.
    pub(crate) data: Vec<T>,
    /// Pass it as `cursor` for the next page; null where this was the last.
    pub(crate) next_cursor: Option<String>,
}
