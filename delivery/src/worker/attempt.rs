//! One attempt, from the job to its settlement.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use broker::{Lease, Settlement};
use domain::endpoint::policy::RetryPolicy;
use domain::tenant::Standing;
use domain::{AttemptOutcome, DeliveryFact, ErrorClass, Next, Timestamp};

use super::Worker;
use super::judge::GONE;
use super::order::Go;
use super::prepare::{Hindrance, Receiver};
use crate::endpoints::Endpoint;
use crate::health::in_full;
use crate::lanes::{Place, SLOW, Verdict};
use crate::metrics::{self, InFlight};
use crate::post::{self, Tried};
use crate::work::Work;

/// When a job comes back that could not be tried because a part of Tidings was away.
pub(super) const AWAY_WAIT: Duration = Duration::from_secs(2);
/// What must be left of a lease besides the deadline of the POST when it begins.
const MARGIN: Duration = Duration::from_secs(5);

/// What an attempt brought, and when its message was published.
pub(super) struct Made {
    pub(super) tried: Tried,
    /// When it began.
    pub(super) started: SystemTime,
    /// Whether anything was sent.
    pub(super) sent: bool,
    hopeless: bool,
    published_at: Option<SystemTime>,
    /// When the endpoint wants it tried again.
    retry: RetryPolicy,
}

impl Worker {
    pub(super) async fn attempt(&self, lease: &Lease, work: &Work, to: &Receiver, place: Place, go: Go) {
        match self.make(lease, work, to, place).await {
            Ok(made) => self.conclude(lease, work, to, made, &go).await,
            // No attempt: nobody was asked, and it is no fault of the receiver.
            Err(Hindrance::Suspended(wait)) => self.later(lease, wait).await,
            Err(hindrance) => {
                let wait = self.surroundings(Some(&hindrance));
                self.later(lease, wait.max(AWAY_WAIT)).await;
            }
        }
    }

    /// Ends a delivery whose endpoint gets nothing any more: it has no reason to wait for its lane.
    pub(super) async fn is_in_vain(
        &self,
        lease: &Lease,
        work: &Work,
        to: &Receiver,
        endpoint: Option<&Endpoint>,
        go: &Go,
    ) -> bool {
        let terminated = matches!(self.endpoints.standing(&to.tenant), Standing::Terminated(_));
        if endpoint.is_some_and(|endpoint| endpoint.enabled) && !terminated {
            return false;
        }
        let started = SystemTime::now();
        let Err(Hindrance::Hopeless(why)) = self.prepare(work, to).await else {
            return false;
        };
        let made = untried(why.to_owned(), true, started);
        self.conclude(lease, work, to, made, go).await;
        true
    }

    /// Tries once. An error means that nothing was tried and nothing is to be recorded.
    async fn make(
        &self,
        lease: &Lease,
        work: &Work,
        to: &Receiver,
        mut place: Place,
    ) -> Result<Made, Hindrance> {
        let started = SystemTime::now();
        let prepared = match self.prepare(work, to).await {
            Ok(prepared) => prepared,
            Err(Hindrance::Failed(why)) => return Ok(untried(why, false, started)),
            Err(Hindrance::Hopeless(why)) => return Ok(untried(why.to_owned(), true, started)),
            Err(away) => return Err(away),
        };
        let timeout = post::timeout(&prepared.endpoint.settings.policy).unwrap_or(self.timeout);
        self.hold(lease, timeout).await?;
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let in_flight = InFlight::begin();
        place.begin();
        let url = prepared.endpoint.settings.url.as_url();
        let tried = tokio::select! {
            tried = lasting(self.poster.post(url, prepared.request), &mut place) => tried,
            never = self.lengthen(lease) => match never {},
        };
        // The receiver is free for the next; recording needs no place.
        place.end(verdict(&tried));
        drop(in_flight);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        metrics::attempted(&tried.outcome);
        Ok(Made {
            // Who says that it wants nothing any more need not be asked again.
            hopeless: tried.outcome.status == Some(GONE),
            tried,
            started,
            sent: true,
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

    pub(super) async fn conclude(&self, lease: &Lease, work: &Work, to: &Receiver, made: Made, go: &Go) {
        let (next, settlement) = self.what_next(work, &made);
        let delivered = next == Next::Delivered;
        let dead = next == Next::Dead;
        let fact = DeliveryFact::Attempted {
            attempt: work.attempt,
            outcome: made.tried.outcome.clone(),
            next: next.clone(),
        };
        let record = work.fact(&to.tenant, &to.endpoint, fact);
        if !self.record(lease, &record).await || !self.tell(lease, &record).await {
            return;
        }
        self.judge(work, to, &made).await;
        if !self.move_on(lease, work, to, go, &next).await {
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

/// Waits for a try, and tells its place when it lasts.
async fn lasting(post: impl Future<Output = Tried>, place: &mut Place) -> Tried {
    let mut post = pin!(post);
    if let Ok(tried) = tokio::time::timeout(SLOW, &mut post).await {
        return tried;
    }
    place.lasts();
    post.await
}

/// What a try says of its receiver.
fn verdict(tried: &Tried) -> Verdict {
    let asked = tried.retry_after;
    match (tried.outcome.error, tried.outcome.status) {
        (None, _) => Verdict::Arrived,
        (Some(ErrorClass::Timeout), _) | (Some(ErrorClass::Status), Some(429 | 502 | 503 | 504)) => {
            Verdict::TooMuch { asked }
        }
        (Some(ErrorClass::Status), Some(status)) if status != 408 && status < 500 => Verdict::Refused,
        // Nobody was asked.
        (Some(ErrorClass::Forbidden | ErrorClass::Gone), _) => Verdict::Untried,
        (Some(_), _) => Verdict::Failed,
    }
}

/// An attempt that failed before anything was sent.
pub(super) fn untried(why: String, hopeless: bool, started: SystemTime) -> Made {
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
        started,
        sent: false,
        hopeless,
        published_at: None,
        retry: RetryPolicy::default(),
    }
}
