//! What a command should know of the request it came with: its id, what it belongs to, and its trace.

use std::net::IpAddr;

use axum::extract::ConnectInfo;
use axum::http::header::HeaderName;
use axum::http::{Extensions, HeaderMap};

use crate::listener::Peer;

/// Names one request: the client's, where it sends one, or ours.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Names what belongs together across requests; the request's id, where the client sends none.
const CORRELATION_ID: HeaderName = HeaderName::from_static("correlation-id");
const TRACE_PARENT: &str = "traceparent";
const MAX_ID: usize = 128;

/// The id of a request, in its extensions.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

/// What a command should know of the request it came with.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    /// The request's id.
    pub(crate) id: String,
    /// What belongs together across requests.
    pub(crate) correlation_id: String,
    /// The address it came from.
    pub(crate) origin: Option<IpAddr>,
    /// W3C trace context.
    pub(crate) traceparent: Option<String>,
}

impl RequestContext {
    /// Of a request that went through [`identify`](super::identify).
    pub(crate) fn of(headers: &HeaderMap, extensions: &Extensions) -> Self {
        let id = extensions.get::<RequestId>().map(|id| id.0.clone());
        let id = id.unwrap_or_default();
        let traceparent = headers.get(TRACE_PARENT).and_then(|value| value.to_str().ok());
        Self {
            correlation_id: accepted_id(headers, &CORRELATION_ID).unwrap_or_else(|| id.clone()),
            id,
            origin: extensions.get::<ConnectInfo<Peer>>().map(|info| info.0.0.ip()),
            traceparent: traceparent.and_then(accepted_trace),
        }
    }
}

/// A client's own id, where it can stand in logs and headers as it is.
pub(super) fn accepted_id(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    ((1..=MAX_ID).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

/// A trace's parent in the form of version 00 (<https://www.w3.org/TR/trace-context/#traceparent-header>): of a later
/// version the fields it shares with 00 are taken; what is not valid is no trace.
fn accepted_trace(text: &str) -> Option<String> {
    let (version, rest) = text.split_at_checked(2)?;
    let (fields, more) = rest.split_at_checked(53)?;
    let later = version != "00";
    if !is_hex(version) || version == "ff" || !(more.is_empty() || (later && more.starts_with('-'))) {
        return None;
    }
    let mut parts = fields.strip_prefix('-')?.split('-');
    let (trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?);
    let is_id = |id: &str, digits: usize| id.len() == digits && is_hex(id) && id.bytes().any(|b| b != b'0');
    let valid = is_id(trace, 32) && is_id(parent, 16) && flags.len() == 2 && is_hex(flags);
    (valid && parts.next().is_none()).then(|| format!("00-{trace}-{parent}-{flags}"))
}

/// Lower-case digits only, as the specification asks.
fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_plain_request_ids_are_taken_over() {
        let id = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(text).unwrap());
            accepted_id(&headers, &REQUEST_ID)
        };
        assert_eq!(id("a-1.B_2:c").as_deref(), Some("a-1.B_2:c"));
        for text in ["", "a b", "a\"b", "a;b", &"a".repeat(129)] {
            assert_eq!(id(text), None, "{text:?}");
        }
        assert_eq!(accepted_id(&HeaderMap::new(), &REQUEST_ID), None);
    }

    #[test]
    fn only_valid_traces_are_taken_over() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        const PARENT: &str = "00f067aa0ba902b7";
        let good = format!("00-{TRACE}-{PARENT}-01");
        assert_eq!(accepted_trace(&good).as_deref(), Some(good.as_str()));
        let later = format!("cc-{TRACE}-{PARENT}-01-what-comes");
        assert_eq!(accepted_trace(&later).as_deref(), Some(good.as_str()));
        let zeros = "0".repeat(32);
        for text in [
            "",
            "00",
            &good[..54],
            &format!("{good}-more"),
            &format!("{good}0"),
            &format!("cc-{TRACE}-{PARENT}-01more"),
            &format!("ff-{TRACE}-{PARENT}-01"),
            &format!("00-{zeros}-{PARENT}-01"),
            &format!("00-{TRACE}-0000000000000000-01"),
            &format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            &format!("00-{TRACE}x{PARENT}-01"),
            &format!("00-{PARENT}-{TRACE}-01"),
            &format!("00-{TRACE}-{PARENT}-0g"),
            &"é".repeat(28),
        ] {
            assert_eq!(accepted_trace(text), None, "{text:?}");
        }
    }
}
