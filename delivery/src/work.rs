//! What a job of the queue says: which delivery, and which attempt of it is due.
//!
//! The message itself stays in its log: a job holds a reference, so that a message for a thousand endpoints is
//! stored once.

use broker::{Job, NewRecord, Subject, Token};
use bytes::Bytes;
use domain::{
    DeliveryFact, DeliveryId, DeliveryRecord, EndpointId, ErrorClass, MessageRef, TenantId, Timestamp,
    Trigger,
};
use serde::{Deserialize, Serialize};

use crate::ordering::Order;
use std::time::SystemTime;

/// The payload of a job, JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Work {
    /// Which delivery. The job's own id is the same but for a resend, whose job may wait beside the first.
    pub(crate) delivery: DeliveryId,
    /// The message it carries.
    pub(crate) message: MessageRef,
    /// Which run, from 1.
    pub(crate) run: u32,
    /// Which attempt of the run is due, from 1.
    pub(crate) attempt: u32,
    /// What led to the run; none in jobs of before this was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trigger: Option<Trigger>,
    /// Of a dead letter: why its last attempt failed; none in those of before this was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<ErrorClass>,
    /// Whether the run was begun because the message had not arrived.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) recovers: bool,
    /// Its place in an order, where the endpoint asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) order: Option<Order>,
}

impl Work {
    pub(crate) fn encode(&self) -> Bytes {
        #[expect(
            clippy::expect_used,
            reason = "serialising plain data to memory has no failure"
        )]
        serde_json::to_vec(self).expect("work is plain data").into()
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(payload)
    }

    /// The job that does it, under an id of its own or the delivery's.
    pub(crate) fn job(&self, id: &str, tenant: &TenantId, endpoint: &EndpointId) -> Job {
        Job {
            id: token(id),
            tenant: token(tenant.as_str()),
            lane: token(endpoint.as_str()),
            payload: self.encode(),
        }
    }

    /// A fact about the delivery, as of now.
    pub(crate) fn fact(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        fact: DeliveryFact,
    ) -> DeliveryRecord {
        DeliveryRecord {
            v: DeliveryRecord::VERSION,
            tenant: tenant.clone(),
            endpoint: endpoint.clone(),
            delivery: self.delivery.clone(),
            message: self.message.clone(),
            run: self.run,
            at: Timestamp::from(SystemTime::now()),
            fact,
            trigger: self.trigger.clone(),
            recovers: self.recovers,
        }
    }
}

/// A fact as the delivery log takes it. `unique` tells apart two tries of one attempt, as
/// [`DeliveryRecord::message_id`] says.
pub(crate) fn new_record(record: &DeliveryRecord, unique: &str) -> NewRecord {
    NewRecord {
        subject: subject(DeliveryRecord::subject(&record.tenant, &record.endpoint)),
        message_id: record.message_id(unique),
        expect: None,
        payload: record.encode().into(),
    }
}

/// Ids are tokens by their form.
#[expect(
    clippy::expect_used,
    reason = "typed ids hold only letters, digits, `_` and `-`"
)]
pub(crate) fn token(id: &str) -> Token {
    Token::new(id).expect("an id is a token")
}

/// Subjects made of ids and fixed words.
#[expect(
    clippy::expect_used,
    reason = "typed ids and fixed words hold only letters, digits, `_` and `-`"
)]
pub(crate) fn subject(text: String) -> Subject {
    Subject::new(text).expect("ids make a subject")
}
