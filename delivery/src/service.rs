//! Delivery as a running part of a process: its tasks, their start and their end.

use std::sync::Arc;
use std::time::Duration;

use broker::Engine;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::endpoints::Endpoints;
use crate::facts::Facts;
use crate::health::Health;
use crate::matcher::Matcher;
use crate::post::Poster;
use crate::recovery::Recoveries;
use crate::requests::Requests;
use crate::worker::Worker;
use crate::{EndpointControl, RecoveryControl, Settings};

/// What must be left of a lease when a try reaches its deadline: time to record and settle.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// Why delivery can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A try could outlive its lease.
    #[error(
        "the delivery timeout of {timeout:?} is too long: with 5 s to spare it must fit into the queue's lease of {lease:?}"
    )]
    TimeoutTooLong {
        /// The deadline set.
        timeout: Duration,
        /// The lease of the engine's layout.
        lease: Duration,
    },
    /// A number that must be at least 1 is 0.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// The HTTP client could not be made: most likely the machine has no CA certificates.
    #[error("the HTTP client cannot be made; are CA certificates (package ca-certificates) installed?")]
    HttpClient(#[source] reqwest::Error),
}

/// How delivery is doing in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Endpoints in the index.
    pub endpoints: usize,
    /// HTTP tries under way.
    pub in_flight: usize,
    /// Each part that is held up, with what is wrong; empty when all is well.
    pub troubles: Vec<String>,
}

/// Running delivery: a matcher and the followers of what is asked per shard, and the workers.
#[derive(Debug)]
pub struct Delivery {
    endpoints: Arc<Endpoints>,
    facts: Arc<Facts>,
    worker: Arc<Worker>,
    health: Arc<Health>,
    tasks: TaskTracker,
    /// The index outlives everything that asks it.
    index_tasks: TaskTracker,
    index_stop: CancellationToken,
    patience: Duration,
}

impl Delivery {
    /// Starts it on the current Tokio runtime. It runs until `stop` is cancelled; then [`Delivery::join`].
    ///
    /// Brokers that are away are waited for, not an error; see [`Delivery::status`].
    pub fn start(
        settings: &Settings,
        engine: &Arc<dyn Engine>,
        recoveries: &Arc<dyn RecoveryControl>,
        control: &Arc<dyn EndpointControl>,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let lease = engine.layout().lease;
        check(settings, lease)?;
        let poster = Poster::new(settings.egress.clone(), settings.timeout, &settings.user_agent)
            .map_err(StartError::HttpClient)?;
        let health = Arc::new(Health::default());
        let endpoints = Arc::new(Endpoints::new(engine.as_ref()));
        let facts = Arc::new(Facts::new(engine.as_ref(), endpoints.clone()));
        let worker = Arc::new(Worker::new(
            settings,
            engine.clone(),
            endpoints.clone(),
            facts.clone(),
            poster,
            control.clone(),
            health.clone(),
        ));
        let delivery = Self {
            endpoints,
            facts,
            worker,
            health,
            tasks: TaskTracker::new(),
            index_tasks: TaskTracker::new(),
            index_stop: CancellationToken::new(),
            patience: lease + LEASE_MARGIN,
        };
        delivery.spawn(engine.as_ref(), recoveries, stop);
        Ok(delivery)
    }

    fn spawn(&self, engine: &dyn Engine, recoveries: &Arc<dyn RecoveryControl>, stop: &CancellationToken) {
        for shard in 0..engine.layout().shards {
            let (health, endpoints) = (self.health.clone(), self.endpoints.clone());
            let index = endpoints
                .clone()
                .run(shard, self.index_stop.clone(), health.clone());
            self.index_tasks.spawn(index);
            let matcher = Matcher::new(engine, shard, endpoints.clone());
            self.tasks.spawn(matcher.run(stop.clone(), health.clone()));
            let requests = Requests::new(engine, shard, self.facts.clone());
            self.tasks.spawn(requests.run(stop.clone(), health.clone()));
            let recoveries =
                Recoveries::new(engine, shard, endpoints, self.facts.clone(), recoveries.clone());
            self.tasks.spawn(recoveries.run(stop.clone(), health));
        }
        let worker = self.worker.clone().run(stop.clone(), self.tasks.clone());
        self.tasks.spawn(worker);
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        Status {
            endpoints: self.endpoints.len(),
            in_flight: self.worker.in_flight(),
            troubles: self.health.troubles(),
        }
    }

    /// After the stop: waits until tries under way have ended and are recorded. What could not be recorded within
    /// the length of a lease is left for the queue to hand out again.
    pub async fn join(&self) {
        self.tasks.close();
        if tokio::time::timeout(self.patience, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                tasks = self.tasks.len(),
                "Delivery did not end in time; what it held will be handed out again."
            );
        }
        self.index_stop.cancel();
        self.index_tasks.close();
        self.index_tasks.wait().await;
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.index_stop.cancel();
    }
}

fn check(settings: &Settings, lease: Duration) -> Result<(), StartError> {
    let timeout = settings.timeout;
    if timeout + LEASE_MARGIN > lease {
        return Err(StartError::TimeoutTooLong { timeout, lease });
    }
    let numbers = [
        ("the delivery concurrency", settings.concurrency),
        (
            "the delivery concurrency of slow tries",
            settings.slow_concurrency,
        ),
        (
            "the number of tries in flight for one endpoint",
            settings.lanes.in_flight as usize,
        ),
    ];
    match numbers.into_iter().find(|(_, number)| *number == 0) {
        Some((name, _)) => Err(StartError::Zero(name)),
        None => Ok(()),
    }
}
