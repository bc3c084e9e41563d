//! `WorkQueue` on SQLite.
//!
//! A job is free once its `free_at` has passed: that is its due time while it waits and the lease's end while it is
//! leased, so that an expired lease needs nobody to notice it. These times are the process' own (`steady`): a clock
//! that is put right, or wrong, makes nobody wait longer. Each call is one task for the writer. Who waits for
//! a job sleeps until the writer says that jobs changed, or until the next one becomes free.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::{Cause, Job, Lease, LeaseToken, QueueError, Settlement, Token, WorkQueue};

use super::writer::Writer;
use super::{steady, units};

mod tasks;

pub(super) use tasks::ForgetRecent;
use tasks::{Enqueue, Extend, Hasten, Settle, TakeJobs};

/// The largest payload of a job: 64 KiB.
pub(super) const MAX_PAYLOAD: usize = 64 << 10;

/// The queue of deliveries in the file.
#[derive(Debug)]
pub(super) struct EmbeddedQueue {
    writer: Writer,
    lease: Duration,
    /// The number of the next lease; begins with the time of opening, so that none is given out twice.
    next_token: AtomicI64,
}

impl EmbeddedQueue {
    pub(super) fn new(writer: Writer, lease: Duration) -> Self {
        Self {
            writer,
            lease,
            next_token: AtomicI64::new(units::now()),
        }
    }

    async fn take(&self, max: usize) -> Result<(Vec<Lease>, Option<i64>), QueueError> {
        let task = TakeJobs {
            max,
            lease: units::span(self.lease),
            token: self.next_token.fetch_add(1, Ordering::Relaxed),
            writer: self.writer.clone(),
        };
        let taken = self.writer.run(task).await.map_err(unavailable)?;
        let next = taken.next_free;
        Ok((taken.into_leases()?, next))
    }
}

#[async_trait]
impl WorkQueue for EmbeddedQueue {
    async fn enqueue(&self, jobs: Vec<(Job, Option<SystemTime>)>) -> Result<(), QueueError> {
        for (job, _) in &jobs {
            check_payload(&job.payload)?;
        }
        if jobs.is_empty() {
            return Ok(());
        }
        self.writer.run(Enqueue::new(&jobs)).await.map_err(unavailable)
    }

    async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Lease>, QueueError> {
        let mut freed = self.writer.freed_jobs();
        let deadline = Instant::now() + wait.min(Duration::from_hours(24));
        loop {
            freed.borrow_and_update();
            let (leases, next_free) = self.take(max).await?;
            if !leases.is_empty() || max == 0 || Instant::now() >= deadline {
                return Ok(leases);
            }
            let wake = next_free.map_or(deadline, |at| deadline.min(instant(at)));
            // Woken or not, what counts is what can be taken now; a closed engine says so there.
            timeout_at(wake, freed.changed()).await.ok();
        }
    }

    async fn extend(&self, lease: &Lease) -> Result<SystemTime, QueueError> {
        let task = Extend {
            id: lease.job.id.clone(),
            token: token(lease)?,
            lease: units::span(self.lease),
        };
        let until = self.writer.run(task).await.map_err(unavailable)?;
        until
            .map(steady::time_of_day)
            .ok_or_else(|| QueueError::LeaseLost(lease.job.id.clone()))
    }

    async fn settle(&self, lease: &Lease, settlement: Settlement) -> Result<(), QueueError> {
        match &settlement {
            Settlement::Again { payload, .. } | Settlement::Dead { payload } => check_payload(payload)?,
            Settlement::Done => {}
        }
        let task = Settle {
            id: lease.job.id.clone(),
            token: token(lease)?,
            settlement,
        };
        if self.writer.run(task).await.map_err(unavailable)? {
            Ok(())
        } else {
            Err(QueueError::LeaseLost(lease.job.id.clone()))
        }
    }

    async fn hasten(&self, tenant: &Token, lane: &Token, job: &Token) -> Result<bool, QueueError> {
        let task = Hasten {
            tenant: tenant.clone(),
            lane: lane.clone(),
            id: job.clone(),
        };
        self.writer.run(task).await.map_err(unavailable)
    }
}

/// A row of `jobs` or `dead_letters`: id, tenant, lane and payload.
pub(super) type JobColumns = (String, String, String, Vec<u8>);

/// The job in a row; a name that is no token means that something else has written to the file.
pub(super) fn job((id, tenant, lane, payload): JobColumns) -> Result<Job, QueueError> {
    let token = |text: String| Token::new(text).map_err(unavailable);
    Ok(Job {
        id: token(id)?,
        tenant: token(tenant)?,
        lane: token(lane)?,
        payload: Bytes::from(payload),
    })
}

pub(super) fn check_payload(payload: &Bytes) -> Result<(), QueueError> {
    let bytes = payload.len();
    if bytes > MAX_PAYLOAD {
        return Err(QueueError::TooLarge {
            bytes,
            limit: MAX_PAYLOAD,
        });
    }
    Ok(())
}

pub(super) fn unavailable(cause: impl Into<Cause>) -> QueueError {
    QueueError::Unavailable(cause.into())
}

/// The number in a lease's token. A token of another engine is no lease here.
fn token(lease: &Lease) -> Result<i64, QueueError> {
    lease
        .token
        .0
        .parse()
        .map_err(|_| QueueError::LeaseLost(lease.job.id.clone()))
}

fn lease_token(number: i64) -> LeaseToken {
    LeaseToken(number.to_string())
}

/// When a time of the queue's will be, by the clock that timers use; a little after, so that it has come then.
fn instant(at: i64) -> Instant {
    let wait = units::unsigned(at.saturating_sub(steady::now())).saturating_add(1_000);
    Instant::now() + Duration::from_micros(wait).min(Duration::from_hours(1))
}
