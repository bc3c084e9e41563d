//! Facts about endpoints, deliveries and recoveries as messages: a tenant's endpoints can ask for them like for any other.
//!
//! * Their types begin with a word that nobody else's may ([`EventType::is_reserved`]), and only an endpoint that names
//!   that word gets them: `*` means everything the tenant publishes.
//! * A fact is published only where some endpoint of the tenant asks for its type, enabled or not: one that is disabled
//!   can recover it later.
//! * The message of a fact has one id, whoever publishes it and however often.
//! * Nothing about the delivery of such a message is ever published: they cannot feed on themselves.

use std::sync::Arc;
use std::time::SystemTime;

use broker::layout::{Log, Shard};
use broker::{AppendError, Engine, EventLog, NewRecord, ReadError};
use domain::{Actor, EventId, EventType, Message, TenantId, Timestamp, Trigger};
use serde_json::Value;

use crate::endpoints::Endpoints;
use crate::work::subject;

/// An endpoint gets nothing any more.
pub(crate) const ENDPOINT_DISABLED: &str = "tidings.endpoint.disabled";
/// An endpoint gets messages again.
pub(crate) const ENDPOINT_ENABLED: &str = "tidings.endpoint.enabled";
/// A delivery became a dead letter.
pub(crate) const DELIVERY_EXHAUSTED: &str = "tidings.delivery.exhausted";
/// A message arrived that had not: its dead letter was redriven, or it was recovered.
pub(crate) const DELIVERY_RECOVERED: &str = "tidings.delivery.recovered";
/// Everything that a recovery was to deliver is in the queue.
pub(crate) const RECOVERY_COMPLETED: &str = "tidings.recovery.completed";
/// A recovery cannot be done.
pub(crate) const RECOVERY_FAILED: &str = "tidings.recovery.failed";

/// Why a fact was not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FactError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Something that happened.
#[derive(Debug)]
pub(crate) struct Fact<'a> {
    pub(crate) tenant: &'a TenantId,
    /// One of the types above.
    pub(crate) event_type: &'static str,
    /// Names it among the facts of its type.
    pub(crate) name: String,
    pub(crate) data: Value,
    /// What led to it.
    pub(crate) trigger: Option<&'a Trigger>,
}

/// Publishes facts.
#[derive(Debug)]
pub(crate) struct Facts {
    messages: Vec<Arc<dyn EventLog>>,
    endpoints: Arc<Endpoints>,
}

impl Facts {
    pub(crate) fn new(engine: &dyn Engine, endpoints: Arc<Endpoints>) -> Self {
        let shards = 0..engine.layout().shards;
        Self {
            messages: shards.map(|shard| engine.log(Log::Messages(shard))).collect(),
            endpoints,
        }
    }

    /// Publishes a fact about something of a shard, if anybody asks for it.
    pub(crate) async fn publish(&self, shard: Shard, fact: Fact<'_>) -> Result<(), FactError> {
        let (Some(log), Ok(event_type)) = (self.messages.get(usize::from(shard)), fact.event_type.parse())
        else {
            return Ok(());
        };
        let message = message(&fact, event_type);
        // One who asked before this happened is always found.
        self.endpoints.current(shard).await?;
        if !self.endpoints.anybody_wants(shard, &message) {
            return Ok(());
        }
        let record = NewRecord {
            subject: subject(Message::subject(&message.tenant, &message.event_type)),
            message_id: format!("{}:{}", message.tenant, message.id),
            expect: None,
            payload: message.encode().into(),
        };
        log.append(vec![record]).await?;
        Ok(())
    }
}

fn message(fact: &Fact<'_>, event_type: EventType) -> Message {
    Message {
        v: Message::VERSION,
        tenant: fact.tenant.clone(),
        id: EventId::of_fact(fact.tenant, &event_type, &fact.name),
        event_type,
        data: fact.data.to_string().into_bytes(),
        published_at: Timestamp::from(SystemTime::now()),
        actor: Actor::System("delivery".to_owned()),
        request_id: None,
        correlation_id: fact.trigger.and_then(|trigger| trigger.correlation_id.clone()),
        causation_id: fact.trigger.map(|trigger| trigger.causation_id.clone()),
        traceparent: fact.trigger.and_then(|trigger| trigger.traceparent.clone()),
        only_for: None,
    }
}
