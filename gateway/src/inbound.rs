//! What other systems send: whether a request proves that a source sent it, and by what name it is known when it comes
//! again.
//!
//! One file per scheme, each after its sender's own documentation. All comparisons are in constant time, and nobody is
//! told which part of a proof was wrong. A name is taken only from what the signature covers: a header that anybody can
//! change does not make a new message of an old one.

mod ed25519;
mod github;
mod hmac;
mod key;
mod named;
mod slack;
mod standard_webhooks;
mod stripe;

use axum::http::HeaderMap;
use domain::source::{SourceSettings, ToleranceSeconds, Verification};

pub(crate) use key::SourceKey;
pub(crate) use named::{Named, named};

/// A request as it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'r> {
    /// Its headers.
    pub(crate) headers: &'r HeaderMap,
    /// Its body, to the byte.
    pub(crate) body: &'r [u8],
    /// When it came, in seconds since 1970.
    pub(crate) now: i64,
}

impl<'r> Incoming<'r> {
    /// A header that is given once, as text; one given twice could mean either.
    pub(crate) fn header(&self, name: &str) -> Option<&'r str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    }

    /// Whether a time in seconds since 1970 is near enough.
    fn is_timely(&self, time: &str, tolerance: ToleranceSeconds) -> bool {
        let off = time.parse::<i64>().map(|time| time.abs_diff(self.now));
        off.is_ok_and(|off| off <= u64::from(tolerance.get()))
    }
}

/// What a signature proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The name that the sender gave the message, where the scheme signs one outside of the body.
    id: Option<String>,
    /// The time it signed, where the scheme has one.
    time: Option<String>,
}

/// What the request proves under one of the keys, if it proves anything.
pub(crate) fn prove(settings: &SourceSettings, keys: &[SourceKey], incoming: &Incoming<'_>) -> Option<Proof> {
    let tolerance = settings.tolerance_seconds;
    match &settings.verification {
        Verification::StandardWebhooks {} => standard_webhooks::prove(keys, incoming, tolerance),
        Verification::Github {} => github::prove(keys, incoming),
        Verification::Stripe {} => stripe::prove(keys, incoming, tolerance),
        Verification::Slack {} => slack::prove(keys, incoming, tolerance),
        Verification::Hmac(scheme) => hmac::prove(scheme, keys, incoming),
        Verification::Ed25519(scheme) => ed25519::prove(scheme, keys, incoming, tolerance),
    }
}

/// What the tests of the schemes share.
#[cfg(test)]
mod testing {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};
    use domain::source::ToleranceSeconds;
    use serde_json::{Value, json};

    use super::{Incoming, SourceKey, SourceSettings};

    pub(super) const TOLERANCE: ToleranceSeconds = ToleranceSeconds::fixed::<300>();

    /// Of a source with this verification.
    pub(super) fn settings(verification: &Value) -> SourceSettings {
        serde_json::from_value(json!({
            "name": "x", "verification": verification, "event_type": { "from": "fixed", "type": "a" },
            "tolerance_seconds": 300,
        }))
        .unwrap()
    }

    pub(super) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    pub(super) fn incoming<'r>(headers: &'r HeaderMap, body: &'r [u8], now: i64) -> Incoming<'r> {
        Incoming { headers, body, now }
    }

    pub(super) fn shared(bytes: &[u8]) -> Vec<SourceKey> {
        vec![SourceKey::Shared(bytes.to_vec().into())]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::testing::{headers, incoming, settings, shared};
    use super::*;

    /// The example of GitHub's documentation, which proves something to whoever looks there and nothing elsewhere.
    #[test]
    fn a_request_is_held_to_the_scheme_of_its_source() {
        let headers = headers(&[(
            "x-hub-signature-256",
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        )]);
        let incoming = incoming(&headers, b"Hello, World!", 0);
        let keys = shared(b"It's a Secret to Everybody");
        let hmac = json!({
            "scheme": "hmac", "header": "x-hub-signature-256", "prefix": "sha256=", "hash": "sha256",
        });
        for verification in [json!({ "scheme": "github" }), hmac] {
            let proof = prove(&settings(&verification), &keys, &incoming);
            assert_eq!(proof, Some(Proof { id: None, time: None }), "{verification}");
        }
        let ed25519 = json!({ "scheme": "ed25519", "header": "x-hub-signature-256" });
        let others = ["standard_webhooks", "stripe", "slack"].map(|scheme| json!({ "scheme": scheme }));
        for verification in others.into_iter().chain([ed25519]) {
            assert_eq!(
                prove(&settings(&verification), &keys, &incoming),
                None,
                "{verification}"
            );
        }
    }

    #[test]
    fn a_time_is_near_enough_to_the_second_in_either_direction() {
        let none = HeaderMap::new();
        let now = incoming(&none, b"", 1_000);
        for (time, timely) in [
            ("700", true),
            ("699", false),
            ("1300", true),
            ("1301", false),
            ("-1000", false),
            ("soon", false),
            ("", false),
        ] {
            assert_eq!(now.is_timely(time, testing::TOLERANCE), timely, "{time}");
        }
    }

    #[test]
    fn a_header_that_is_given_twice_or_is_no_text_is_none() {
        let mut headers = headers(&[("once", "a"), ("twice", "a"), ("twice", "a")]);
        headers.insert("bytes", axum::http::HeaderValue::from_bytes(&[0xff]).unwrap());
        let incoming = incoming(&headers, b"", 0);
        assert_eq!(incoming.header("once"), Some("a"));
        for name in ["twice", "bytes", "never"] {
            assert_eq!(incoming.header(name), None, "{name}");
        }
    }
}
