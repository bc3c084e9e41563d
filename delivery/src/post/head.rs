//! What the delivery log keeps of the heads of a request and its response: no secret of either side.
//!
//! A field of the request is a secret where its value is marked so ([`HeaderValue::is_sensitive`]), which whoever adds
//! it decides. What a receiver answers is judged by the field's name, for nobody else can tell.

use domain::{HeadField, ResponseHead, Sent};
use reqwest::Request;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

/// How much of a response's head is kept, in bytes of names and values.
const KEPT: usize = 4 * 1024;

/// Words in the names of fields whose values may be secrets of the receiver.
const SECRET: &[&str] = &[
    "cookie",
    "authorization",
    "authentication",
    "token",
    "secret",
    "password",
    "session",
    "api-key",
    "apikey",
    "csrf",
    "credential",
];

/// The request as it goes out; `host` and `content-length` are added to it on the way, from URL and body.
pub(super) fn sent(request: &Request) -> Sent {
    let body = request
        .body()
        .and_then(|body| body.as_bytes())
        .unwrap_or_default();
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        HeadField(
            name.as_str().to_owned(),
            (!value.is_sensitive()).then(|| text(value)),
        )
    };
    Sent {
        method: request.method().to_string(),
        url: request.url().to_string(),
        fields: request.headers().iter().map(field).collect(),
        body_bytes: u64::try_from(body.len()).unwrap_or(u64::MAX),
        body_sha256: Sha256::digest(body).to_vec(),
    }
}

/// The beginning of a response's head.
pub(super) fn received(headers: &HeaderMap) -> ResponseHead {
    let mut head = ResponseHead::default();
    let mut room = KEPT;
    for (name, value) in headers {
        let value = (!is_secret(name)).then(|| text(value));
        let size = name.as_str().len() + value.as_ref().map_or(0, String::len);
        if let Some(left) = room.checked_sub(size) {
            room = left;
        } else {
            head.cut = true;
            break;
        }
        head.fields.push(HeadField(name.as_str().to_owned(), value));
    }
    head
}

fn is_secret(name: &HeaderName) -> bool {
    SECRET.iter().any(|word| name.as_str().contains(word))
}

/// Values are bytes; what is no UTF-8 of them is shown as U+FFFD.
fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_the_receiver_is_kept_and_no_more_than_there_is_room_for() {
        let mut headers = HeaderMap::new();
        headers.insert("server", "nginx".parse().unwrap());
        for name in [
            "set-cookie",
            "x-csrf-token",
            "www-authenticate-token",
            "x-api-key",
        ] {
            headers.insert(name, "hush".parse().unwrap());
        }
        let head = received(&headers);
        assert!(!head.cut);
        assert_eq!(head.fields.len(), 5);
        assert_eq!(head.fields[0], HeadField("server".into(), Some("nginx".into())));
        assert!(head.fields[1..].iter().all(|HeadField(_, value)| value.is_none()));

        for number in 0..100 {
            let name: HeaderName = format!("x-long-{number}").parse().unwrap();
            headers.insert(name, "v".repeat(100).parse().unwrap());
        }
        let head = received(&headers);
        assert!(head.cut);
        assert!((30..=45).contains(&head.fields.len()), "{}", head.fields.len());
    }

    #[test]
    fn a_secret_that_is_sent_is_named_and_not_shown() {
        let mut request = Request::new(reqwest::Method::PUT, "http://a.example/x?y=1".parse().unwrap());
        let mut secret: HeaderValue = "Bearer hush".parse().unwrap();
        secret.set_sensitive(true);
        request.headers_mut().insert("authorization", secret);
        request.headers_mut().insert("x-plain", "shown".parse().unwrap());
        *request.body_mut() = Some("{}".into());
        let sent = sent(&request);
        assert_eq!(
            (sent.method.as_str(), sent.url.as_str()),
            ("PUT", "http://a.example/x?y=1")
        );
        assert_eq!(
            sent.fields,
            [
                HeadField("authorization".into(), None),
                HeadField("x-plain".into(), Some("shown".into()))
            ]
        );
        assert_eq!(
            (sent.body_bytes, sent.body_sha256),
            (2, Sha256::digest(b"{}").to_vec())
        );
    }
}
