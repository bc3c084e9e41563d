//! What delivery has to say about endpoints, as a port: who disables them is another part of Tidings.

use async_trait::async_trait;
use broker::Cause;
use domain::endpoint::Automatic;
use domain::{EndpointId, TenantId};

/// Decides on endpoints as delivery asks for it.
#[async_trait]
pub trait EndpointControl: Send + Sync + std::fmt::Debug {
    /// Disables an endpoint, and returns when that is in the log. One that is disabled already, or gone, is no error.
    ///
    /// A failure may leave it disabled; repeating the call does no harm.
    async fn disable(&self, tenant: &TenantId, endpoint: &EndpointId, why: Automatic) -> Result<(), Cause>;
}
