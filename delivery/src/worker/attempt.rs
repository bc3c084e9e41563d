//! One attempt, from the job to its settlement.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use broker::{Lease, Settlement};
use domain::endpoint::policy::RetryPolicy;
use domain::{AttemptOutcome, DeliveryFact, ErrorClass, Next, Timestamp};
use tokio::sync::SemaphorePermit;

use super::Worker;
use super::prepare::{Hindrance, Receiver};
use crate::health::in_full;
use crate::lanes::Place;
use crate::metrics::{self, InFlight};
use crate::post::{self, Tried};
use crate::work::Work;

/// When a job comes back that could not be tried because a part of Tidings was away.
const AWAY_WAIT: Duration = Duration::from_secs(2);
/// When a job comes back that found every try of this process taken for as long as its lease allowed.
const BUSY_WAIT: Duration = Duration::from_secs(1);
/// The least time it waits for one.
const BUSY_PATIENCE: Duration = Duration::from_millis(100);
/// What must be left of a lease besides the deadline of the POST when it begins.
const MARGIN: Duration = Duration::from_secs(5);

/// What an attempt brought, and when its message was published.
struct Made {
    tried: Tried,
    hopeless: bool,
    published_at: Option<SystemTime>,
    /// What the endpoint says of waits.
    retry: RetryPolicy,
}

impl Worker {
    pub(super) async fn attempt(&self, lease: Lease, place: Place) {
        let (work, to) = match (Work::decode(&lease.job.payload), Receiver::of(&lease)) {
            (Ok(work), Ok(to)) => (work, to),
            (work, _) => {
                let error = work.err().map(|error| in_full(&error)).unwrap_or_default();
                tracing::error!(job = %lease.job.id, error, "A job cannot be read and becomes a dead letter.");
                let payload = lease.job.payload.clone();
                self.settle(&lease, Settlement::Dead { payload }).await;
                return;
            }
        };
        let Some(permit) = self.take_try(&lease).await else {
            metrics::tries_taken();
            self.later(&lease, BUSY_WAIT).await;
            return;
        };
        let made = self.make(&lease, &work, &to, place).await;
        // Recording takes no try.
        drop(permit);
        match made {
            Ok(made) => self.conclude(&lease, &work, &to, made).await,
            // No attempt: nobody was asked, and it is no fault of the receiver.
            Err(Hindrance::Suspended(wait)) => self.later(&lease, wait).await,
            Err(hindrance) => {
                let wait = self.surroundings(Some(&hindrance));
                self.later(&lease, wait.max(AWAY_WAIT)).await;
            }
        }
    }

    /// One of this process's tries, unless all are taken for so long that the lease would end under the POST. Slow
    /// receivers can do that: it is no trouble of ours, and another process may have a try free.
    async fn take_try(&self, lease: &Lease) -> Option<SemaphorePermit<'_>> {
        let left = lease.expires.duration_since(SystemTime::now());
        let patience = left.unwrap_or_default().saturating_sub(self.timeout + MARGIN);
        let taken = tokio::time::timeout(patience.max(BUSY_PATIENCE), self.tries.acquire()).await;
        taken.ok()?.ok()
    }

    /// Tries once. An error means that nothing was tried and nothing is to be recorded.
    async fn make(
        &self,
        lease: &Lease,
        work: &Work,
        to: &Receiver,
        mut place: Place,
    ) -> Result<Made, Hindrance> {
        let prepared = match self.prepare(work, to).await {
            Ok(prepared) => prepared,
            Err(Hindrance::Failed(why)) => return Ok(untried(why, false)),
            Err(Hindrance::Hopeless(why)) => return Ok(untried(why.to_owned(), true)),
            Err(away) => return Err(away),
        };
        let timeout = post::timeout(&prepared.endpoint.settings.policy).unwrap_or(self.timeout);
        self.hold(lease, timeout).await?;
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let in_flight = InFlight::begin();
        place.begin();
        let url = prepared.endpoint.settings.url.as_url();
        let tried = tokio::select! {
            tried = self.poster.post(url, prepared.request) => tried,
            never = self.lengthen(lease) => match never {},
        };
        // The receiver is free for the next; recording needs no place.
        drop((in_flight, place));
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        metrics::attempted(&tried.outcome);
        Ok(Made {
            tried,
            hopeless: false,
            published_at: Some(prepared.published_at),
            retry: prepared.endpoint.settings.policy.retry.clone(),
        })
    }

    /// Makes sure that the lease outlives the POST, or another worker would send the same beside this one.
    async fn hold(&self, lease: &Lease, timeout: Duration) -> Result<(), Hindrance> {
        let left = lease
            .expires
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        if left < timeout + MARGIN {
            let extended = self.queue.extend(lease).await;
            extended.map_err(|cause| Hindrance::Away {
                what: "the lease",
                cause: cause.into(),
            })?;
        }
        Ok(())
    }

    /// Starts the lease's time anew, over and over, for tries that may take longer than one lease.
    async fn lengthen(&self, lease: &Lease) -> Infallible {
        let third = self.engine.layout().lease / 3;
        loop {
            tokio::time::sleep(third).await;
            if let Err(error) = self.queue.extend(lease).await {
                tracing::debug!(job = %lease.job.id, error = %in_full(&error), "A lease could not be lengthened.");
            }
        }
    }

    async fn conclude(&self, lease: &Lease, work: &Work, to: &Receiver, made: Made) {
        let (next, settlement) = self.what_next(work, &made);
        let delivered = next == Next::Delivered;
        let dead = next == Next::Dead;
        let fact = DeliveryFact::Attempted {
            attempt: work.attempt,
            outcome: made.tried.outcome,
            next,
        };
        let record = work.fact(&to.tenant, &to.endpoint, fact);
        if !self.record(lease, &record).await || !self.tell(lease, &record).await {
            return;
        }
        self.settle(lease, settlement).await;
        if dead {
            metrics::dead();
            tracing::info!(delivery = %work.delivery, tenant.id = %to.tenant, "A delivery became a dead letter.");
        }
        if let Some(published_at) = made.published_at.filter(|_| delivered && work.run == 1) {
            metrics::delivered(SystemTime::now().duration_since(published_at).unwrap_or_default());
        }
    }

    fn what_next(&self, work: &Work, made: &Made) -> (Next, Settlement) {
        if made.tried.outcome.error.is_none() {
            return (Next::Delivered, Settlement::Done);
        }
        let wait = self
            .schedule
            .next(&made.retry, work.attempt, made.tried.retry_after);
        let Some(wait) = wait.filter(|_| !made.hopeless) else {
            let dead = Work {
                last_error: made.tried.outcome.error,
                ..work.clone()
            };
            let payload = dead.encode();
            return (Next::Dead, Settlement::Dead { payload });
        };
        let due = SystemTime::now() + wait;
        let next = Next::Again {
            due: Timestamp::from(due),
        };
        let again = Work {
            attempt: work.attempt + 1,
            ..work.clone()
        };
        let payload = again.encode();
        (next, Settlement::Again { due, payload })
    }
}

/// An attempt that failed before anything was sent.
fn untried(why: String, hopeless: bool) -> Made {
    let outcome = AttemptOutcome {
        status: None,
        error: Some(ErrorClass::Gone),
        detail: Some(why),
        response_body: None,
        duration_ms: 0,
        ..AttemptOutcome::default()
    };
    metrics::attempted(&outcome);
    Made {
        tried: Tried {
            outcome,
            retry_after: None,
        },
        hopeless,
        published_at: None,
        retry: RetryPolicy::default(),
    }
}
