//! What requests prove themselves with: API keys, and signatures of other systems.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use domain::EventType;
use domain::source::{EventTypeRule, SourceSettings, Verification};
use serde_json::json;

use crate::gateway::inbound::{Incoming, SourceKey, named as name_of, prove};
use crate::gateway::key::{PREFIX, named};
use crate::text;

/// When the requests of the corpus were sent, in seconds since 1970.
const NOW: i64 = 1_614_265_330;

/// Any text where an API key should stand: it names something in exactly the form that keys have, or nothing.
pub(crate) fn token(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Some((tenant, key)) = named(text) {
        let names = [tenant.as_str(), key.as_str()].map(|id| id.split_once('_').map_or("", |(_, name)| name));
        let begins = format!("{PREFIX}{}", names.concat());
        assert!(text.starts_with(&begins), "{text} names {tenant} and {key}");
    }
}

/// How sources may check, and the secret of each.
fn schemes() -> [(serde_json::Value, &'static str); 7] {
    let public = "/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU=";
    [
        (
            json!({ "scheme": "standard_webhooks" }),
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ),
        (
            json!({ "scheme": "standard_webhooks" }),
            "whpk_/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU=",
        ),
        (json!({ "scheme": "github" }), "It's a Secret to Everybody"),
        (json!({ "scheme": "stripe" }), "whsec_test_secret"),
        (json!({ "scheme": "slack" }), "8f742231b10e8888abcd99yyyzzz85a5"),
        (
            json!({ "scheme": "hmac", "header": "x-sig", "prefix": "sha512=", "hash": "sha512", "encoding": "base64", "id": "/id" }),
            "a key of sixteen bytes or more",
        ),
        (
            json!({ "scheme": "ed25519", "header": "x-sig", "encoding": "base64", "timestamp_header": "x-time" }),
            public,
        ),
    ]
}

/// A request to a source: a digit that says by which scheme, headers on a line each, an empty line, and the body. What
/// proves itself does so alone: with a changed body it proves nothing, and the same message has the same name.
pub(crate) fn signature(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else {
        return;
    };
    let schemes = schemes();
    let (verification, secret) = &schemes[usize::from(*which) % schemes.len()];
    let Ok(verification) = serde_json::from_value::<Verification>(verification.clone()) else {
        panic!("a scheme of the list is none");
    };
    let Ok(key) = SourceKey::read(&verification, secret) else {
        panic!("a secret of the list is none");
    };
    let (headers, body) = cut(rest);
    let Some(settings) = settings(verification) else {
        panic!("no settings for a scheme of the list");
    };
    let keys = [key];
    let incoming = Incoming {
        headers: &headers,
        body,
        now: NOW,
    };
    let Some(proof) = prove(&settings, &keys, &incoming) else {
        return;
    };
    let other = [body, b" "].concat();
    let changed = Incoming {
        body: &other,
        ..incoming
    };
    assert_eq!(
        prove(&settings, &keys, &changed),
        None,
        "it proves another body too"
    );
    assert_eq!(
        prove(&settings, &[], &incoming),
        None,
        "it proves itself without a key"
    );
    if let Ok(body) = serde_json::from_slice(body) {
        let name = name_of(&settings, &proof, &incoming, &body);
        assert_eq!(
            name,
            name_of(&settings, &proof, &incoming, &body),
            "it has two names"
        );
        assert!(!name.name.is_empty());
    }
}

fn settings(verification: Verification) -> Option<SourceSettings> {
    Some(SourceSettings {
        name: "source".to_owned().try_into().ok()?,
        event_type: EventTypeRule::Fixed {
            event_type: "order.placed".parse::<EventType>().ok()?,
        },
        tolerance_seconds: SourceSettings::TOLERANCE,
        rate_limit: None,
        verification,
    })
}

fn cut(bytes: &[u8]) -> (HeaderMap, &[u8]) {
    let mut headers = HeaderMap::new();
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            break;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    (headers, rest)
}
