//! What waiting costs: very many deliveries whose first attempt failed wait for their second, then come due.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use super::place::Place;
use super::target::Target;
use crate::bench::Plan;
use crate::bench::machine::{forget_peak, peak_mebibytes};
use crate::bench::report::{Bar, Report};
use crate::service::Engine;

pub(super) const NAME: &str = "retries waiting";
/// How many endpoints they are spread over.
const ENDPOINTS: usize = 100;
/// What our process may grow by, in MiB.
const BAR: f64 = 200.0;
/// How long what is due may stand still before the measurement is given up.
const PATIENCE: Duration = Duration::from_mins(15);

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let (count, wait): (usize, &str) = if plan.quick {
        (10_000, "20s")
    } else {
        (1_000_000, "12m")
    };
    let target = Target::start()?;
    let settings = [("TIDINGS_RETRY_SCHEDULE", wait)];
    let place = Place::start(Engine::Cluster, &settings).await?;
    for number in 0..ENDPOINTS {
        let url = target.url(&format!("later/{number}"));
        // A breaker would keep most first attempts back: what is measured is that they wait, not that they are spared.
        place
            .endpoint(&url, &[&format!("later.{number}")], json!({ "breaker": false }))
            .await?;
    }
    let (pid, attempts) = (place.tidings.pid(), place.attempts().await?);
    // What it holds once it is warm is not what waiting costs.
    let warm = ENDPOINTS;
    let types: Vec<String> = (0..ENDPOINTS).map(|number| format!("later.{number}")).collect();
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    place.publish_each(&types, 1).await?;
    attempts.reach(2 * warm as u64).await?;
    forget_peak(pid);
    let before = peak_mebibytes(pid)?;
    eprintln!("{NAME}: {count} deliveries fail");
    let began = Instant::now();
    place.publish_each(&types, count / ENDPOINTS).await?;
    let failed = attempts.reach(2 * (count + warm) as u64).await? - began;
    let waiting = peak_mebibytes(pid)?;
    eprintln!("{NAME}: all wait after {failed:?}; they come due");
    target.relent();
    let end = 3 * (count + warm) as u64;
    let first = first_due(&target, count + warm).await?;
    let ended = attempts.reach(end).await?;
    let peak = peak_mebibytes(pid)?;
    let row = format!("{count} {NAME}");
    report.value(
        &format!("{row}: failed and set to wait"),
        per_second(count, failed),
        "1/s",
        None,
    );
    report.value(
        &format!("{row}: come due and delivered"),
        per_second(count, ended - first),
        "1/s",
        None,
    );
    report.value(
        &format!("{row}: growth of our process until all wait"),
        waiting - before,
        "MiB",
        None,
    );
    report.value(
        &format!("{row}: growth of our process until all are delivered"),
        peak - before,
        "MiB",
        Some(Bar::AtMost(BAR)),
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// When the first of them came again.
async fn first_due(target: &Target, failed: usize) -> anyhow::Result<Instant> {
    let deadline = Instant::now() + PATIENCE;
    while target.requests() <= failed as u64 {
        ensure!(Instant::now() < deadline, "no delivery has come due");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(Instant::now())
}
