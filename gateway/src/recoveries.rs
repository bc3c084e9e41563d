//! What the delivery side says of recoveries, as commands on them.

use async_trait::async_trait;
use broker::Cause;
use commands::Dispatcher;
use delivery::RecoveryControl;
use domain::recovery::{Recovery, RecoveryCommand, RecoveryRejection};
use domain::{Actor, Meta, RecoveryId, TenantId, Timestamp};
use std::time::SystemTime;

use crate::draw::Draw;

/// Tells recoveries how far they are.
#[derive(Clone)]
pub(crate) struct Recoveries(pub(crate) Dispatcher);

impl std::fmt::Debug for Recoveries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recoveries(…)")
    }
}

#[async_trait]
impl RecoveryControl for Recoveries {
    async fn tell(
        &self,
        tenant: &TenantId,
        recovery: &RecoveryId,
        command: RecoveryCommand,
    ) -> Result<(), Cause> {
        let meta = meta(name(&command));
        let told = self
            .0
            .execute::<Recovery>(tenant, recovery.as_str(), command, meta)
            .await;
        match told {
            Ok(_) | Err(commands::Error::Rejected(RecoveryRejection::Ended)) => Ok(()),
            Err(error) => Err(Box::new(error)),
        }
    }
}

fn name(command: &RecoveryCommand) -> &'static str {
    match command {
        RecoveryCommand::Complete(_) => "CompleteRecovery",
        RecoveryCommand::Fail { .. } => "FailRecovery",
        _ => "ReportRecovery",
    }
}

fn meta(command: &str) -> Meta {
    Meta {
        command_id: Draw::fresh().ulid(command).to_string(),
        command: command.to_owned(),
        actor: Actor::System("delivery".to_owned()),
        request_id: None,
        origin: None,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        at: Timestamp::from(SystemTime::now()),
    }
}
