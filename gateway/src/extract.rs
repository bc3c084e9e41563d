//! Extractors: JSON bodies, queries and ids, whose refusals are problems that say where and why.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use crate::app::App;
use crate::problem::{Problem, ProblemType};

/// A JSON body of one thing.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

/// A JSON body that may be left out, which then is the default.
#[derive(Debug)]
pub(crate) struct OptionalBody<T>(pub(crate) T);

/// A JSON body of many things, for which the limit is higher.
#[derive(Debug)]
pub(crate) struct BulkBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let bytes = read_json(request, app.http.body_limit).await?;
        parse(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<App> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        let Body(value) = Body::from_request(request, app).await?;
        Ok(Self(value))
    }
}

impl<T: DeserializeOwned> FromRequest<App> for BulkBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let bytes = read_json(request, app.http.bulk_body_limit).await?;
        parse(&bytes).map(Self)
    }
}

async fn read_json(request: Request, limit: usize) -> Result<Bytes, Problem> {
    let media_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(
            ProblemType::UnsupportedMediaType,
            "Send the body as JSON, with the header `Content-Type: application/json`.",
        ));
    }
    // Nothing is unpacked: a few bytes could become any number.
    let coding = request.headers().get(CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Problem::new(
            ProblemType::UnsupportedMediaType,
            "Send the body as it is, without `Content-Encoding`.",
        ));
    }
    read_body(request.into_body(), limit).await
}

/// The whole of a body that is not over the limit.
pub(crate) async fn read_body(body: axum::body::Body, limit: usize) -> Result<Bytes, Problem> {
    // Told by the declared length, it need not be sent.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    axum::body::to_bytes(body, limit).await.map_err(|error| {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            if inner.is::<http_body_util::LengthLimitError>() {
                return too_large(limit);
            }
            cause = inner.source();
        }
        Problem::new(ProblemType::MalformedJson, "The body did not arrive whole.")
    })
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        ProblemType::TooLarge,
        format!("The body of this request may be at most {limit} bytes."),
    )
}

/// Takes an object inside a body: serde would take a list for one, by the order of its fields.
pub(crate) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Object(PhantomData))
}

/// An object inside a body, and nothing else that serde would take for one.
#[derive(Debug)]
pub(crate) struct Strict<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object(deserializer).map(Self)
    }
}

/// Tells `null` from "not given", with `#[serde(default)]`.
#[expect(clippy::option_option, reason = "a field left away differs from null")]
pub(crate) fn given<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// What is not JSON is told apart from JSON that is not what is asked for.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde would take a list for an object, by the order of its fields.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::invalid_body(".", "must be an object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        (path, error.into_inner())
    });
    let error = match parsed {
        Ok(value) => match deserializer.end() {
            Ok(()) => return Ok(value),
            Err(error) => (".".to_owned(), error),
        },
        Err(error) => error,
    };
    let (path, error) = error;
    Err(match error.classify() {
        Category::Data => Problem::invalid_body(path, without_place(&error)),
        Category::Io | Category::Syntax | Category::Eof => Problem::new(
            ProblemType::MalformedJson,
            format!("The body is not JSON: {error}."),
        ),
    })
}

/// The message without serde's "at line 1 column 7": the path tells it better.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The query parameters of an address.
#[derive(Debug)]
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Problem::new(ProblemType::InvalidQuery, rejection.body_text())),
        }
    }
}

/// The id in an address. What cannot be an id is answered as an id nobody has.
#[derive(Debug)]
pub(crate) struct Id<T>(pub(crate) T);

impl<T: FromStr + Send> FromRequestParts<App> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, app)
            .await
            .map_err(|_| Problem::not_found())?;
        text.parse().map(Self).map_err(|_| Problem::not_found())
    }
}

/// Two such ids in one address.
#[derive(Debug)]
pub(crate) struct Pair<A, B>(pub(crate) A, pub(crate) B);

impl<A: FromStr + Send, B: FromStr + Send> FromRequestParts<App> for Pair<A, B> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Path((first, second)) = Path::<(String, String)>::from_request_parts(parts, app)
            .await
            .map_err(|_| Problem::not_found())?;
        match (first.parse(), second.parse()) {
            (Ok(first), Ok(second)) => Ok(Self(first, second)),
            _ => Err(Problem::not_found()),
        }
    }
}

/// How many rows a page may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub(crate) struct Limit(u16);

impl Limit {
    /// The number for a query.
    pub(crate) fn rows(limit: Option<Self>) -> u32 {
        limit.map_or(50, |limit| u32::from(limit.0))
    }
}

impl TryFrom<u16> for Limit {
    type Error = &'static str;

    fn try_from(rows: u16) -> Result<Self, Self::Error> {
        if (1..=200).contains(&rows) {
            Ok(Self(rows))
        } else {
            Err("must be from 1 to 200")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        items: Vec<Item>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Item {
        event_type: domain::EventType,
    }

    fn refusal(body: &str) -> (ProblemType, String) {
        let problem = parse::<Example>(body.as_bytes()).unwrap_err();
        let rendered = format!("{problem:?}");
        (problem.kind(), rendered)
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        assert!(parse::<Example>(br#"{"items":[{"event_type":"a.b"}]}"#).is_ok());
        let (kind, text) = refusal(r#"{"items":[{"event_type":"a.b"},{"event_type":"a b"}]}"#);
        assert_eq!(kind, ProblemType::InvalidBody);
        assert!(
            text.contains("items[1].event_type") && text.contains("must be 1 to 128"),
            "{text}"
        );
        let (kind, text) = refusal(r#"{"items":[{"event_type":"a.b","colour":1}]}"#);
        assert_eq!(kind, ProblemType::InvalidBody);
        assert!(
            text.contains("items[0].colour") && !text.contains("at line"),
            "{text}"
        );
    }

    #[test]
    fn what_is_not_json_is_told_apart() {
        for body in ["", "{", "{]", "nul", "{\"items\":[]} {}", "\u{1}"] {
            assert_eq!(refusal(body).0, ProblemType::MalformedJson, "{body:?}");
        }
        for body in ["null", "[]", "{}", "7", r#"{"items":{}}"#] {
            assert_eq!(refusal(body).0, ProblemType::InvalidBody, "{body:?}");
        }
    }

    #[test]
    fn a_depth_bomb_is_refused() {
        let bomb = "[".repeat(500_000);
        assert_eq!(refusal(&bomb).0, ProblemType::InvalidBody);
        let inside = format!(r#"{{"items":{bomb}"#);
        assert!(matches!(
            refusal(&inside).0,
            ProblemType::InvalidBody | ProblemType::MalformedJson
        ));
    }
}
