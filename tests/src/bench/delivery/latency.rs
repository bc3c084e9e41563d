//! How soon a webhook arrives on an idle system: from the request that publishes to the receiver's handler.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::place::{Place, event};
use super::target::Target;
use crate::bench::Plan;
use crate::bench::load::Sample;
use crate::bench::report::{Bar, Report};
use crate::service::Engine;

const NAME: &str = "publish to received, idle";
const PATH: &str = "ok/idle";
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing happens between two events.
const PAUSE: Duration = Duration::from_millis(20);

/// The bars of p50 and p99, in ms.
const BARS: (f64, f64) = (5.0, 25.0);

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let count = if plan.quick { 100 } else { 1_000 };
    for (engine, name) in [(Engine::Cluster, "JetStream"), (Engine::Embedded, "embedded")] {
        let row = format!("{NAME}, {name}");
        if !plan.wants(&row) {
            continue;
        }
        eprintln!("{row}: {count} events");
        let target = Target::start()?;
        let place = Place::start(engine, &[]).await?;
        place.endpoint(&target.url(PATH), &["*"], Value::Null).await?;
        // What is done once only, as connecting, is not what is asked for.
        sample(&place, &target, 50).await?;
        let sample = sample(&place, &target, count).await?;
        report.value(
            &format!("{row}, p50"),
            sample.millis(0.5),
            "ms",
            Some(Bar::AtMost(BARS.0)),
        );
        report.value(
            &format!("{row}, p99"),
            sample.millis(0.99),
            "ms",
            Some(Bar::AtMost(BARS.1)),
        );
    }
    Ok(())
}

async fn sample(place: &Place, target: &Target, count: usize) -> anyhow::Result<Sample> {
    let mut wire = place.wire().await?;
    let mut sample = Sample::default();
    let body = event("bench.idle");
    for _ in 0..count {
        let sent = Instant::now();
        let answer = wire.send("POST", "/v1/events", body.as_bytes(), 202).await?;
        let answer: Value = serde_json::from_slice(answer)?;
        let id = answer["id"].as_str().context("the event's id")?;
        let arrival = loop {
            if let Some(arrival) = target.arrival(PATH, id) {
                break arrival.first;
            }
            ensure!(sent.elapsed() < PATIENCE, "the event {id} has not arrived");
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        sample.add_many(arrival.saturating_duration_since(sent), 1);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(sample)
}
