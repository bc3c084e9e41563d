//! What an attempt means for its endpoint: one that is gone, or has failed for too long, is disabled.
//!
//! Nothing of this holds a delivery up: what cannot be done now is done after the next attempt.

use std::time::{Duration, SystemTime};

use domain::Timestamp;
use domain::endpoint::Automatic;

use super::Worker;
use super::attempt::Made;
use super::prepare::Receiver;
use crate::endpoints::Endpoint;
use crate::health::in_full;
use crate::metrics;
use crate::work::Work;

/// The status by which a receiver says that it wants nothing any more.
pub(super) const GONE: u16 = 410;

impl Worker {
    /// Notes how an attempt ended, and disables its endpoint where that is due.
    pub(super) async fn judge(&self, work: &Work, to: &Receiver, made: &Made) {
        if !made.sent {
            return;
        }
        let noted = if made.tried.outcome.error.is_none() {
            self.failing.succeeded(&to.tenant, &to.endpoint).await
        } else if made.tried.outcome.status == Some(GONE) {
            let delivery = work.delivery.clone();
            self.disable(work, to, made.started, Automatic::Gone { delivery })
                .await;
            Ok(())
        } else {
            self.failed(work, to, made).await
        };
        if let Err(error) = noted {
            let (endpoint, error) = (&to.endpoint, in_full(&error));
            tracing::warn!(%endpoint, error, "How an attempt ended could not be noted of its endpoint.");
        }
    }

    async fn failed(&self, work: &Work, to: &Receiver, made: &Made) -> Result<(), broker::KvError> {
        let at = Timestamp::from(made.started);
        let Some(endpoint) = self.present(work, to) else {
            return Ok(());
        };
        let since = self.failing.failed(&to.tenant, &to.endpoint, at).await?;
        if !self.too_long(&endpoint, since) {
            return Ok(());
        }
        // Another process may have had a success.
        let since = self.failing.since(&to.tenant, &to.endpoint).await?;
        if let Some(since) = since.filter(|since| self.too_long(&endpoint, *since)) {
            let since = since.max(Timestamp::from(endpoint.since));
            self.disable(work, to, made.started, Automatic::Failing { since })
                .await;
            self.failing.forget(&to.tenant, &to.endpoint).await?;
        }
        Ok(())
    }

    /// Whether an endpoint has failed for too long; what was before it was last changed or enabled does not count.
    fn too_long(&self, endpoint: &Endpoint, since: Timestamp) -> bool {
        let asked = endpoint.settings.policy.disable_after_hours;
        let after = match asked.map(|hours| u64::from(hours.get())) {
            None => self.disable_after,
            Some(0) => None,
            Some(hours) => Some(Duration::from_secs(hours * 60 * 60)),
        };
        let since = SystemTime::from(since).max(endpoint.since);
        after.is_some_and(|after| since + after <= SystemTime::now())
    }

    async fn disable(&self, work: &Work, to: &Receiver, started: SystemTime, why: Automatic) {
        // What it answered before it was last changed or enabled is no answer to that.
        if self
            .present(work, to)
            .is_none_or(|endpoint| endpoint.since > started)
        {
            return;
        }
        let label = match &why {
            Automatic::Gone { .. } => "gone",
            Automatic::Failing { .. } => "failing",
        };
        match self.control.disable(&to.tenant, &to.endpoint, why).await {
            Ok(()) => {
                metrics::disabled(label);
                tracing::info!(endpoint = %to.endpoint, tenant.id = %to.tenant, why = label, "An endpoint was disabled.");
            }
            Err(error) => {
                let error = in_full(error.as_ref());
                tracing::warn!(endpoint = %to.endpoint, error, "An endpoint could not be disabled.");
            }
        }
    }

    /// The endpoint, as long as it gets messages.
    fn present(&self, work: &Work, to: &Receiver) -> Option<std::sync::Arc<Endpoint>> {
        let shard = work.message.position.shard;
        let endpoint = self.endpoints.get(shard, &to.tenant, &to.endpoint);
        endpoint.filter(|endpoint| endpoint.enabled)
    }
}
