//! The long run in short: two and a half minutes of load on each engine, one after the other, with a fault each
//! sixteen seconds. What must hold is what must hold in an hour, but for what counts as flat.
//!
//! `cargo run --release -p tests --bin faults -- --long 60m` is the whole of it; see `docs/reliability.md`.
#![cfg(target_os = "linux")]

use anyhow::ensure;
use tests::faults::long::{Plan, report, run};
use tests::for_each_engine;
use tokio::sync::Mutex;

/// Where all draws of these runs begin; the first fault of this one kills the service.
const SEED: u64 = 3;
/// Two at once would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

for_each_engine! {
    async fn load_with_faults_keeps_every_promise_and_stays_flat(engine: Engine) {
        let _alone = ONE_AT_A_TIME.lock().await;
        let plan = Plan::short(engine, SEED);
        let outcome = run(&plan).await?;
        let told = report::text(&plan, &outcome);
        println!("{told}");
        ensure!(outcome.failures().is_empty(), "{told}");
        ensure!(outcome.course.harms.len() >= 3, "{told}");
        ensure!(outcome.course.harms[0].name == "service-kill", "{told}");
        ensure!(outcome.verdict.acknowledged > 200, "{told}");
        Ok(())
    }
}
