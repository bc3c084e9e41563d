//! The delivery log: what became of each delivery, the truth behind the queue's wake-ups.
//!
//! A delivery goes through one or more *runs*: the first when it is matched, another at each redrive or resend.
//! Facts may be recorded late or twice (delivery is at least once); whoever folds them keeps, per delivery, the
//! fact with the greatest [`DeliveryRecord::order`].

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::commit::{Actor, DecodeError, Meta, decode_record, encode_record};
use crate::{DeliveryId, EndpointId, EventId, EventType, Message, Position, TenantId, Timestamp};

/// Which message a delivery carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRef {
    /// Its id.
    pub id: EventId,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Where it stands in the log of messages.
    pub position: Position,
    /// When it was accepted; none in records of before this was noted, and where a run was asked for later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<Timestamp>,
}

/// Why no response came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The name did not resolve.
    Dns,
    /// The address is one that receivers may not have, or the URL is not allowed.
    Forbidden,
    /// The connection was refused.
    Refused,
    /// TLS failed.
    Tls,
    /// The deadline passed.
    Timeout,
    /// The connection broke.
    Reset,
    /// A response came whose status is not 2xx.
    Status,
    /// The message or the endpoint's secret is no longer there.
    Gone,
    /// What the receiver wants to know Tidings by could not be had: no token, or no usable certificate.
    Authentication,
}

/// A text that names no class of errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of dns, forbidden, refused, tls, timeout, reset, status, gone")]
pub struct InvalidErrorClass;

impl FromStr for ErrorClass {
    type Err = InvalidErrorClass;

    fn from_str(text: &str) -> Result<Self, InvalidErrorClass> {
        Self::ALL
            .into_iter()
            .find(|class| class.as_str() == text)
            .ok_or(InvalidErrorClass)
    }
}

impl ErrorClass {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Dns,
        Self::Forbidden,
        Self::Refused,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::Status,
        Self::Gone,
    ];

    /// The class as one word, as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Forbidden => "forbidden",
            Self::Refused => "refused",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Status => "status",
            Self::Gone => "gone",
            Self::Authentication => "authentication",
        }
    }
}

/// One field of an HTTP head: its name, and its value unless that is a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadField(pub String, pub Option<String>);

/// The request of one HTTP try, as it was sent. Its body is not repeated here: it is made again from the message, and
/// is what was sent if its hash says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The method.
    pub method: String,
    /// Where it went.
    pub url: String,
    /// The head's fields in their order, but for `host` and `content-length`, which follow from URL and body.
    pub fields: Vec<HeadField>,
    /// The length of the body, in bytes.
    pub body_bytes: u64,
    /// The body's SHA-256.
    #[serde(with = "serde_bytes")]
    pub body_sha256: Vec<u8>,
}

/// The head of a response, without its status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseHead {
    /// Its fields in their order; what may be a secret of the receiver has no value here.
    pub fields: Vec<HeadField>,
    /// Whether there were more than are kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// One HTTP try: what was sent, and what it brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptOutcome {
    /// The response's status, if one came.
    pub status: Option<u16>,
    /// Why it failed; none for a success.
    pub error: Option<ErrorClass>,
    /// The failure in words, for people.
    pub detail: Option<String>,
    /// The beginning of the response body, as text.
    pub response_body: Option<String>,
    /// From the start of the try to its end, in milliseconds.
    pub duration_ms: u64,
    /// The response's head, if one came; none in records of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_head: Option<ResponseHead>,
    /// The request; none where nothing was to be sent, and in records of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Box<Sent>>,
}

/// What happens after an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// Nothing: it arrived.
    Delivered,
    /// Another attempt, not before this time.
    Again {
        /// When.
        due: Timestamp,
    },
    /// Nothing until somebody redrives it: it is a dead letter.
    Dead,
}

/// One fact about a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryFact {
    /// A message matched an endpoint: the delivery exists and is due.
    Created,
    /// An HTTP try was made.
    Attempted {
        /// Its number within the run, from 1.
        attempt: u32,
        /// What it brought.
        outcome: AttemptOutcome,
        /// What happens next.
        next: Next,
    },
    /// A new run began: a dead letter was redriven, or the delivery was asked for again.
    Redriven,
    /// The dead letter was given up for good.
    Discarded,
}

/// What led to a delivery, or to its present run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Who published the message, or asked for the run.
    pub actor: Actor,
    /// The HTTP request it came with.
    pub request_id: Option<String>,
    /// What belongs together across requests.
    pub correlation_id: Option<String>,
    /// The message's id, or the id of the command that asked for the run.
    pub causation_id: String,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl Trigger {
    /// A message that was matched.
    pub fn message(message: &Message) -> Self {
        Self {
            actor: message.actor.clone(),
            request_id: message.request_id.clone(),
            correlation_id: message.correlation_id.clone(),
            causation_id: message.id.to_string(),
            traceparent: message.traceparent.clone(),
        }
    }

    /// A command that asked for it.
    pub fn command(meta: &Meta) -> Self {
        Self {
            actor: meta.actor.clone(),
            request_id: meta.request_id.clone(),
            correlation_id: meta.correlation_id.clone(),
            causation_id: meta.command_id.clone(),
            traceparent: meta.traceparent.clone(),
        }
    }
}

/// One record of the delivery log, MessagePack with named fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// The version of this form: 1.
    pub v: u8,
    /// Whose it is.
    pub tenant: TenantId,
    /// For which endpoint.
    pub endpoint: EndpointId,
    /// Which delivery.
    pub delivery: DeliveryId,
    /// Which message.
    pub message: MessageRef,
    /// Which run, from 1.
    pub run: u32,
    /// When.
    pub at: Timestamp,
    /// What.
    pub fact: DeliveryFact,
    /// What led to it; none in records of before this was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// Whether the run was begun because the message had not arrived: of a dead letter, or of what was missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recovers: bool,
}

impl DeliveryRecord {
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

    /// The subject of an endpoint's deliveries.
    pub fn subject(tenant: &TenantId, endpoint: &EndpointId) -> String {
        format!("att.{tenant}.{endpoint}")
    }

    /// The id under which the fact is appended: the same fact has the same id, so recording it twice is
    /// recognised. An attempt made twice (after a crash between try and record) is two facts: `unique` tells
    /// them apart.
    pub fn message_id(&self, unique: &str) -> String {
        let (tenant, delivery, run) = (&self.tenant, &self.delivery, self.run);
        match &self.fact {
            DeliveryFact::Created => format!("{tenant}:{delivery}:{run}:created"),
            DeliveryFact::Attempted { attempt, .. } => {
                format!("{tenant}:{delivery}:{run}:{attempt}:{unique}")
            }
            DeliveryFact::Redriven => format!("{tenant}:{delivery}:{run}:redriven"),
            DeliveryFact::Discarded => format!("{tenant}:{delivery}:{run}:discarded"),
        }
    }

    /// Of two facts about a delivery, the greater one holds: a later run over an earlier, within a run attempts
    /// in their order, over them an arrival (a try repeated after a crash may fail although one arrived), and
    /// the discard.
    pub fn order(&self) -> (u32, u32) {
        let step = match &self.fact {
            DeliveryFact::Created | DeliveryFact::Redriven => 0,
            DeliveryFact::Attempted {
                next: Next::Delivered,
                ..
            } => u32::MAX - 1,
            DeliveryFact::Attempted { attempt, .. } => *attempt,
            DeliveryFact::Discarded => u32::MAX,
        };
        (self.run, step)
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::Source;
    use crate::aggregate::testing::golden_record;

    fn example(fact: DeliveryFact, run: u32) -> DeliveryRecord {
        let (tenant, id, endpoint) = (
            TenantId::new(Ulid(7)),
            EventId::new(Ulid(8)),
            EndpointId::new(Ulid(9)),
        );
        DeliveryRecord {
            v: DeliveryRecord::VERSION,
            delivery: DeliveryId::derive(&tenant, &id, &endpoint),
            tenant,
            endpoint,
            message: MessageRef {
                id,
                event_type: "invoice.paid".parse().unwrap(),
                position: Position {
                    source: Source::Messages,
                    shard: 0,
                    sequence: 42,
                },
                published_at: None,
            },
            run,
            at: Timestamp::from_millis(1_614_265_330_007),
            fact,
            trigger: None,
            recovers: false,
        }
    }

    fn attempt(number: u32) -> DeliveryFact {
        DeliveryFact::Attempted {
            attempt: number,
            outcome: AttemptOutcome {
                status: Some(500),
                error: Some(ErrorClass::Status),
                detail: Some("the receiver answered 500".into()),
                response_body: Some("oops".into()),
                duration_ms: 12,
                ..AttemptOutcome::default()
            },
            next: Next::Again {
                due: Timestamp::from_millis(1_614_265_335_007),
            },
        }
    }

    #[test]
    fn the_golden_delivery_record_decodes_and_encodes() {
        let example = example(attempt(1), 1);
        let golden = golden_record("delivery.v1", &example.encode());
        assert_eq!(DeliveryRecord::decode(&golden).unwrap(), example);
        let triggered = DeliveryRecord {
            trigger: Some(Trigger {
                actor: Actor::ApiKey("key_00000000000000000000000009".into()),
                request_id: Some("req-1".into()),
                correlation_id: Some("order-7".into()),
                causation_id: "evt_00000000000000000000000008".into(),
                traceparent: None,
            }),
            ..example
        };
        let golden = golden_record("delivery.v1.triggered", &triggered.encode());
        assert_eq!(DeliveryRecord::decode(&golden).unwrap(), triggered);
        let heads = DeliveryRecord {
            fact: with_heads(attempt(1)),
            recovers: true,
            ..triggered
        };
        let golden = golden_record("delivery.v1.heads", &heads.encode());
        assert_eq!(DeliveryRecord::decode(&golden).unwrap(), heads);
    }

    fn with_heads(mut fact: DeliveryFact) -> DeliveryFact {
        let field = |name: &str, value: Option<&str>| HeadField(name.into(), value.map(Into::into));
        if let DeliveryFact::Attempted { outcome, .. } = &mut fact {
            outcome.response_head = Some(ResponseHead {
                fields: vec![field("server", Some("nginx")), field("set-cookie", None)],
                cut: true,
            });
            outcome.sent = Some(Box::new(Sent {
                method: "POST".into(),
                url: "https://example.org/hook".into(),
                fields: vec![
                    field("webhook-id", Some("evt_00000000000000000000000008")),
                    field("authorization", None),
                ],
                body_bytes: 2,
                body_sha256: vec![7; 32],
            }));
        }
        fact
    }

    #[test]
    fn a_class_reads_as_it_prints() {
        for class in ErrorClass::ALL {
            assert_eq!(class.as_str().parse(), Ok(class));
        }
        assert_eq!("broken".parse::<ErrorClass>(), Err(InvalidErrorClass));
    }

    #[test]
    fn a_late_fact_of_an_earlier_run_never_overtakes() {
        let order = |fact, run| example(fact, run).order();
        assert!(order(attempt(2), 1) > order(attempt(1), 1));
        assert!(order(DeliveryFact::Discarded, 1) > order(attempt(9), 1));
        let mut arrived = attempt(1);
        if let DeliveryFact::Attempted { next, .. } = &mut arrived {
            *next = Next::Delivered;
        }
        assert!(order(arrived.clone(), 1) > order(attempt(2), 1));
        assert!(order(DeliveryFact::Redriven, 2) > order(arrived, 1));
        assert!(order(DeliveryFact::Redriven, 2) > order(DeliveryFact::Discarded, 1));
        assert!(order(attempt(1), 2) > order(DeliveryFact::Redriven, 2));
    }
}
