//! What a tenant's other endpoints may want to know of an attempt: that a message is given up, or arrived after all.

use broker::Lease;
use domain::{AttemptOutcome, DeliveryFact, DeliveryRecord, Next};
use serde_json::json;

use super::Worker;
use super::record::{given_up, wait_within};
use crate::facts::{DELIVERY_EXHAUSTED, DELIVERY_RECOVERED, Fact};
use crate::schedule::Waits;

impl Worker {
    /// Publishes what is to be known of an attempt that was recorded; `false` when the lease ended before that was done.
    /// The job then comes back, and with it the attempt: its fact has the same id.
    pub(super) async fn tell(&self, lease: &Lease, record: &DeliveryRecord) -> bool {
        let mut waits = Waits::new();
        while let Some(fact) = fact(record) {
            let Err(error) = self.facts.publish(record.message.position.shard, fact).await else {
                break;
            };
            self.surroundings(Some(&error));
            if !wait_within(lease, &mut waits).await {
                given_up(
                    lease,
                    &error,
                    "An attempt was recorded but not told of; its job will come again.",
                );
                return false;
            }
        }
        true
    }
}

/// What is to be known of an attempt, if anything is: of messages that are such facts themselves, nothing ever.
fn fact(record: &DeliveryRecord) -> Option<Fact<'_>> {
    let DeliveryFact::Attempted {
        attempt,
        outcome,
        next,
    } = &record.fact
    else {
        return None;
    };
    if record.message.event_type.is_reserved() {
        return None;
    }
    let event_type = match next {
        Next::Dead => DELIVERY_EXHAUSTED,
        Next::Delivered if record.recovers => DELIVERY_RECOVERED,
        Next::Delivered | Next::Again { .. } => return None,
    };
    let AttemptOutcome {
        status,
        error,
        detail,
        ..
    } = outcome;
    let mut data = json!({
        "delivery": record.delivery,
        "endpoint": record.endpoint,
        "event": record.message.id,
        "event_type": record.message.event_type,
        "run": record.run,
        "attempts": attempt,
        "at": record.at,
    });
    if event_type == DELIVERY_EXHAUSTED {
        data["status"] = json!(status);
        data["error"] = json!(error);
        data["detail"] = json!(detail);
    }
    Some(Fact {
        tenant: &record.tenant,
        event_type,
        name: format!("{}:{}", record.delivery, record.run),
        data,
        trigger: record.trigger.as_ref(),
    })
}
