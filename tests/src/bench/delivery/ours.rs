//! Throughput: from the first publish to the last recorded attempt, beside the bare loop.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::bare;
use super::place::Place;
use super::target::Target;
use crate::bench::Plan;
use crate::bench::machine::{forget_peak, peak_mebibytes};
use crate::bench::report::{Bar, Report};
use crate::service::Engine;

const BARE: &str = "bare loop: the same client, bodies and receiver";
const ONE: &str = "ours, JetStream, one healthy endpoint";
const HUNDRED: &str = "ours, JetStream, 100 healthy endpoints";
const FAN_OUT: &str = "ours, JetStream, fan-out 1 to 100 endpoints";
pub(super) const ROWS: [&str; 4] = [BARE, ONE, HUNDRED, FAN_OUT];

/// How many posts the bare loop has in flight: the most it gains from is what counts as the limit.
const IN_FLIGHT: [usize; 3] = [16, 64, 128];
const ENDPOINTS: usize = 100;
/// What ours must reach of the limit.
const BAR: f64 = 0.5;

/// What was delivered, and in what time, over all rounds.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    count: usize,
    time: Duration,
}

impl Total {
    fn add(&mut self, count: usize, time: Duration) {
        self.count += count;
        self.time += time;
    }

    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    fn rate(self) -> f64 {
        self.count as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let count = if plan.quick { 4_000 } else { 40_000 };
    let target = Target::start()?;
    let place = Place::start(Engine::Cluster, &[]).await?;
    place
        .endpoint(&target.url("ok/one"), &["one"], Value::Null)
        .await?;
    for number in 0..ENDPOINTS {
        let url = target.url(&format!("ok/{number}"));
        let own = format!("hundred.{number}");
        place.endpoint(&url, &[&own, "fan"], Value::Null).await?;
    }
    let pid = place.tidings.pid();
    forget_peak(pid);
    let (mut bare, mut ours) = ([Total::default(); IN_FLIGHT.len()], [Total::default(); 3]);
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}: deliveries and their limit", plan.rounds);
        let paths: Vec<String> = (0..ENDPOINTS).map(|number| format!("ok/{number}")).collect();
        for (total, in_flight) in bare.iter_mut().zip(IN_FLIGHT) {
            total.add(count, bare::post(&target, &paths, count, in_flight).await?);
        }
        for (total, row) in ours.iter_mut().zip([ONE, HUNDRED, FAN_OUT]) {
            if plan.wants(row) {
                total.add(count, deliver(&place, row, count).await?);
            }
        }
        target.forget();
    }
    for (total, in_flight) in bare.iter().zip(IN_FLIGHT) {
        report.value(
            &format!("{BARE}, {in_flight} in flight"),
            total.rate(),
            "1/s",
            None,
        );
    }
    let limit = bare.iter().map(|total| total.rate()).fold(0.0, f64::max);
    for (total, row) in ours.iter().zip([ONE, HUNDRED, FAN_OUT]) {
        if total.count > 0 {
            report.value(
                &format!("{row}, published to recorded"),
                total.rate(),
                "deliveries/s",
                None,
            );
            let share = total.rate() / limit.max(f64::MIN_POSITIVE);
            report.value(
                &format!("{row}, to the limit"),
                share,
                "x",
                Some(Bar::AtLeast(BAR)),
            );
        }
    }
    report.value(
        "peak memory of `tidings serve` meanwhile",
        peak_mebibytes(pid)?,
        "MiB",
        None,
    );
    Ok(())
}

/// Publishes what makes so many deliveries and waits until each has its attempt in the log.
async fn deliver(place: &Place, row: &str, count: usize) -> anyhow::Result<Duration> {
    let attempts = place.attempts().await?;
    // Each delivery is noted when it is made, and when it was tried.
    let end = attempts.last().await? + 2 * count as u64;
    let began = Instant::now();
    match row {
        ONE => place.publish("one", count).await?,
        HUNDRED => {
            let types: Vec<String> = (0..ENDPOINTS).map(|number| format!("hundred.{number}")).collect();
            place.publish_each(&types, count / ENDPOINTS).await?;
        }
        _ => place.publish("fan", count / ENDPOINTS).await?,
    }
    let ended = attempts.reach(end).await?;
    Ok(ended - began)
}
