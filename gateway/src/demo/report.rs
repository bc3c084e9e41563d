//! What the demo prints: to the terminal, or plainly to wherever the output goes.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::Outcome;
use super::receiver::Arrival;

/// Arrivals shown one by one at the beginning; afterwards one of [`EVERY`].
const FIRST: usize = 5;
const EVERY: usize = 50;

pub(crate) fn title(text: &str) {
    println!("{text}\n");
}

pub(crate) fn heading(text: &str) {
    println!("\n{text}");
}

pub(crate) fn step(what: &str, text: &str) {
    println!("✓ {what:<9} {text}");
}

/// A bar over so many arrivals; where the output is no terminal, only the lines above it.
pub(crate) fn progress(count: usize) -> Progress {
    println!("\nPublishing {count} events and receiving them as webhooks");
    let bar = ProgressBar::with_draw_target(Some(count as u64), ProgressDrawTarget::stdout());
    let template = "  {bar:40} {pos}/{len} received, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
    }
    Progress { bar }
}

pub(crate) fn outcome(outcome: &Outcome) {
    let Outcome {
        accepted,
        arrived,
        unverified,
        accepting,
        arriving,
        took,
        ..
    } = outcome;
    let verified = match unverified {
        0 => "every signature verified".to_owned(),
        count => format!("{count} SIGNATURES DID NOT VERIFY"),
    };
    println!("\n{arrived} of {accepted} accepted events received in {took:.2?}, {verified}");
    println!("\nLatency            p50       p99       max");
    println!("  accepted    {accepting}   request sent → 202, in the log and synced to disk");
    println!("  received    {arriving}   request sent → webhook at the receiver");
}

/// The numbers of `GET /v1/stats`; not its list of event types, which is long.
pub(crate) fn stats(stats: &Value) {
    let numbers = [
        "total_events",
        "events_last_24h",
        "total_users",
        "total_endpoints",
        "events_by_status",
    ];
    let numbers = numbers.map(|name| format!("{name} {}", cell(stats.get(name))));
    println!("  {:<11} {}", "stats", numbers.join("  "));
}

/// The first rows of a list, with the fields named.
pub(crate) fn rows(name: &str, list: &Value, fields: &[&str]) {
    let rows = list
        .get("data")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    for (number, row) in rows.iter().enumerate() {
        let name = if number == 0 { name } else { "" };
        let cells: Vec<String> = fields.iter().map(|field| cell(row.get(field))).collect();
        println!("  {name:<11} {}", cells.join("  "));
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    }
}

/// The bar, and some of the arrivals above it.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn arrived(&self, number: usize, arrival: &Arrival) {
        let Arrival {
            id,
            event_type,
            bytes,
            verified,
            ..
        } = arrival;
        if number <= FIRST || number.is_multiple_of(EVERY) || !verified {
            let mark = if *verified {
                "✓ signature verified"
            } else {
                "✗ SIGNATURE WRONG"
            };
            let line = format!("  {id}  {event_type:<44} {bytes:>6} B  {mark}");
            if self.bar.is_hidden() {
                println!("{line}");
            } else {
                self.bar.println(line);
            }
        }
        self.bar.set_position(number as u64);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Durations, in order.
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn of(durations: impl Iterator<Item = Duration>) -> Self {
        let mut durations: Vec<_> = durations.collect();
        durations.sort_unstable();
        Self(durations)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest duration that so many of a hundred do not exceed (nearest rank); zero where there are none.
    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for percent in [50, 99, 100] {
            write!(f, "{:>7.1} ms", self.percentile(percent).as_secs_f64() * 1_000.0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let latencies = Latencies::of((1..=200).rev().map(Duration::from_millis));
        let percentile = |percent| latencies.percentile(percent).as_millis();
        assert_eq!((percentile(50), percentile(99), percentile(100)), (100, 198, 200));
        assert_eq!(Latencies::of(std::iter::empty()).percentile(99), Duration::ZERO);
    }
}
