//! An installation on the embedded engine, as the other parts of Tidings would leave it: endpoints and messages in
//! its logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use broker::embedded::Embedded;
use broker::layout::{Bucket, Layout, Log};
use broker::{Cause, Engine, Expect, NewRecord, Subject};
use delivery::{
    Delivery, EgressPolicy, EndpointControl, MasterKey, RecoveryControl, Secret, SecretWriter, Settings,
    StartError,
};
use domain::endpoint::{Automatic, EndpointEvent, EndpointSettings};
use domain::recovery::RecoveryCommand;
use domain::{
    Actor, Commit, DeliveryFact, DeliveryId, DeliveryRecord, EndpointId, EventId, Message, Meta, RecoveryId,
    SecretId, TenantId, Timestamp, encode_event,
};
use std::time::SystemTime;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::outage::Outage;

/// An endpoint and the secret its receiver knows.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) secret: String,
}

#[derive(Debug)]
pub(crate) struct Installation {
    folder: TempDir,
    engine: Arc<dyn Engine>,
    master_key: MasterKey,
    tenant: TenantId,
    drawn: AtomicU64,
}

/// Delivery at work on an installation.
#[derive(Debug)]
pub(crate) struct Running {
    delivery: Delivery,
    stop: CancellationToken,
}

impl Running {
    pub(crate) fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.delivery.join().await;
    }
}

/// Decides nothing about endpoints.
#[derive(Debug)]
struct Undecided;

#[async_trait]
impl EndpointControl for Undecided {
    async fn disable(&self, _: &TenantId, _: &EndpointId, _: Automatic) -> Result<(), Cause> {
        Ok(())
    }
}

fn undecided() -> Arc<dyn EndpointControl> {
    Arc::new(Undecided)
}

async fn open(folder: &TempDir) -> Arc<dyn Engine> {
    let layout = Layout {
        lease: Duration::from_secs(7),
        ..Layout::default()
    };
    Arc::new(Embedded::open(folder.path(), layout).await.unwrap())
}

impl Installation {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            engine: open(&folder).await,
            folder,
            master_key: MasterKey::generate(),
            tenant: TenantId::new(Ulid(1)),
            drawn: AtomicU64::new(100),
        }
    }

    /// Everything is closed and opened again, as by a restart of the process.
    pub(crate) async fn reopen(&mut self) {
        self.engine.close().await;
        self.engine = open(&self.folder).await;
    }

    fn draw(&self) -> Ulid {
        Ulid(self.drawn.fetch_add(1, Ordering::Relaxed).into())
    }

    /// Settings for tests: receivers on this machine, a short deadline.
    pub(crate) fn settings(&self, schedule: &str) -> Settings {
        Settings {
            schedule: schedule.parse().unwrap(),
            egress: EgressPolicy::public().with_loopback(),
            timeout: Duration::from_millis(1_500),
            ..Settings::new(self.master_key.clone())
        }
    }

    pub(crate) fn start(&self, schedule: &str) -> Running {
        self.start_with(&self.settings(schedule))
    }

    pub(crate) fn start_with(&self, settings: &Settings) -> Running {
        self.try_start(settings).unwrap()
    }

    /// Delivery that can't record attempts while `down`.
    pub(crate) fn start_with_outage(&self, schedule: &str, down: Arc<AtomicBool>) -> Running {
        let engine: Arc<dyn Engine> = Arc::new(Outage {
            engine: self.engine.clone(),
            down,
        });
        let stop = CancellationToken::new();
        let delivery =
            Delivery::start(&self.settings(schedule), &engine, &nobody(), &undecided(), &stop).unwrap();
        Running { delivery, stop }
    }

    pub(crate) fn try_start(&self, settings: &Settings) -> Result<Running, StartError> {
        let stop = CancellationToken::new();
        let delivery = Delivery::start(settings, &self.engine, &nobody(), &undecided(), &stop)?;
        Ok(Running { delivery, stop })
    }

    pub(crate) async fn create_endpoint(&self, url: &str, event_types: &[&str]) -> Endpoint {
        let id = EndpointId::new(self.draw());
        let bucket = self.engine.bucket(Bucket::EndpointSecrets);
        let writer = SecretWriter::new(bucket, self.master_key.clone());
        let drawn = Secret::generate();
        writer.keep(&self.tenant, &id, None, &drawn).await.unwrap();
        let secret = drawn.reveal().to_string();
        let settings: EndpointSettings = serde_json::from_value(serde_json::json!({
            "url": url, "event_types": event_types, "description": null
        }))
        .unwrap();
        self.say(&id, &EndpointEvent::Created { settings }).await;
        Endpoint { id, secret }
    }

    /// Gives an endpoint another secret; the one before signs too until a time.
    pub(crate) async fn rotate(&self, endpoint: &Endpoint, previous_valid_until: Timestamp) -> Endpoint {
        let (name, drawn) = (SecretId::new(self.draw()), Secret::generate());
        let writer = SecretWriter::new(
            self.engine.bucket(Bucket::EndpointSecrets),
            self.master_key.clone(),
        );
        writer
            .keep(&self.tenant, &endpoint.id, Some(&name), &drawn)
            .await
            .unwrap();
        let rotated = EndpointEvent::SecretRotated {
            secret: name,
            previous_valid_until,
        };
        self.say(&endpoint.id, &rotated).await;
        Endpoint {
            id: endpoint.id.clone(),
            secret: drawn.reveal().to_string(),
        }
    }

    /// Erases the secret an endpoint was created with.
    pub(crate) async fn erase_first_secret(&self, endpoint: &Endpoint) {
        let writer = SecretWriter::new(
            self.engine.bucket(Bucket::EndpointSecrets),
            self.master_key.clone(),
        );
        writer.erase(&self.tenant, &endpoint.id, None).await.unwrap();
    }

    /// Appends an event of an endpoint to the log of events.
    pub(crate) async fn say(&self, endpoint: &EndpointId, event: &EndpointEvent) {
        let command_id = self.draw().to_string();
        let commit = Commit {
            v: Commit::VERSION,
            tenant: self.tenant.clone(),
            aggregate: "endpoint".into(),
            id: endpoint.to_string(),
            first_version: 1,
            events: vec![encode_event(event).unwrap()],
            meta: Meta {
                command_id: command_id.clone(),
                command: "Test".into(),
                actor: Actor::PlatformAdmin,
                request_id: None,
                origin: None,
                correlation_id: None,
                causation_id: None,
                traceparent: None,
                at: Timestamp::from(SystemTime::now()),
            },
            prev: None,
        };
        let subject = Commit::subject(&self.tenant, "endpoint", endpoint.as_str());
        self.append(Log::Events(0), subject, &command_id, commit.encode())
            .await;
    }

    pub(crate) async fn publish(&self, event_type: &str, data: &str) -> EventId {
        let id = EventId::new(self.draw());
        self.publish_as(&id, event_type, data).await;
        id
    }

    /// Publishes under an id, used before or not, as a log does that has forgotten what it stored.
    pub(crate) async fn publish_as(&self, id: &EventId, event_type: &str, data: &str) {
        self.publish_for(None, id, event_type, data).await;
    }

    /// Publishes for one endpoint only, if one is given.
    pub(crate) async fn publish_for(
        &self,
        only_for: Option<&Endpoint>,
        id: &EventId,
        event_type: &str,
        data: &str,
    ) {
        let message = Message {
            only_for: only_for.map(|endpoint| endpoint.id.clone()),
            v: Message::VERSION,
            tenant: self.tenant.clone(),
            id: id.clone(),
            event_type: event_type.parse().unwrap(),
            data: data.as_bytes().to_vec(),
            published_at: Timestamp::from(SystemTime::now()),
            actor: Actor::PlatformAdmin,
            request_id: None,
            correlation_id: None,
            causation_id: None,
            traceparent: None,
        };
        let subject = Message::subject(&self.tenant, &message.event_type);
        let record_id = self.draw().to_string();
        self.append(Log::Messages(0), subject, &record_id, message.encode())
            .await;
    }

    /// Sets a cursor of delivery, as `matcher.MESSAGES-0`.
    pub(crate) async fn set_cursor(&self, key: &str, at: u64) {
        let (bucket, key) = (self.engine.bucket(Bucket::Cursors), Subject::new(key).unwrap());
        let at = at.to_string().into();
        bucket.put(&key, at, Expect::Anything, None).await.unwrap();
    }

    async fn append(&self, log: Log, subject: String, id: &str, payload: Vec<u8>) {
        let record = NewRecord {
            subject: Subject::new(subject).unwrap(),
            message_id: format!("{}:{id}", self.tenant),
            expect: None,
            payload: payload.into(),
        };
        self.engine.log(log).append(vec![record]).await.unwrap();
    }

    pub(crate) fn delivery_id(&self, message: &EventId, endpoint: &Endpoint) -> DeliveryId {
        DeliveryId::derive(&self.tenant, message, &endpoint.id)
    }

    /// The delivery log's facts about a delivery, in order.
    pub(crate) async fn facts(&self, delivery: &DeliveryId) -> Vec<DeliveryRecord> {
        let records = self
            .engine
            .log(Log::Attempts)
            .read(0, None, 10_000)
            .await
            .unwrap();
        let records = records
            .iter()
            .map(|record| DeliveryRecord::decode(&record.payload).unwrap());
        records.filter(|record| record.delivery == *delivery).collect()
    }

    /// Waits until the last fact about a delivery is such a one; answers all of them.
    pub(crate) async fn wait(
        &self,
        delivery: &DeliveryId,
        last: impl Fn(&DeliveryFact) -> bool,
    ) -> Vec<DeliveryRecord> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let facts = self.facts(delivery).await;
            if facts.last().is_some_and(|record| last(&record.fact)) {
                return facts;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "it never came; there is {facts:#?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// No recovery is asked for in these tests, so nobody is told of one.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl RecoveryControl for Nobody {
    async fn tell(&self, _: &TenantId, recovery: &RecoveryId, command: RecoveryCommand) -> Result<(), Cause> {
        Err(format!("{recovery} was told {command:?}").into())
    }
}

fn nobody() -> Arc<dyn RecoveryControl> {
    Arc::new(Nobody)
}
