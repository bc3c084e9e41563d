//! The deterministic simulator: parts of the service, as they are, on ports in memory that fail as a seed says.
//!
//! One thread, a clock that stands still while anybody works, and one source of [`Chance`]: the same seed does the same
//! to the last byte of its [`Trace`], so whatever goes wrong once can be looked at for ever after.
//!
//! 1. [`memory`] is an engine in memory that keeps the ports' contracts; the conformance suite runs against it.
//! 2. [`network`] draws what goes wrong between a process and that engine, and [`Connection`] is the engine as one
//!    process reaches it: answers are lost, appends arrive late or twice, replicas lag, streams break off.
//! 3. [`writing`] runs the command side: [`client`]s ask [`gateway`]s, which crash now and then, for [`deed`]s.
//! 4. `judge` reads what the storage has in the end and holds it against what clients heard.
//!
//! What is broken on purpose ([`memory::Breach`], [`client::Fault`]) shows that the judge sees it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use broker::layout::Log;
use tokio::runtime::Builder;
use tokio::time::timeout;

mod chance;
pub mod client;
mod clock;
mod connection;
pub mod deed;
pub mod gateway;
mod judge;
pub mod memory;
pub mod network;
mod trace;
mod world;
pub mod writing;

pub use chance::Chance;
pub use clock::Clock;
pub use connection::Connection;
pub use trace::Trace;
pub use world::World;

use client::Entry;
use judge::Findings;

/// What a run can take of its own time before it counts as stuck.
const LONGEST: Duration = Duration::from_hours(12);

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was found broken.
    pub findings: Vec<String>,
    /// The hash of its trace, and the lines of that.
    pub trace: (u64, u64),
    /// What came to pass, and how often: so that a run in which nothing happens is seen.
    pub tally: BTreeMap<&'static str, u64>,
}

impl Outcome {
    fn of(world: &World, entries: &[Entry], findings: Findings) -> Self {
        let mut tally = BTreeMap::new();
        let mut count = |what, number| *tally.entry(what).or_default() += number;
        for tried in entries.iter().flat_map(|entry| &entry.tries) {
            count(tried.heard.word(), 1);
        }
        count("records", world.ledger(Log::Events(0)).records().len() as u64);
        count("messages", world.ledger(Log::Messages(0)).records().len() as u64);
        count("overtaken", findings.overtaken);
        Self {
            findings: findings.broken,
            trace: world.network.trace.hash(),
            tally,
        }
    }

    fn ended(why: String) -> Self {
        Self {
            findings: vec![why],
            trace: (0, 0),
            tally: BTreeMap::new(),
        }
    }
}

/// Runs a scenario of one seed, on a runtime of its own whose clock stands still while anybody works.
pub fn simulate(scenario: impl Future<Output = Outcome>) -> Outcome {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::ended(format!("there is no runtime: {error}")),
    };
    let run = || runtime.block_on(async { timeout(LONGEST, scenario).await });
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Outcome::ended(format!("it did not end within {LONGEST:?}")),
        Err(_) => Outcome::ended("it panicked".to_owned()),
    }
}
