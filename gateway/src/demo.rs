//! `tidings demo`: the main job, shown in a terminal.
//!
//! It starts a service of its own on fresh data, a receiver beside it, creates a tenant and an endpoint, publishes
//! real events from a file of JSON lines, shows them arriving with their signatures verified, and then what the read
//! models know. Everything goes through the HTTP interface, as any client would do it; the receiver verifies with the
//! Standard Webhooks project's own library, not with the code that signed.

mod client;
mod events;
mod receiver;
mod report;
mod scratch;
mod service;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::cli::Failure;
use client::Client;
use receiver::{Arrival, Receiver};
use report::Latencies;
use scratch::Scratch;
use service::Service;

/// Publishes that are under way at once.
const IN_FLIGHT: usize = 4;
/// How long the last event may take to arrive, and the read models to know it.
const PATIENCE: Duration = Duration::from_mins(1);

/// How the demo is run.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Events to publish, one {"type","data"} a line [default: real GitHub webhooks that come with the program]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How many events to publish; the file is read again from its start where it has fewer [default: each once]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    events: Option<u32>,
    /// Run on the cluster engine: the NATS server, as `nats://127.0.0.1:4222` (needs --database too)
    #[arg(long, value_name = "URL", requires = "database")]
    nats: Option<String>,
    /// Run on the cluster engine: the PostgreSQL server, as `postgres://postgres@127.0.0.1/postgres`; the demo makes a
    /// database of its own there and removes it
    #[arg(long, value_name = "URL", requires = "nats")]
    database: Option<String>,
}

/// Runs the demo from its first line to its last.
pub(crate) async fn run(args: DemoArgs) -> Result<ExitCode, Failure> {
    delivery::install_crypto();
    let events = events::load(args.file.as_deref(), args.events)?;
    let scratch = Scratch::new(args.nats.zip(args.database)).await?;
    let result = show(&scratch, &events).await;
    let removed = scratch.remove().await;
    let complete = result?;
    removed?;
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn show(scratch: &Scratch, events: &[events::Event]) -> Result<bool, Failure> {
    report::title(&format!(
        "Tidings {} on the {}",
        env!("CARGO_PKG_VERSION"),
        scratch.engine()
    ));
    let service = Service::start(scratch).await?;
    report::step(
        "service",
        &format!("{} (ready after {:.1?})", service.url(), service.started_in()),
    );
    let mut receiver = Receiver::start().await?;
    report::step("receiver", receiver.url());

    let admin = Client::new(service.url(), service.admin_key())?;
    let tenant = admin
        .post("/v1/tenants", &json!({ "name": "Demo", "slug": "demo" }))
        .await?;
    report::step("tenant", text(&tenant, "id"));
    let client = admin.with_key(text(&tenant, "api_key"));
    let endpoint =
        json!({ "url": receiver.url(), "event_types": ["*"], "description": "the demo's receiver" });
    let endpoint = client.post("/v1/endpoints", &endpoint).await?;
    receiver.verify_with(text(&endpoint, "secret"))?;
    report::step(
        "endpoint",
        &format!("{} for every event type", text(&endpoint, "id")),
    );
    let user = json!({ "email": "ada@example.org", "name": "Ada Lovelace" });
    let user = client.post("/v1/users", &user).await?;
    report::step("user", &format!("{} ada@example.org", text(&user, "id")));

    let outcome = publish_and_receive(&client, &mut receiver, events).await?;
    report::outcome(&outcome);
    let last = outcome.last_position.clone();
    read_models(&client, outcome.accepted, &last).await?;
    service.stop().await;
    Ok(outcome.is_complete())
}

/// What came of the events.
pub(crate) struct Outcome {
    /// Events the service answered 202 for.
    pub(crate) accepted: usize,
    /// Of these, how many arrived, each counted once.
    pub(crate) arrived: usize,
    /// Arrivals whose signature did not verify.
    pub(crate) unverified: usize,
    /// From sending the request to its 202.
    pub(crate) accepting: Latencies,
    /// From sending the request to the webhook's arrival.
    pub(crate) arriving: Latencies,
    /// From the first request to the last arrival.
    pub(crate) took: Duration,
    /// The position of the last event accepted.
    pub(crate) last_position: String,
}

impl Outcome {
    fn is_complete(&self) -> bool {
        self.arrived == self.accepted && self.unverified == 0
    }
}

/// An event the service has accepted.
struct Accepted {
    id: String,
    position: String,
    sent: Instant,
    answered: Instant,
}

async fn publish_and_receive(
    client: &Client,
    receiver: &mut Receiver,
    events: &[events::Event],
) -> Result<Outcome, Failure> {
    let progress = report::progress(events.len());
    let started = Instant::now();
    let publishing = async {
        let mut publishing = futures::stream::iter(events)
            .map(|event| publish(client, event))
            .buffered(IN_FLIGHT);
        let mut accepted = Vec::with_capacity(events.len());
        while let Some(answer) = publishing.next().await {
            accepted.push(answer?);
        }
        Ok::<_, Failure>(accepted)
    };
    let (accepted, arrivals) = tokio::join!(
        publishing,
        receiver.collect(events.len(), PATIENCE, |number, arrival| {
            progress.arrived(number, arrival);
        })
    );
    let accepted = accepted?;
    progress.finish();
    let first: std::collections::HashMap<&str, &Arrival> = arrivals
        .iter()
        .rev()
        .map(|arrival| (arrival.id.as_str(), arrival))
        .collect();
    let arriving = accepted.iter().filter_map(|event| {
        first
            .get(event.id.as_str())
            .map(|arrival| arrival.at.saturating_duration_since(event.sent))
    });
    let arriving = Latencies::of(arriving);
    Ok(Outcome {
        accepted: accepted.len(),
        arrived: arriving.count(),
        unverified: arrivals.iter().filter(|arrival| !arrival.verified).count(),
        accepting: Latencies::of(accepted.iter().map(|event| event.answered - event.sent)),
        arriving,
        took: arrivals
            .last()
            .map_or(started.elapsed(), |last| last.at - started),
        last_position: accepted
            .last()
            .map(|event| event.position.clone())
            .unwrap_or_default(),
    })
}

async fn publish(client: &Client, event: &events::Event) -> Result<Accepted, Failure> {
    let sent = Instant::now();
    let answer = client.post("/v1/events", event).await?;
    let answered = Instant::now();
    let [id, position] = ["id", "position"].map(|field| text(&answer, field).to_owned());
    Ok(Accepted {
        id,
        position,
        sent,
        answered,
    })
}

/// Shows the read models once they know that everything was delivered.
async fn read_models(client: &Client, events: usize, at_least: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let stats = loop {
        let stats = client.get("/v1/stats", Some(at_least)).await?;
        let delivered = stats
            .pointer("/events_by_status/delivered")
            .and_then(Value::as_u64);
        if delivered.is_some_and(|count| count >= events as u64) || Instant::now() > deadline {
            break stats;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    report::heading("Read models");
    report::stats(&stats);
    let deliveries = client.get("/v1/deliveries?limit=3", None).await?;
    report::rows(
        "deliveries",
        &deliveries,
        &["event", "event_type", "status", "attempts"],
    );
    let audit = client.get("/v1/audit?limit=3", None).await?;
    report::rows("audit", &audit, &["position", "at", "action", "resource_id"]);
    Ok(())
}

fn text<'a>(answer: &'a Value, field: &str) -> &'a str {
    answer.get(field).and_then(Value::as_str).unwrap_or_default()
}
