//! Workers: lease due jobs, make one attempt each, record it, settle the lease.
//!
//! The order is what makes it safe: an attempt is recorded before its job is settled, and a job that is not
//! settled comes back. A crash between the POST and the record repeats the POST under the same `webhook-id`.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use broker::layout::{Bucket, Log};
use broker::{Engine, EventLog, Lease, Settlement, WorkQueue};
use domain::TenantId;
use domain::tenant::Standing;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::endpoints::Endpoints;
use crate::facts::Facts;
use crate::failing::Failing;
use crate::health::{Episode, Health, in_full, pause};
use crate::held::Held;
use crate::lanes::{Away, Entrant, LaneRules, Lanes};
use crate::ordering::Orders;
use crate::post::Poster;
use crate::work::Work;
use crate::{EndpointControl, Schedule, SecretReader, Settings, metrics};

mod attempt;
mod judge;
mod order;
mod prepare;
mod record;
mod tell;

use order::Go;
use prepare::Receiver;

/// The longest a lease call waits: how long a stop can take to be noticed.
const WAIT: Duration = Duration::from_secs(1);
/// For each quick try under way, how many jobs may be in hand, most of them standing before their lanes.
const IN_HAND: usize = 16;
/// The most jobs taken at once.
const AT_ONCE: usize = 64;

/// The tenant is suspended: come again after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Suspended(Duration);

/// Makes attempts, many at once.
#[derive(Debug)]
pub(crate) struct Worker {
    engine: Arc<dyn Engine>,
    queue: Arc<dyn WorkQueue>,
    attempts: Arc<dyn EventLog>,
    endpoints: Arc<Endpoints>,
    facts: Arc<Facts>,
    secrets: SecretReader,
    poster: Poster,
    schedule: Schedule,
    timeout: Duration,
    lanes: Arc<Lanes>,
    rules: LaneRules,
    ordering: Orders,
    failing: Failing,
    disable_after: Option<Duration>,
    control: Arc<dyn EndpointControl>,
    held: Held,
    hands: Arc<Semaphore>,
    in_flight: AtomicUsize,
    health: Arc<Health>,
    /// What attempts need besides the receiver: logs, secrets, the index.
    surroundings: Mutex<Episode>,
}

impl Worker {
    pub(crate) fn new(
        settings: &Settings,
        engine: Arc<dyn Engine>,
        endpoints: Arc<Endpoints>,
        facts: Arc<Facts>,
        poster: Poster,
        control: Arc<dyn EndpointControl>,
        health: Arc<Health>,
    ) -> Self {
        let bucket = engine.bucket(Bucket::EndpointSecrets);
        let hands = settings.concurrency * IN_HAND + settings.slow_concurrency;
        Self {
            queue: engine.queue(),
            attempts: engine.log(Log::Attempts),
            endpoints,
            facts,
            secrets: SecretReader::new(bucket, settings.master_key.clone()),
            poster,
            schedule: settings.schedule.clone(),
            timeout: settings.timeout,
            lanes: Lanes::new(settings.concurrency, settings.slow_concurrency),
            rules: settings.lanes,
            ordering: Orders::new(engine.as_ref()),
            failing: Failing::new(engine.bucket(Bucket::Deliveries)),
            disable_after: settings.disable_after,
            control,
            held: Held::default(),
            hands: Arc::new(Semaphore::new(hands)),
            in_flight: AtomicUsize::new(0),
            surroundings: Mutex::new(Episode::new("worker: attempts", health.clone())),
            health,
            engine,
        }
    }

    /// HTTP tries under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Leases jobs until told to stop; those in hand go on in tasks of the tracker.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken, tracker: TaskTracker) {
        let mut episode = Episode::new("worker: leases", self.health.clone());
        // Before that a suspended tenant's job could be taken for an active one's.
        while let Some(Err(error)) = stop.run_until_cancelled(self.endpoints.standings_known()).await {
            if !pause(episode.failed(&error), &stop).await {
                return;
            }
        }
        while let Some(hands) = stop.run_until_cancelled(self.free_hands()).await {
            // Not dropped at a stop: jobs that were leased meanwhile would wait for their lease to end.
            match self.queue.lease(hands.len(), WAIT).await {
                Ok(leases) => {
                    episode.recovered();
                    for (lease, hand) in leases.into_iter().zip(hands) {
                        tracker.spawn(self.clone().work(lease, hand));
                    }
                }
                Err(error) => {
                    drop(hands);
                    if !pause(episode.failed(&error), &stop).await {
                        return;
                    }
                }
            }
        }
    }

    /// At least one free hand, and as many more as there are, up to a bound.
    async fn free_hands(&self) -> Vec<OwnedSemaphorePermit> {
        // Nobody closes the semaphore: the first wait ends with a permit.
        let first = self.hands.clone().acquire_owned().await.ok();
        let more = std::iter::from_fn(|| self.hands.clone().try_acquire_owned().ok());
        first.into_iter().chain(more).take(AT_ONCE).collect()
    }

    async fn work(self: Arc<Self>, lease: Lease, _hand: OwnedSemaphorePermit) {
        let Some((work, to)) = self.read(&lease).await else {
            return;
        };
        if let Err(suspended) = self.admit(&to.tenant) {
            self.later(&lease, suspended.0).await;
            return;
        }
        let shard = work.message.position.shard;
        let endpoint = self.endpoints.get(shard, &to.tenant, &to.endpoint);
        let Some(go) = self.go(&lease, &work, &to, endpoint.as_deref()).await else {
            return;
        };
        if let Go::Parked(_) = go {
            self.park(&lease, &work, &to, &go).await;
            return;
        }
        if self
            .is_in_vain(&lease, &work, &to, endpoint.as_deref(), &go)
            .await
        {
            return;
        }
        let rules = endpoint.map(|endpoint| self.rules.for_endpoint(&endpoint.settings.policy));
        let entrant = Entrant {
            tenant: &lease.job.tenant,
            lane: &lease.job.lane,
            rules: rules.unwrap_or(self.rules),
            retry: work.attempt > 1,
        };
        match self.lanes.enter(entrant).await {
            Ok(place) => self.attempt(&lease, &work, &to, place, go).await,
            Err(Away { wait, why }) => {
                metrics::sent_away(why.as_str());
                self.later(&lease, wait).await;
            }
        }
    }

    /// What a job says, and who it is for. One that cannot be read becomes a dead letter.
    async fn read(&self, lease: &Lease) -> Option<(Work, Receiver)> {
        let error = match (Work::decode(&lease.job.payload), Receiver::of(lease)) {
            (Ok(work), Ok(to)) => return Some((work, to)),
            (Err(error), _) => in_full(&error),
            (_, Err(error)) => in_full(&error),
        };
        tracing::error!(job = %lease.job.id, error, "A job cannot be read and becomes a dead letter.");
        let payload = lease.job.payload.clone();
        self.settle(lease, Settlement::Dead { payload }).await;
        None
    }

    /// Whether a tenant's deliveries may go on just now.
    fn admit(&self, tenant: &TenantId) -> Result<(), Suspended> {
        if !matches!(self.endpoints.standing(tenant), Standing::Suspended(_)) {
            return Ok(());
        }
        metrics::tenant_suspended();
        Err(Suspended(self.held.wait(tenant)))
    }

    /// Notes whether what attempts need is there; answers how long to wait if it is not.
    fn surroundings(&self, error: Option<&(dyn Error + 'static)>) -> Duration {
        let mut episode = self.surroundings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error {
            return episode.failed(error);
        }
        episode.recovered();
        Duration::ZERO
    }

    /// Gives a job back as it is, to come again after a while.
    async fn later(&self, lease: &Lease, wait: Duration) {
        let again = Settlement::Again {
            due: SystemTime::now() + wait,
            payload: lease.job.payload.clone(),
        };
        self.settle(lease, again).await;
    }
}
