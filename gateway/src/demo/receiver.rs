//! The demo's receiver: what a customer would run to get the webhooks.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde::Deserialize;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::cli::Failure;

/// A webhook that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// Its `webhook-id`.
    pub(crate) id: String,
    /// Its event type.
    pub(crate) event_type: String,
    /// The body's length in bytes.
    pub(crate) bytes: usize,
    /// Whether its signature verified.
    pub(crate) verified: bool,
    /// When its last byte was there.
    pub(crate) at: Instant,
}

/// A receiver on a free loopback port.
pub(crate) struct Receiver {
    url: String,
    webhook: Arc<OnceLock<Webhook>>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
}

#[derive(Clone)]
struct Shared {
    webhook: Arc<OnceLock<Webhook>>,
    arrivals: mpsc::UnboundedSender<Arrival>,
}

impl Receiver {
    /// Listens until the process ends.
    pub(crate) async fn start() -> Result<Self, Failure> {
        let failure = |error: std::io::Error| {
            Failure::new(
                format!("the receiver cannot listen: {error}"),
                "free a port on 127.0.0.1",
            )
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failure)?;
        let url = format!("http://{}/webhooks", listener.local_addr().map_err(failure)?);
        let (sender, arrivals) = mpsc::unbounded_channel();
        let webhook = Arc::new(OnceLock::new());
        let shared = Shared {
            webhook: webhook.clone(),
            arrivals: sender,
        };
        let router = axum::Router::new()
            .route("/webhooks", post(receive))
            .layer(DefaultBodyLimit::max(16 << 20))
            .with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            url,
            webhook,
            arrivals,
        })
    }

    /// Where it receives.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The secret that `POST /v1/endpoints` showed.
    pub(crate) fn verify_with(&self, secret: &str) -> Result<(), Failure> {
        let webhook = Webhook::new(secret).map_err(|error| {
            Failure::new(
                format!("the endpoint's secret is not one: {error}"),
                "report this as a bug",
            )
        })?;
        // Set once, right after the only endpoint was created.
        self.webhook.set(webhook).ok();
        Ok(())
    }

    /// Waits for webhooks until `count` different ones are there or none has come for so long; shows each to `see`
    /// with its number.
    pub(crate) async fn collect(
        &mut self,
        count: usize,
        patience: Duration,
        mut see: impl FnMut(usize, &Arrival),
    ) -> Vec<Arrival> {
        let mut ids = std::collections::HashSet::new();
        let mut arrivals = Vec::with_capacity(count);
        while ids.len() < count {
            let Ok(Some(arrival)) = tokio::time::timeout(patience, self.arrivals.recv()).await else {
                break;
            };
            ids.insert(arrival.id.clone());
            see(ids.len(), &arrival);
            arrivals.push(arrival);
        }
        arrivals
    }
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    event_type: String,
}

async fn receive(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let at = Instant::now();
    let verified = shared
        .webhook
        .get()
        .is_some_and(|webhook| webhook.verify(&body, &headers).is_ok());
    let id = headers
        .get("webhook-id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let event_type = serde_json::from_slice::<Payload>(&body)
        .map(|payload| payload.event_type)
        .unwrap_or_default();
    let arrival = Arrival {
        id,
        event_type,
        bytes: body.len(),
        verified,
        at,
    };
    // The demo is over when nobody listens any more.
    shared.arrivals.send(arrival).ok();
    if verified {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::UNAUTHORIZED
    }
}
