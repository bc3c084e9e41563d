//! What delivery says to recoveries: through a port, since it writes no commits itself.

use std::fmt;

use async_trait::async_trait;
use broker::Cause;
use domain::recovery::RecoveryCommand;
use domain::{RecoveryId, TenantId};

/// Tells recoveries how far they are.
#[async_trait]
pub trait RecoveryControl: fmt::Debug + Send + Sync {
    /// Says it, again and again until it is in the log; saying it twice does no harm. A recovery that cannot be told
    /// this, since it has ended, is none to be told.
    async fn tell(
        &self,
        tenant: &TenantId,
        recovery: &RecoveryId,
        command: RecoveryCommand,
    ) -> Result<(), Cause>;
}
