//! Whom a bad receiver holds up: 99 healthy endpoints alone, then beside one that hangs, one that drips a byte a
//! second, one that answers 500 and one that refuses the connection.
//!
//! The same events arrive at the same pace in both; in the second, as many more for each of the bad.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::place::{Place, event};
use super::target::Target;
use crate::bench::Plan;
use crate::bench::load::Sample;
use crate::bench::report::{Bar, Report};
use crate::bench::wire::Wire;
use crate::service::Engine;

pub(super) const NAME: &str = "99 healthy endpoints";
const HEALTHY: usize = 99;
const BAD: [&str; 4] = ["hang", "drip", "fail", "refuse"];
/// Every tick an event for so many of the healthy, one after the other, and one for one of the bad.
const TICK: Duration = Duration::from_millis(10);
const PER_TICK: usize = 2;
/// How long what was published last may take to arrive.
const PATIENCE: Duration = Duration::from_mins(1);
/// What p99 may be beside the bad, to p99 alone.
const BAR: f64 = 1.5;

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let time = Duration::from_secs(if plan.quick { 5 } else { 30 });
    let target = Target::start()?;
    let place = Place::start(Engine::Cluster, &[]).await?;
    for number in 0..HEALTHY {
        let (url, own) = (target.url(&format!("ok/{number}")), format!("healthy.{number}"));
        place.endpoint(&url, &[&own], Value::Null).await?;
    }
    let refusing = refusing()?;
    for bad in BAD {
        let url = if bad == "refuse" {
            refusing.clone()
        } else {
            target.url(&format!("{bad}/1"))
        };
        // Nothing shall end the trouble before the measurement does.
        place.endpoint(&url, &[&format!("bad.{bad}")], json!({})).await?;
    }
    let mut samples = [Sample::default(), Sample::default()];
    for round in 1..=plan.rounds {
        for (beside, sample) in samples.iter_mut().enumerate() {
            eprintln!(
                "round {round} of {}: {NAME}, {} bad",
                plan.rounds,
                beside * BAD.len()
            );
            sample.merge(arrive(&place, &target, beside == 1, time).await?);
        }
    }
    let [alone, beside] = samples;
    for (row, sample) in [("alone", &alone), ("beside 4 bad ones", &beside)] {
        report.value(&format!("{NAME} {row}, p50"), sample.millis(0.5), "ms", None);
        report.value(&format!("{NAME} {row}, p99"), sample.millis(0.99), "ms", None);
    }
    let times = beside.millis(0.99) / alone.millis(0.99).max(f64::MIN_POSITIVE);
    report.value(
        &format!("{NAME}: p99 beside 4 bad ones to p99 alone"),
        times,
        "x",
        Some(Bar::AtMost(BAR)),
    );
    Ok(())
}

/// A URL at which nobody listens.
fn refusing() -> anyhow::Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(format!("http://{}/", listener.local_addr()?))
}

/// What was published: when, under which id, for which path.
struct Sent {
    at: Instant,
    id: String,
    path: String,
}

async fn arrive(place: &Place, target: &Target, with_bad: bool, time: Duration) -> anyhow::Result<Sample> {
    let (mut healthy, mut bad) = (place.wire().await?, place.wire().await?);
    let (began, mut ticks, mut turn) = (Instant::now(), tokio::time::interval(TICK), 0);
    let mut sent = Vec::new();
    while began.elapsed() < time {
        ticks.tick().await;
        for _ in 0..PER_TICK {
            let number = turn % HEALTHY;
            let at = Instant::now();
            let id = publish(&mut healthy, &format!("healthy.{number}")).await?;
            let path = format!("ok/{number}");
            sent.push(Sent { at, id, path });
            turn += 1;
        }
        if with_bad {
            let kind = BAD[turn / PER_TICK % BAD.len()];
            publish(&mut bad, &format!("bad.{kind}")).await?;
        }
    }
    let mut sample = Sample::default();
    let deadline = Instant::now() + PATIENCE;
    for sent in sent {
        let arrival = loop {
            if let Some(arrival) = target.arrival(&sent.path, &sent.id) {
                break arrival.first;
            }
            ensure!(Instant::now() < deadline, "the event {} has not arrived", sent.id);
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        sample.add_many(arrival.saturating_duration_since(sent.at), 1);
    }
    Ok(sample)
}

async fn publish(wire: &mut Wire, event_type: &str) -> anyhow::Result<String> {
    let body = event(event_type);
    let answer = wire.send("POST", "/v1/events", body.as_bytes(), 202).await?;
    let answer: Value = serde_json::from_slice(answer)?;
    Ok(answer["id"].as_str().context("the event's id")?.to_owned())
}
