//! What a webhook's body is, in each form an endpoint can ask for.
//!
//! In all of them the data are the publisher's JSON to the byte, so that numbers, key order and white space arrive as
//! they were sent.

use domain::endpoint::policy::Format;
use domain::{Message, Sent};
use sha2::{Digest, Sha256};

/// The media type of JSON.
const JSON: &str = "application/json";
/// The media type of a `CloudEvents` event in JSON (JSON format 1.0.2 §3).
const CLOUD_EVENT: &str = "application/cloudevents+json";
/// The version of `CloudEvents` (1.0.2 §3.1.1: 1.0, whatever the patch).
const SPEC_VERSION: &str = "1.0";

/// A body, and the headers that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) content_type: &'static str,
    /// More headers that say what it is.
    pub(crate) attributes: Vec<(&'static str, String)>,
    pub(crate) bytes: Vec<u8>,
}

/// What is sent for a message.
pub(crate) fn body(message: &Message, format: Format) -> Body {
    match format {
        Format::Standard => standard(message),
        Format::CloudeventsStructured => structured(message),
        Format::CloudeventsBinary => binary(message),
    }
}

/// `{"type","timestamp","data"}`, as Standard Webhooks recommends: `timestamp` is the time of publication.
fn standard(message: &Message) -> Body {
    // Neither an event type nor an RFC 3339 time holds a character that JSON would escape.
    let head = format!(
        r#"{{"type":"{}","timestamp":"{}","data":"#,
        message.event_type, message.published_at
    );
    Body {
        content_type: JSON,
        attributes: Vec::new(),
        bytes: around(&head, &message.data),
    }
}

/// The whole event as JSON (HTTP binding 1.0.2 §3.2).
fn structured(message: &Message) -> Body {
    // Ids, types and times hold no character that JSON would escape.
    let head = format!(
        r#"{{"specversion":"{SPEC_VERSION}","id":"{}","source":"{}","type":"{}","time":"{}","datacontenttype":"{JSON}","data":"#,
        message.id,
        source(message),
        message.event_type,
        message.published_at
    );
    Body {
        content_type: CLOUD_EVENT,
        attributes: Vec::new(),
        bytes: around(&head, &message.data),
    }
}

/// The data alone, the attributes in headers (HTTP binding 1.0.2 §3.1). None of their values holds a character that
/// would have to be percent-encoded there: all are printable ASCII without spaces, quotes and per cent signs.
fn binary(message: &Message) -> Body {
    let attributes = vec![
        ("ce-specversion", SPEC_VERSION.to_owned()),
        ("ce-id", message.id.to_string()),
        ("ce-source", source(message)),
        ("ce-type", message.event_type.to_string()),
        ("ce-time", message.published_at.to_string()),
    ];
    Body {
        content_type: JSON,
        attributes,
        bytes: message.data.clone(),
    }
}

/// Where events come from: with this, an event's id is unique (`CloudEvents` 1.0.2 §3.1.1).
fn source(message: &Message) -> String {
    format!("urn:tidings:{}", message.tenant)
}

fn around(head: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(head.len() + data.len() + 1);
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(data);
    bytes.push(b'}');
    bytes
}

/// The body of a request that was sent for a message, made again from it; none where no form that this program knows
/// gives the bytes that were sent, as their hash tells.
pub fn body_again(message: &Message, sent: &Sent) -> Option<Vec<u8>> {
    let formats = [
        Format::Standard,
        Format::CloudeventsStructured,
        Format::CloudeventsBinary,
    ];
    formats
        .into_iter()
        .map(|format| body(message, format).bytes)
        .find(|body| Sha256::digest(body).as_slice() == sent.body_sha256)
}

#[cfg(test)]
mod tests {
    use domain::{Actor, EventId, TenantId, Timestamp};

    use super::*;

    const DATA: &str = r#"{ "b":1.50, "a":12345678901234567890 }"#;

    fn sent(format: Format) -> (Body, String) {
        let message = Message {
            v: Message::VERSION,
            tenant: TenantId::platform(),
            id: "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse::<EventId>().unwrap(),
            event_type: "invoice.paid".parse().unwrap(),
            data: DATA.as_bytes().to_vec(),
            published_at: Timestamp::from_millis(1_614_265_330_007),
            actor: Actor::PlatformAdmin,
            request_id: None,
            correlation_id: None,
            causation_id: None,
            traceparent: None,
            only_for: None,
        };
        let body = body(&message, format);
        let text = String::from_utf8(body.bytes.clone()).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        (body, text)
    }

    #[test]
    fn the_data_stay_as_published_to_the_byte() {
        let (body, text) = sent(Format::Standard);
        assert_eq!((body.content_type, body.attributes.len()), (JSON, 0));
        assert_eq!(
            text,
            format!(r#"{{"type":"invoice.paid","timestamp":"2021-02-25T15:02:10.007Z","data":{DATA}}}"#)
        );
    }

    #[test]
    fn a_structured_cloud_event_is_all_in_the_body() {
        let (body, text) = sent(Format::CloudeventsStructured);
        assert_eq!((body.content_type, body.attributes.len()), (CLOUD_EVENT, 0));
        assert_eq!(
            text,
            format!(
                r#"{{"specversion":"1.0","id":"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV","source":"urn:tidings:platform","type":"invoice.paid","time":"2021-02-25T15:02:10.007Z","datacontenttype":"application/json","data":{DATA}}}"#
            )
        );
    }

    #[test]
    fn a_binary_cloud_event_has_its_attributes_in_headers() {
        let (body, text) = sent(Format::CloudeventsBinary);
        assert_eq!((body.content_type, text.as_str()), (JSON, DATA));
        let attributes: Vec<_> = body
            .attributes
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        assert_eq!(
            attributes,
            [
                ("ce-specversion", "1.0"),
                ("ce-id", "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV"),
                ("ce-source", "urn:tidings:platform"),
                ("ce-type", "invoice.paid"),
                ("ce-time", "2021-02-25T15:02:10.007Z"),
            ]
        );
        let plain = |value: &str| {
            value
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'%'))
        };
        assert!(attributes.iter().all(|(_, value)| plain(value)));
    }
}
