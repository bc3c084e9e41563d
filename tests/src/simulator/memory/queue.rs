//! `WorkQueue` over jobs in memory.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use broker::{Job, Lease, LeaseToken, QueueError, Settlement, Token, WorkQueue};
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::jobs::{Jobs, Leased};
use super::{Gate, awaiting};

/// The largest payload of a job.
const LIMIT: usize = 64 << 10;

/// The queue of an open engine.
#[derive(Debug)]
pub(super) struct MemoryQueue {
    pub(super) jobs: Arc<Jobs>,
    pub(super) lease: Duration,
    pub(super) gate: Arc<Gate>,
}

impl MemoryQueue {
    fn jobs(&self) -> Result<&Jobs, QueueError> {
        self.gate.pass().map_err(QueueError::Unavailable)?;
        Ok(&self.jobs)
    }
}

#[async_trait]
impl WorkQueue for MemoryQueue {
    async fn enqueue(&self, jobs: Vec<(Job, Option<SystemTime>)>) -> Result<(), QueueError> {
        for (job, _) in &jobs {
            check_payload(&job.payload)?;
        }
        self.jobs()?.enqueue(jobs);
        Ok(())
    }

    async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Lease>, QueueError> {
        let deadline = Instant::now() + wait.min(Duration::from_hours(24));
        loop {
            let changed = awaiting(self.jobs.changed());
            let (leased, next) = self.jobs()?.lease(max, self.lease);
            if !leased.is_empty() || max == 0 || Instant::now() >= deadline {
                return Ok(leased.into_iter().map(lease_of).collect());
            }
            // A little after, so that its time has come by a clock that is finer than timers are.
            let soon = |next| self.jobs.clock.instant(next) + Duration::from_millis(1);
            let wake = next.map_or(deadline, |next| deadline.min(soon(next)));
            timeout_at(wake, changed).await.ok();
        }
    }

    async fn extend(&self, lease: &Lease) -> Result<SystemTime, QueueError> {
        let until = self.jobs()?.extend(&lease.job.id, token(lease)?, self.lease);
        until.ok_or_else(|| lost(lease))
    }

    async fn settle(&self, lease: &Lease, settlement: Settlement) -> Result<(), QueueError> {
        match &settlement {
            Settlement::Again { payload, .. } | Settlement::Dead { payload } => check_payload(payload)?,
            Settlement::Done => {}
        }
        let settled = self.jobs()?.settle(&lease.job.id, token(lease)?, settlement);
        settled.then_some(()).ok_or_else(|| lost(lease))
    }

    async fn hasten(&self, tenant: &Token, lane: &Token, job: &Token) -> Result<bool, QueueError> {
        Ok(self.jobs()?.hasten(tenant, lane, job))
    }
}

pub(super) fn check_payload(payload: &Bytes) -> Result<(), QueueError> {
    let bytes = payload.len();
    if bytes > LIMIT {
        return Err(QueueError::TooLarge { bytes, limit: LIMIT });
    }
    Ok(())
}

fn lease_of(leased: Leased) -> Lease {
    Lease {
        job: leased.job,
        times: leased.times,
        expires: leased.expires,
        token: LeaseToken::new(leased.token.to_string()),
    }
}

/// The number in a lease's token; a token of another engine is no lease here.
fn token(lease: &Lease) -> Result<u64, QueueError> {
    lease.token.as_str().parse().map_err(|_| lost(lease))
}

fn lost(lease: &Lease) -> QueueError {
    QueueError::LeaseLost(lease.job.id.clone())
}
