//! Carries out what delivery decides about endpoints, as commands like anybody's.

use std::time::SystemTime;

use async_trait::async_trait;
use broker::Cause;
use commands::{Dispatcher, Error};
use delivery::EndpointControl;
use domain::endpoint::{Automatic, Endpoint, EndpointCommand};
use domain::{Actor, EndpointId, Meta, TenantId, Timestamp};

use crate::draw::Draw;

/// Who decides, as the log names it.
const ACTOR: &str = "delivery";
/// The command, as the log names it.
const DISABLE: &str = "DisableEndpointItself";

/// Delivery's way to the endpoints' aggregates.
pub(crate) struct Control(Dispatcher);

impl Control {
    pub(crate) fn new(dispatcher: Dispatcher) -> Self {
        Self(dispatcher)
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Control")
    }
}

#[async_trait]
impl EndpointControl for Control {
    async fn disable(&self, tenant: &TenantId, endpoint: &EndpointId, why: Automatic) -> Result<(), Cause> {
        let causation_id = match &why {
            Automatic::Gone { delivery } => Some(delivery.to_string()),
            Automatic::Failing { .. } => None,
        };
        let meta = Meta {
            command_id: Draw::fresh().ulid(DISABLE).to_string(),
            command: DISABLE.to_owned(),
            actor: Actor::System(ACTOR.to_owned()),
            request_id: None,
            origin: None,
            correlation_id: None,
            causation_id,
            traceparent: None,
            at: Timestamp::from(SystemTime::now()),
        };
        let command = EndpointCommand::DisableItself(why);
        let executed = self
            .0
            .execute::<Endpoint>(tenant, endpoint.as_str(), command, meta)
            .await;
        match executed {
            // It was removed meanwhile.
            Ok(_) | Err(Error::Rejected(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
