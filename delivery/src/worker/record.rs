//! Recording and settling, tried again for as long as the lease lasts.

use std::error::Error;
use std::time::{Duration, SystemTime};

use broker::{AppendError, Lease, QueueError, Settlement};
use domain::DeliveryRecord;

use super::Worker;
use crate::health::in_full;
use crate::schedule::Waits;
use crate::work::new_record;

impl Worker {
    /// Appends a fact; `false` when the lease ended before the log took it. The job then comes back.
    pub(super) async fn record(&self, lease: &Lease, record: &DeliveryRecord) -> bool {
        let unique = format!("{:016x}", rand::random::<u64>());
        let record = new_record(record, &unique);
        let mut waits = Waits::new();
        loop {
            let Err(error) = self.attempts.append(vec![record.clone()]).await else {
                self.surroundings(None);
                return true;
            };
            let hopeless = matches!(
                error,
                AppendError::TooLarge { .. } | AppendError::Malformed(_) | AppendError::Conflict { .. }
            );
            self.surroundings(Some(&error));
            if hopeless || !wait_within(lease, &mut waits).await {
                given_up(
                    lease,
                    &error,
                    "An attempt was made but not recorded; its job will come again.",
                );
                return false;
            }
        }
    }

    /// Ends a lease. Where that can't be done before it expires, the job comes back as it was.
    pub(super) async fn settle(&self, lease: &Lease, settlement: Settlement) {
        let mut waits = Waits::new();
        loop {
            match self.queue.settle(lease, settlement.clone()).await {
                Ok(()) => return,
                Err(QueueError::LeaseLost(_)) => {
                    tracing::debug!(job = %lease.job.id, "A lease ended before it was settled.");
                    return;
                }
                Err(error @ QueueError::TooLarge { .. }) => {
                    given_up(lease, &error, "A job could not be settled; it will come again.");
                    return;
                }
                Err(error) => {
                    if !wait_within(lease, &mut waits).await {
                        given_up(lease, &error, "A job could not be settled; it will come again.");
                        return;
                    }
                }
            }
        }
    }
}

/// Waits for the next try; `false` if the lease would be over then.
pub(super) async fn wait_within(lease: &Lease, waits: &mut Waits) -> bool {
    let wait: Duration = waits.next();
    if SystemTime::now() + wait >= lease.expires {
        return false;
    }
    tokio::time::sleep(wait).await;
    true
}

pub(super) fn given_up(lease: &Lease, error: &(dyn Error + 'static), what: &str) {
    tracing::error!(job = %lease.job.id, error = %in_full(error), "{what}");
}
