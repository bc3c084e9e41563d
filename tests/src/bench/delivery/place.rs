//! The service that is measured, its tenant, its endpoints, and clients that publish to it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use broker::EventLog;
use broker::layout::Log;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::bench::wire::Wire;
use crate::http::Api;
use crate::service::{Engine, Tidings};

/// How many events one call publishes.
pub(super) const BULK: usize = 100;
/// How many connections publish beside each other.
const PUBLISHERS: usize = 4;
/// How long the delivery log may stand still before the measurement is given up.
const PATIENCE: Duration = Duration::from_mins(2);

/// A service with one tenant.
pub(super) struct Place {
    pub(super) tidings: Tidings,
    pub(super) key: String,
    api: Api,
}

impl Place {
    /// Starts the binary with these settings beside the roles.
    pub(super) async fn start(engine: Engine, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut all = vec![
            ("TIDINGS_ROLES", "gateway,delivery"),
            ("RUST_LOG", "warn,tidings=info"),
        ];
        // A later one of the same name counts.
        all.extend_from_slice(settings);
        let tidings = Tidings::start_with(engine, &all).await?;
        let tenant = json!({ "name": "Bench", "slug": "bench" });
        let tenant = tidings.admin()?.post("/v1/tenants", &tenant).await?.expect(201)?;
        let key = tenant["api_key"].as_str().context("the tenant's key")?.to_owned();
        let api = tidings.tenant(&key)?;
        Ok(Self { tidings, key, api })
    }

    /// Creates an endpoint with what else is to be said of it.
    pub(super) async fn endpoint(&self, url: &str, event_types: &[&str], more: Value) -> anyhow::Result<()> {
        let mut body = json!({ "url": url, "event_types": event_types });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        self.api.post("/v1/endpoints", &body).await?.expect(201)?;
        Ok(())
    }

    /// A connection that publishes.
    pub(super) async fn wire(&self) -> anyhow::Result<Wire> {
        Wire::connect(self.tidings.url(), &self.key).await
    }

    /// Publishes so many events of a type, in bulk, over several connections.
    pub(super) async fn publish(&self, event_type: &str, count: usize) -> anyhow::Result<()> {
        let mut calls = vec![bulk(&[event_type; BULK]); count / BULK];
        if !count.is_multiple_of(BULK) {
            calls.push(bulk(&vec![event_type; count % BULK]));
        }
        self.send(&calls).await
    }

    /// Publishes an event of each of these types, so many times.
    pub(super) async fn publish_each(&self, event_types: &[String], times: usize) -> anyhow::Result<()> {
        let calls: Vec<_> = event_types.chunks(BULK).map(bulk).collect();
        self.send(&vec![calls; times].concat()).await
    }

    async fn send(&self, calls: &[Vec<u8>]) -> anyhow::Result<()> {
        let share = async |first: usize| -> anyhow::Result<()> {
            let mut wire = self.wire().await?;
            for body in calls.iter().skip(first).step_by(PUBLISHERS) {
                wire.send("POST", "/v1/events/bulk", body, 202).await?;
            }
            Ok(())
        };
        futures::future::try_join_all((0..PUBLISHERS).map(share)).await?;
        Ok(())
    }

    /// The delivery log, read beside the service: on the cluster engine only.
    pub(super) async fn attempts(&self) -> anyhow::Result<Attempts> {
        let engine = self.tidings.engine().await?;
        let log = engine.log(Log::Attempts);
        Ok(Attempts { _engine: engine, log })
    }
}

/// The body of a bulk call that publishes one small event of each of these types.
pub(super) fn bulk(event_types: &[impl AsRef<str>]) -> Vec<u8> {
    let events: Vec<String> = event_types
        .iter()
        .map(|event_type| event(event_type.as_ref()))
        .collect();
    format!(r#"{{"events":[{}]}}"#, events.join(",")).into_bytes()
}

/// A small event.
pub(super) fn event(event_type: &str) -> String {
    format!(
        r#"{{"type":"{event_type}","data":{{"invoice":"in_2041","customer":"cus_77","amount":1250,"currency":"EUR","paid_at":"2026-11-20T18:45:58Z"}}}}"#
    )
}

/// The delivery log of a running service.
pub(super) struct Attempts {
    _engine: Box<dyn broker::Engine>,
    log: Arc<dyn EventLog>,
}

impl Attempts {
    /// Its last record's number.
    pub(super) async fn last(&self) -> anyhow::Result<u64> {
        Ok(self.log.state().await?.last)
    }

    /// Waits until it has this many records; answers when that was seen.
    pub(super) async fn reach(&self, sequence: u64) -> anyhow::Result<Instant> {
        let (mut before, mut moved) = (self.last().await?, Instant::now());
        loop {
            let last = self.last().await?;
            if last >= sequence {
                return Ok(Instant::now());
            }
            if last > before {
                (before, moved) = (last, Instant::now());
            }
            ensure!(
                moved.elapsed() < PATIENCE,
                "the delivery log stands still at {last}, before {sequence}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
