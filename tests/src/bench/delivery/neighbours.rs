//! Whom a bad receiver holds up: 99 healthy endpoints alone, then beside one that hangs, one that drips a byte a
//! second, one that answers 500 and one that refuses the connection.
//!
//! The same events arrive at the same pace always; beside the bad, half as many more for these, and as a control for
//! four more that are well, since more events cost something by themselves. Three installations take turns of a few
//! seconds, of which the medians are compared: this machine stands still for some milliseconds now and then, and one
//! such moment would decide the p99 of a long turn, on whichever side it fell.

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
/// As many that are well: what the others' events cost by themselves.
const MORE: [&str; 4] = ["ok", "ok", "ok", "ok"];
/// Every tick an event for so many of the healthy, one after the other, and one for one of the bad.
const TICK: Duration = Duration::from_millis(10);
const PER_TICK: usize = 2;
/// How long what was published last may take to arrive.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long one of the three has its turn.
const TURN: Duration = Duration::from_secs(3);
/// What p99 may be beside the bad, to p99 alone.
const BAR: f64 = 1.5;

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let turns = if plan.quick { 2 } else { 12 } * plan.rounds;
    let target = Target::start()?;
    let others: [(&str, &[&str]); 3] = [
        ("alone", &[]),
        ("beside 4 more healthy ones", &MORE),
        ("beside 4 bad ones", &BAD),
    ];
    let mut places = Vec::new();
    for (_, others) in others {
        places.push(place(&target, others).await?);
    }
    let mut measured: [Vec<Sample>; 3] = Default::default();
    for turn in 1..=turns {
        eprintln!("turn {turn} of {turns}: {NAME}, alone and beside others");
        // Who is first changes, since what one leaves the next finds.
        for which in (0..3).map(|place| (place + turn as usize) % 3) {
            measured[which].push(arrive(&places[which], &target, others[which].1).await?);
        }
    }
    let median = |which: usize, part: f64| {
        let mut turns: Vec<f64> = measured[which].iter().map(|turn| turn.millis(part)).collect();
        turns.sort_by(f64::total_cmp);
        turns[turns.len() / 2]
    };
    for (which, (row, _)) in others.iter().enumerate() {
        report.value(&format!("{NAME} {row}, p50"), median(which, 0.5), "ms", None);
        report.value(&format!("{NAME} {row}, p99"), median(which, 0.99), "ms", None);
    }
    report.value(
        &format!("{NAME}: p99 beside 4 bad ones to p99 beside 4 more healthy ones"),
        median(2, 0.99) / median(1, 0.99).max(f64::MIN_POSITIVE),
        "x",
        None,
    );
    let times = median(2, 0.99) / median(0, 0.99).max(f64::MIN_POSITIVE);
    report.value(
        &format!("{NAME}: p99 beside 4 bad ones to p99 alone"),
        times,
        "x",
        Some(Bar::AtMost(BAR)),
    );
    Ok(())
}

/// An installation with the healthy endpoints and these others.
async fn place(target: &Target, others: &[&str]) -> anyhow::Result<Place> {
    let place = Place::start(Engine::Cluster, &[]).await?;
    for number in 0..HEALTHY {
        let (url, own) = (target.url(&format!("ok/{number}")), format!("healthy.{number}"));
        place.endpoint(&url, &[&own], Value::Null).await?;
    }
    for (number, kind) in others.iter().enumerate() {
        let url = match *kind {
            "refuse" => refusing()?,
            "ok" => target.url(&format!("ok/more-{number}")),
            kind => target.url(&format!("{kind}/1")),
        };
        // Nothing shall end the trouble before the measurement does.
        place
            .endpoint(&url, &[&format!("other.{number}")], json!({}))
            .await?;
    }
    Ok(place)
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

async fn arrive(place: &Place, target: &Target, others: &[&str]) -> anyhow::Result<Sample> {
    let (mut healthy, mut other) = (place.wire().await?, place.wire().await?);
    let (began, mut ticks, mut turn) = (Instant::now(), tokio::time::interval(TICK), 0);
    let mut sent = Vec::new();
    while began.elapsed() < TURN {
        ticks.tick().await;
        for _ in 0..PER_TICK {
            let number = turn % HEALTHY;
            let at = Instant::now();
            let id = publish(&mut healthy, &format!("healthy.{number}")).await?;
            let path = format!("ok/{number}");
            sent.push(Sent { at, id, path });
            turn += 1;
        }
        if !others.is_empty() {
            let number = turn / PER_TICK % others.len();
            publish(&mut other, &format!("other.{number}")).await?;
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
