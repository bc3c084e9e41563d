//! Telling every process what keeps the projectors of this one from going on.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use projections::{ReadModels, Teller};
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// How often it is told.
const EVERY: Duration = Duration::from_secs(1);

/// Tells it until stopped. A read database that takes nothing is told of by its own part of the health report.
pub(crate) async fn tell_troubles(health: Arc<Health>, read_models: ReadModels, stop: CancellationToken) {
    let mut teller = Teller::new(read_models, SystemTime::now().into());
    while stop
        .run_until_cancelled(tokio::time::sleep(EVERY))
        .await
        .is_some()
    {
        let now = SystemTime::now().into();
        if let Err(error) = teller.tell(&health.projections(), now).await {
            tracing::debug!(%error, "What keeps projections from going on could not be noted.");
        }
    }
}
