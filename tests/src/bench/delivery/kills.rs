//! Whether anything is lost: messages are published while the worker and the broker are killed (SIGKILL) in turns.
//!
//! The gateway is a process of its own; its client repeats a call, under the same event ids, until it is answered 202.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use domain::EventId;
use reqwest::Method;
use serde_json::{Value, json};
use ulid::Ulid;

use super::place::{BULK, Place};
use super::target::Target;
use crate::bench::Plan;
use crate::bench::report::{Bar, Report};
use crate::http::Api;
use crate::service::{Beside, Engine};

pub(super) const NAME: &str = "kills";
const ENDPOINTS: usize = 10;
const WORKER: [(&str, &str); 1] = [("TIDINGS_ROLES", "delivery")];
/// How long a call may be repeated, and the last deliveries may take.
const PATIENCE: Duration = Duration::from_mins(5);

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let (count, kills) = if plan.quick { (5_000, 4) } else { (100_000, 20) };
    let target = Target::start()?;
    let settings = [
        ("TIDINGS_ROLES", "gateway"),
        ("TIDINGS_RETRY_SCHEDULE", "1s,2s,5s,10s,30s"),
    ];
    let mut place = Place::start(Engine::Cluster, &settings).await?;
    for number in 0..ENDPOINTS {
        let url = target.url(&format!("ok/{number}"));
        place
            .endpoint(&url, &[&format!("killed.{number}")], Value::Null)
            .await?;
    }
    let mut worker = place.tidings.beside_with(&WORKER).await?;
    eprintln!("{NAME}: {count} messages through {kills} kills of worker and broker");
    let mut published = HashSet::with_capacity(count);
    let calls = count / BULK;
    for call in 0..calls {
        if call % (calls / kills).max(1) == (calls / kills).max(1) / 2 {
            let number = call / (calls / kills).max(1);
            kill(&mut place, &mut worker, number).await?;
        }
        let api = place.tidings.tenant(&place.key)?;
        publish(&api, call, &mut published).await?;
    }
    let arrived = wait(&target, &published).await?;
    let (lost, foreign, duplicates) = count_up(&published, &arrived);
    let row = format!("{count} messages through {kills} {NAME}");
    report.value(&format!("{row}: lost"), lost, "", Some(Bar::AtMost(0.0)));
    report.value(
        &format!("{row}: came under another id"),
        foreign,
        "",
        Some(Bar::AtMost(0.0)),
    );
    report.value(&format!("{row}: came more than once"), duplicates, "", None);
    drop(worker);
    Ok(())
}

/// Kills the worker or the broker, and starts it again.
async fn kill(place: &mut Place, worker: &mut Beside, number: usize) -> anyhow::Result<()> {
    if number.is_multiple_of(2) {
        worker.kill().await?;
        *worker = place.tidings.beside_with(&WORKER).await?;
        return Ok(());
    }
    let nats = place.tidings.nats().context("the NATS server")?;
    nats.kill().await?;
    nats.restart().await
}

/// Publishes a call's events under ids of their own, until all are accepted.
async fn publish(api: &Api, call: usize, published: &mut HashSet<String>) -> anyhow::Result<()> {
    let events: Vec<Value> = (0..BULK)
        .map(|number| {
            let number = call * BULK + number;
            json!({ "id": EventId::new(Ulid::from(number as u128)), "type": format!("killed.{}", number % ENDPOINTS), "data": { "n": number } })
        })
        .collect();
    let body = json!({ "events": events });
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = api.call(Method::POST, "/v1/events/bulk", Some(&body), &[]).await;
        if let Some(accepted) = reply.ok().filter(|reply| reply.status == 202) {
            let accepted = accepted.json()?;
            let results = accepted["results"].as_array().context("a result per event")?;
            let ids: Vec<_> = results
                .iter()
                .filter_map(|result| result["id"].as_str())
                .collect();
            if ids.len() == BULK {
                published.extend(ids.into_iter().map(str::to_owned));
                return Ok(());
            }
        }
        ensure!(
            Instant::now() < deadline,
            "a call was not accepted for {PATIENCE:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until all have come, or nothing comes any more; answers what came: path and id, and how often.
async fn wait(target: &Target, published: &HashSet<String>) -> anyhow::Result<Vec<(String, u32)>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = target.all();
        if all.len() >= published.len() || Instant::now() > deadline {
            let all = all.into_iter();
            return Ok(all.map(|(key, arrival)| (key, arrival.times)).collect());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// How many were lost, came under an id that nobody published, came more than once.
fn count_up(published: &HashSet<String>, arrived: &[(String, u32)]) -> (f64, f64, f64) {
    let id = |key: &str| key.rsplit(' ').next().unwrap_or_default().to_owned();
    let came: HashSet<String> = arrived.iter().map(|(key, _)| id(key)).collect();
    let lost = published.difference(&came).count();
    let foreign = came.difference(published).count();
    let duplicates = arrived.iter().filter(|(_, times)| *times > 1).count();
    let figure = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
    (figure(lost), figure(foreign), figure(duplicates))
}
