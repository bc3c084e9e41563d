//! `WorkQueue` over a line. Leases whose answer is lost stay taken until they expire, and the jobs come again.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use broker::{Job, Lease, QueueError, Settlement, Token, WorkQueue};

use super::super::network::Line;
use super::away;

/// The queue, from afar.
#[derive(Debug)]
pub(super) struct DistantQueue {
    pub(super) inner: Arc<dyn WorkQueue>,
    pub(super) line: Arc<Line>,
}

#[async_trait]
impl WorkQueue for DistantQueue {
    async fn enqueue(&self, jobs: Vec<(Job, Option<SystemTime>)>) -> Result<(), QueueError> {
        let ids: Vec<_> = jobs.iter().map(|(job, _)| job.id.to_string()).collect();
        let what = format!("enqueues {ids:?}");
        let enqueue = self.inner.enqueue(jobs);
        self.line.carry(what, enqueue, QueueError::Unavailable).await
    }

    async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Lease>, QueueError> {
        self.line.travel().await;
        // Whoever died meanwhile takes no jobs.
        let leases = tokio::select! {
            biased;
            () = self.line.severed() => return std::future::pending().await,
            leases = self.inner.lease(max, wait) => leases?,
        };
        if leases.is_empty() {
            return Ok(leases);
        }
        let call = self.line.network.call();
        let ids: Vec<_> = leases.iter().map(|lease| lease.job.id.as_str()).collect();
        self.line.note(format_args!("leases {ids:?}: {call:?}"));
        self.line.travel().await;
        if call == super::Call::Answered {
            Ok(leases)
        } else {
            Err(QueueError::Unavailable(away()))
        }
    }

    async fn extend(&self, lease: &Lease) -> Result<SystemTime, QueueError> {
        let what = format!("extends {}", lease.job.id);
        let extend = self.inner.extend(lease);
        self.line.carry(what, extend, QueueError::Unavailable).await
    }

    async fn settle(&self, lease: &Lease, settlement: Settlement) -> Result<(), QueueError> {
        let how = match &settlement {
            Settlement::Done => "done",
            Settlement::Again { .. } => "again",
            Settlement::Dead { .. } => "dead",
        };
        let what = format!("settles {} as {how}", lease.job.id);
        let settle = self.inner.settle(lease, settlement);
        self.line.carry(what, settle, QueueError::Unavailable).await
    }

    async fn hasten(&self, tenant: &Token, lane: &Token, job: &Token) -> Result<bool, QueueError> {
        let what = format!("hastens {job}");
        let hasten = self.inner.hasten(tenant, lane, job);
        self.line.carry(what, hasten, QueueError::Unavailable).await
    }
}
