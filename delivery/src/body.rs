//! The body of a webhook, as Standard Webhooks recommends it: `{"type","timestamp","data"}`.

use domain::{Message, Sent};
use sha2::{Digest, Sha256};

/// The bytes posted for a message: `timestamp` is the time of publication, `data` the publisher's JSON to the
/// byte, so that numbers, key order and white space arrive as they were sent.
pub(crate) fn body(message: &Message) -> Vec<u8> {
    // Neither an event type nor an RFC 3339 time holds a character that JSON would escape.
    let head = format!(
        r#"{{"type":"{}","timestamp":"{}","data":"#,
        message.event_type, message.published_at
    );
    let mut body = Vec::with_capacity(head.len() + message.data.len() + 1);
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(&message.data);
    body.push(b'}');
    body
}

/// The body of a request that was sent for a message, made again from it; none where no form that this program knows
/// gives the bytes that were sent, as their hash tells.
pub fn body_again(message: &Message, sent: &Sent) -> Option<Vec<u8>> {
    let forms: [fn(&Message) -> Vec<u8>; 1] = [body];
    forms
        .into_iter()
        .map(|form| form(message))
        .find(|body| Sha256::digest(body).as_slice() == sent.body_sha256)
}

#[cfg(test)]
mod tests {
    use domain::{Actor, EventId, TenantId, Timestamp};

    use super::*;

    #[test]
    fn the_data_stays_as_published_to_the_byte() {
        let message = Message {
            v: Message::VERSION,
            tenant: TenantId::platform(),
            id: "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse::<EventId>().unwrap(),
            event_type: "invoice.paid".parse().unwrap(),
            data: br#"{ "b":1.50, "a":12345678901234567890 }"#.to_vec(),
            published_at: Timestamp::from_millis(1_614_265_330_007),
            actor: Actor::PlatformAdmin,
            request_id: None,
            correlation_id: None,
            causation_id: None,
            traceparent: None,
            only_for: None,
        };
        let body = String::from_utf8(body(&message)).unwrap();
        assert_eq!(
            body,
            r#"{"type":"invoice.paid","timestamp":"2021-02-25T15:02:10.007Z","data":{ "b":1.50, "a":12345678901234567890 }}"#
        );
        serde_json::from_str::<serde_json::Value>(&body).unwrap();
    }
}
