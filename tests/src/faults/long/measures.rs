//! What is taken from a run to be judged as flat or not. Only what was seen while nothing was harmed counts, and not at
//! once after it: what a fault left to be caught up with is not what grows. The run's quarters are those of this calm
//! time, so that each of them has as much of it, however long faults took.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::flat::{Finding, Measure, Rule, Rules, judge};
use super::{Course, Query, Sample};
use crate::faults::evidence::{Evidence, Span};
use crate::faults::history::{Entry, Kind, Step};

/// How long after a fault nothing counts: this share of the time between two.
const REST: u32 = 8;

/// Judges everything that is looked at.
pub fn findings(evidence: &Evidence, course: &Course, rules: &Rules) -> Vec<Finding> {
    let calm = Calm::of(course);
    let commands = command_latencies(&evidence.history);
    let commands = calm.only(commands, |(at, took)| (*at, *at + *took));
    let commands: Vec<_> = commands.iter().map(|(at, took)| (*at, millis(*took))).collect();
    let queries = course
        .queries
        .iter()
        .filter_map(|Query { at, took }| Some((*at, (*took)?)));
    let queries = calm.only(queries, |(at, took)| (*at, *at + *took));
    let queries: Vec<_> = queries.iter().map(|(at, took)| (*at, millis(*took))).collect();
    let samples = calm.only(course.samples.iter().copied(), |sample| (sample.at, sample.at));
    let of = |value: fn(&Sample) -> Option<f64>| {
        let values = samples.iter().map(|sample| Some((sample.at, value(sample)?)));
        values.flatten().collect::<Vec<_>>()
    };
    let undelivered = undelivered(evidence, &samples);
    let measures = [
        measure(
            "memory",
            "MiB",
            0.5,
            rules.memory,
            of(|sample| Some(sample.memory)),
        ),
        measure(
            "file handles",
            "",
            0.5,
            rules.handles,
            of(|sample| Some(sample.handles.into())),
        ),
        measure(
            "lag of read models",
            "records",
            0.5,
            rules.lag,
            of(|sample| sample.lag.map(f64::from)),
        ),
        measure("undelivered", "events", 0.5, rules.undelivered, undelivered),
        measure("commands, p50", "ms", 0.5, rules.median, commands.clone()),
        measure("commands, p99", "ms", 0.99, rules.slowest, commands),
        measure("queries, p50", "ms", 0.5, rules.median, queries.clone()),
        measure("queries, p99", "ms", 0.99, rules.slowest, queries),
    ];
    let run = Span {
        from: Duration::ZERO,
        to: calm.before(course.span.to),
    };
    let findings = measures.into_iter().map(|mut measure| {
        for (at, _) in &mut measure.values {
            *at = calm.before(*at);
        }
        judge(&measure, run)
    });
    findings.collect()
}

fn measure(
    name: &'static str,
    unit: &'static str,
    quantile: f64,
    rule: Rule,
    values: Vec<(Duration, f64)>,
) -> Measure {
    Measure {
        name,
        unit,
        quantile,
        rule,
        values,
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// When nothing was harmed.
#[derive(Debug)]
struct Calm(Vec<Span>);

impl Calm {
    fn of(course: &Course) -> Self {
        let length = course.span.to.saturating_sub(course.span.from);
        let many = u32::try_from(course.harms.len()).unwrap_or(u32::MAX).max(1);
        let rest = length / many / REST;
        let mut calm = Vec::new();
        let mut from = course.span.from;
        for harm in &course.harms {
            let to = harm.span.from;
            calm.push(Span { from, to });
            from = harm.span.to + rest;
        }
        let to = course.span.to;
        calm.push(Span { from, to });
        Self(calm)
    }

    /// How much calm there was before a moment.
    fn before(&self, moment: Duration) -> Duration {
        let parts = self.0.iter();
        parts
            .map(|calm| calm.to.min(moment).saturating_sub(calm.from))
            .sum()
    }

    /// What lies within, from its beginning to its end.
    fn only<T>(&self, all: impl IntoIterator<Item = T>, span: impl Fn(&T) -> (Duration, Duration)) -> Vec<T> {
        let within = |(from, to): (Duration, Duration)| {
            // The last calm stretch that has begun by then.
            let place = self.0.partition_point(|calm| calm.from <= from);
            place
                .checked_sub(1)
                .and_then(|place| self.0.get(place))
                .is_some_and(|calm| to < calm.to)
        };
        all.into_iter().filter(|one| within(span(one))).collect()
    }
}

/// When commands were sent and how long they took that were acknowledged at their first try.
fn command_latencies(history: &[Entry]) -> Vec<(Duration, Duration)> {
    // The time of the only try so far, or none if there were more.
    let mut sent: HashMap<u64, Option<Duration>> = HashMap::new();
    let mut latencies = Vec::new();
    for entry in history {
        match &entry.step {
            Step::Invoke(_) => {
                let again = sent.contains_key(&entry.command);
                sent.insert(entry.command, (!again).then_some(entry.at));
            }
            Step::Ok(_) => {
                if let Some(Some(at)) = sent.remove(&entry.command) {
                    latencies.push((at, entry.at.saturating_sub(at)));
                }
            }
            Step::Fail(_) => {
                sent.remove(&entry.command);
            }
            Step::Unknown(_) => {}
        }
    }
    latencies
}

/// At each sample, how many events had been acknowledged and not come to their receiver.
fn undelivered(evidence: &Evidence, samples: &[Sample]) -> Vec<(Duration, f64)> {
    let mut published: HashSet<u64> = HashSet::new();
    let mut acknowledged = Vec::new();
    for entry in &evidence.history {
        match &entry.step {
            Step::Invoke(asked) if asked.kind == Kind::Publish => {
                published.insert(entry.command);
            }
            Step::Ok(_) if published.remove(&entry.command) => acknowledged.push(entry.at),
            _ => {}
        }
    }
    let mut firsts: BTreeMap<(&str, &str), Duration> = BTreeMap::new();
    for webhook in &evidence.received {
        let first = firsts
            .entry((&webhook.tenant, &webhook.value))
            .or_insert(webhook.at);
        *first = webhook.at.min(*first);
    }
    let mut came: Vec<Duration> = firsts.into_values().collect();
    came.sort_unstable();
    acknowledged.sort_unstable();
    let until = |times: &[Duration], at| times.partition_point(|time| *time <= at);
    let counted = samples.iter().map(|sample| {
        let missing = until(&acknowledged, sample.at).saturating_sub(until(&came, sample.at));
        (sample.at, f64::from(u32::try_from(missing).unwrap_or(u32::MAX)))
    });
    counted.collect()
}

#[cfg(test)]
mod tests;
