//! Messages: the application events a tenant publishes for its receivers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::commit::{Actor, DecodeError, decode_record, encode_record};
use crate::{EndpointId, EventId, TenantId, Timestamp};

/// Why a text is not an event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 128 characters: words of a-z A-Z 0-9 _ - joined by dots, such as `invoice.paid`")]
pub struct InvalidEventType;

/// The type of a message, as `invoice.paid`: dotted words (the Standard Webhooks form), at most 128 bytes and 16
/// words, so that it can be part of a log subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(String);

impl EventType {
    const MAX_BYTES: usize = 128;
    const MAX_WORDS: usize = 16;
    /// What the types of messages begin with that Tidings itself publishes.
    pub const RESERVED: &str = "tidings.";

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether messages of this type are Tidings' own: nobody else may publish them.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(Self::RESERVED)
    }
}

impl TryFrom<String> for EventType {
    type Error = InvalidEventType;

    fn try_from(text: String) -> Result<Self, InvalidEventType> {
        let word = |word: &str| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        let fits = text.len() <= Self::MAX_BYTES && text.split('.').count() <= Self::MAX_WORDS;
        if fits && text.split('.').all(word) {
            Ok(Self(text))
        } else {
            Err(InvalidEventType)
        }
    }
}

impl FromStr for EventType {
    type Err = InvalidEventType;

    fn from_str(text: &str) -> Result<Self, InvalidEventType> {
        Self::try_from(text.to_owned())
    }
}

impl From<EventType> for String {
    fn from(event_type: EventType) -> Self {
        event_type.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A published message: one record of the message log, MessagePack with named fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The version of this form: 1.
    pub v: u8,
    /// Who published it.
    pub tenant: TenantId,
    /// Names it for ever; receivers see it as `webhook-id`.
    pub id: EventId,
    /// What it is about.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// The publisher's JSON, to the byte.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
    /// When it was accepted.
    pub published_at: Timestamp,
    /// Who published it.
    pub actor: Actor,
    /// The HTTP request it came with.
    pub request_id: Option<String>,
    /// What belongs together across requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// What directly led to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The one endpoint it is for, whatever that asked for; all that want it, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_for: Option<EndpointId>,
}

impl Message {
    /// The version written.
    pub const VERSION: u8 = 1;

    /// The bytes the log keeps.
    pub fn encode(&self) -> Vec<u8> {
        encode_record(self)
    }

    /// Reads them back.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_record(bytes, Self::VERSION)
    }

    /// The subject of a tenant's messages of a type.
    pub fn subject(tenant: &TenantId, event_type: &EventType) -> String {
        format!("msg.{tenant}.{event_type}")
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::aggregate::testing::golden_record;

    #[test]
    fn event_types_are_dotted_words() {
        for text in ["invoice.paid", "ping", "github.pull_request.opened", "A-1.b"] {
            assert!(text.parse::<EventType>().is_ok(), "{text:?} was refused");
        }
        let long = "a".repeat(129);
        let deep = ["a"; 17].join(".");
        for text in [
            "", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "ä", &long, &deep,
        ] {
            assert!(text.parse::<EventType>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn the_golden_message_decodes_and_encodes() {
        let example = Message {
            v: Message::VERSION,
            tenant: TenantId::new(Ulid(7)),
            id: EventId::new(Ulid(8)),
            event_type: "invoice.paid".parse().unwrap(),
            data: br#"{"amount": 12.50}"#.to_vec(),
            published_at: Timestamp::from_millis(1_614_265_330_007),
            actor: Actor::ApiKey("key_00000000000000000000000009".into()),
            request_id: None,
            correlation_id: None,
            causation_id: None,
            traceparent: None,
            only_for: None,
        };
        let golden = golden_record("message.v1", &example.encode());
        assert_eq!(Message::decode(&golden).unwrap(), example);
        let caused = Message {
            request_id: Some("req-1".into()),
            correlation_id: Some("order-7".into()),
            causation_id: Some("01ARZ3NDEKTSV4RRFFQ69G5FAV".into()),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            ..example
        };
        let golden = golden_record("message.v1.caused", &caused.encode());
        assert_eq!(Message::decode(&golden).unwrap(), caused);
        let test = Message {
            only_for: Some(EndpointId::new(Ulid(10))),
            ..caused
        };
        let golden = golden_record("message.v1.only_for", &test.encode());
        assert_eq!(Message::decode(&golden).unwrap(), test);
    }
}
