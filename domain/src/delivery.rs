//! The delivery log: what became of each delivery, the truth behind the queue's wake-ups.
//!
//! A delivery goes through one or more *runs*: the first when it is matched, another at each redrive or resend.
//! Facts may be recorded late or twice (delivery is at least once); whoever folds them keeps, per delivery, the
//! fact with the greatest [`DeliveryRecord::order`].

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
}

impl ErrorClass {
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
        }
    }
}

/// What one HTTP try brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
