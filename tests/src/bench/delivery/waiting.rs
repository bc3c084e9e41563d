//! What waiting costs: very many deliveries whose first attempt failed wait for their second, then come due.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

use super::place::Place;
use super::target::Target;
use crate::bench::Plan;
use crate::bench::machine::{forget_peak, peak_mebibytes};
use crate::bench::report::{Bar, Report};
use crate::service::Engine;

/// What is measured.
struct Shape {
    name: &'static str,
    /// How many endpoints they are spread over.
    endpoints: usize,
    count: usize,
    /// When a retry is due; the first attempts must all have failed by then.
    wait: &'static str,
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "retries waiting",
        endpoints: 100,
        count: 1_000_000,
        wait: "12m",
    },
    Shape {
        name: "retries waiting at very many endpoints",
        endpoints: 100_000,
        count: 200_000,
        wait: "6m",
    },
];
const QUICK: [Shape; 2] = [
    Shape {
        name: SHAPES[0].name,
        endpoints: 100,
        count: 10_000,
        wait: "20s",
    },
    Shape {
        name: SHAPES[1].name,
        endpoints: 2_000,
        count: 4_000,
        wait: "20s",
    },
];

/// How many endpoints are there at first, to warm the service.
const FIRST: usize = 100;
/// How many endpoints are created beside each other.
const CREATED_AT_ONCE: usize = 16;
/// What our process may grow by, in MiB.
const BAR: f64 = 200.0;
/// How long what is due may stand still before the measurement is given up.
const PATIENCE: Duration = Duration::from_mins(15);

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let shapes = if plan.quick { QUICK } else { SHAPES };
    for shape in shapes.iter().filter(|shape| plan.wants(shape.name)) {
        wait(shape, report).await?;
    }
    Ok(())
}

async fn wait(shape: &Shape, report: &mut Report) -> anyhow::Result<()> {
    let Shape {
        name,
        endpoints,
        count,
        wait,
    } = *shape;
    let target = Target::start()?;
    let settings = [("TIDINGS_RETRY_SCHEDULE", wait)];
    let place = Place::start(Engine::Cluster, &settings).await?;
    create(&place, &target, 0..FIRST).await?;
    let (pid, attempts) = (place.tidings.pid(), place.attempts().await?);
    // What it holds once it is warm is not what waiting costs.
    place.publish_each(&types(FIRST), 1).await?;
    attempts.reach(2 * FIRST as u64).await?;
    forget_peak(pid);
    let before = peak_mebibytes(pid)?;
    create(&place, &target, FIRST..endpoints).await?;
    eprintln!("{name}: {count} deliveries to {endpoints} endpoints fail");
    let began = Instant::now();
    place.publish_each(&types(endpoints), count / endpoints).await?;
    let failed = attempts.reach(2 * (count + FIRST) as u64).await? - began;
    let waiting = peak_mebibytes(pid)?;
    eprintln!("{name}: all wait after {failed:?}; they come due");
    target.relent();
    let end = 3 * (count + FIRST) as u64;
    let first = first_due(&target, count + FIRST).await?;
    let ended = attempts.reach(end).await?;
    let peak = peak_mebibytes(pid)?;
    let row = format!("{count} {name}");
    let values = [
        ("failed and set to wait", per_second(count, failed), "1/s", None),
        (
            "come due and delivered",
            per_second(count, ended - first),
            "1/s",
            None,
        ),
        (
            "growth of our process until all wait",
            waiting - before,
            "MiB",
            None,
        ),
        (
            "growth of our process until all are delivered",
            peak - before,
            "MiB",
            Some(Bar::AtMost(BAR)),
        ),
    ];
    for (what, value, unit, bar) in values {
        report.value(&format!("{row}: {what}"), value, unit, bar);
    }
    Ok(())
}

/// Creates the endpoints of these numbers, each for a type of its own.
async fn create(place: &Place, target: &Target, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let create = async |number: usize| {
        let url = target.url(&format!("later/{number}"));
        // A breaker would keep most first attempts back: what is measured is that they wait, not that they are spared.
        let more = json!({ "breaker": false });
        place.endpoint(&url, &[&format!("later.{number}")], more).await
    };
    let creating = futures::stream::iter(numbers).map(create);
    creating.buffer_unordered(CREATED_AT_ONCE).try_collect().await
}

/// The types of the first endpoints.
fn types(endpoints: usize) -> Vec<String> {
    (0..endpoints).map(|number| format!("later.{number}")).collect()
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
