//! Which seeds are run, and what is said when one fails.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tests::simulator::Outcome;

/// How many seeds that fail are enough to stop at.
const ENOUGH: usize = 10;

/// What came to pass over all seeds, and how often.
pub(crate) type Tally = BTreeMap<&'static str, u64>;

/// Runs a scenario for every seed asked for, on all cores; fails with the seeds that do. Answers what came to pass, where
/// no fewer were asked for than usually.
pub(crate) fn every(
    scenario: &str,
    usually: u64,
    run: impl Fn(u64, bool) -> Outcome + Sync,
) -> Option<Tally> {
    if let Some(seed) = setting("TIDINGS_SEED") {
        let outcome = run(seed, true);
        println!("seed {seed}: {:?}", outcome.tally);
        assert_whole(scenario, seed, &outcome);
        return None;
    }
    let count = setting("TIDINGS_SEEDS").unwrap_or(usually);
    let next = AtomicU64::new(0);
    let (tally, failed) = (Mutex::new(Tally::new()), Mutex::new(Vec::new()));
    let work = || {
        while failed.lock().expect("no seed panics").len() < ENOUGH {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                break;
            }
            let outcome = run(seed, false);
            if !outcome.findings.is_empty() {
                let told = told(scenario, seed, &outcome);
                failed.lock().expect("no seed panics").push(told);
            }
            let mut tally = tally.lock().expect("no seed panics");
            for (what, number) in outcome.tally {
                *tally.entry(what).or_default() += number;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().expect("no seed panics");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let tally = tally.into_inner().expect("no seed panics");
    println!("{scenario}, {count} seeds: {tally:?}");
    (count >= usually).then_some(tally)
}

/// The first seed below a bound in which a scenario finds something broken.
pub(crate) fn first_broken(bound: u64, run: impl Fn(u64) -> Outcome) -> Option<(u64, Vec<String>)> {
    (0..bound).find_map(|seed| {
        let findings = run(seed).findings;
        (!findings.is_empty()).then_some((seed, findings))
    })
}

/// Fails unless everything was found as promised.
pub(crate) fn assert_whole(scenario: &str, seed: u64, outcome: &Outcome) {
    assert!(outcome.findings.is_empty(), "{}", told(scenario, seed, outcome));
}

fn told(scenario: &str, seed: u64, outcome: &Outcome) -> String {
    let findings = outcome.findings.join("\n  ");
    format!("seed {seed} breaks {scenario} (look at it with TIDINGS_SEED={seed}):\n  {findings}")
}

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let value = text.parse().ok();
    assert!(value.is_some(), "{name}={text} is no number");
    value
}
