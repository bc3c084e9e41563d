//! The fault harness in short: its main cases once each, and controls that must be found out.
//!
//! `cargo run --release -p tests --bin faults` runs all of them, as often as is wanted; see `docs/reliability.md`.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use tests::faults::cases;
use tests::faults::evidence::{Evidence, Stored};
use tests::faults::history::{Entry, Kind, Step};
use tests::faults::oracles::{Oracle, judge};
use tests::faults::run::{Outcome, run};
use tests::for_each_engine;
use tests::service::Engine;

/// Where all draws of these runs begin.
const SEED: u64 = 6;

/// Runs a case, which must keep every promise, or be found in those that it breaks on purpose.
async fn as_it_must(name: &str, engine: Engine) -> anyhow::Result<Outcome> {
    let case = cases::find(name).with_context(|| format!("there is no case {name}"))?;
    let outcome = Box::pin(run(case, engine, SEED)).await?;
    let violations: Vec<_> = outcome
        .verdict
        .violations
        .iter()
        .map(ToString::to_string)
        .collect();
    ensure!(
        outcome.verdict.is_as_it_must(case.breaks),
        "{name} with seed {SEED}: {violations:#?}"
    );
    ensure!(outcome.verdict.acknowledged > 20, "{:?}", outcome.verdict);
    Ok(outcome)
}

for_each_engine! {
    async fn a_killed_service_keeps_its_promises(engine: Engine) {
        let outcome = as_it_must("service-kill", engine).await?;
        the_same_run_broken_afterwards_is_found(&outcome)
    }

    async fn a_service_that_ends_under_load_answers_what_it_accepted(engine: Engine) {
        as_it_must("service-term", engine).await?;
        Ok(())
    }

    async fn a_read_model_that_was_tampered_with_is_found(engine: Engine) {
        as_it_must("control-tampered", engine).await?;
        Ok(())
    }
}

macro_rules! on {
    ($($name:ident: $case:literal on $engine:ident;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> anyhow::Result<()> {
            as_it_must($case, Engine::$engine).await?;
            Ok(())
        }
    )+};
}

on! {
    nothing_is_acknowledged_while_another_holds_the_log: "log-locked" on Embedded;
    a_killed_nats_loses_nothing: "nats-kill" on Cluster;
    a_lost_acknowledgement_doubles_nothing: "nats-lost-ack" on Cluster;
    a_killed_postgres_is_caught_up_with: "postgres-kill" on Cluster;
    what_nats_could_not_sync_is_not_acknowledged: "sync-fails" on Cluster;
    bytes_that_change_beside_a_good_index_are_noticed: "disk-damaged" on Cluster;
}

/// What the checks of a real run are worth: with a record missing from its log, or there twice, with an answer
/// forgotten or a webhook never come, it does not pass.
fn the_same_run_broken_afterwards_is_found(outcome: &Outcome) -> anyhow::Result<()> {
    let published = |stored: &Stored| stored.facts.iter().any(|fact| fact.kind == Kind::Publish);
    let place = outcome.evidence.log.iter().position(published);
    let place = place.context("nothing was published")?;
    let found = |change: &dyn Fn(&mut Evidence)| {
        let mut evidence = outcome.evidence.clone();
        change(&mut evidence);
        let violations = judge(&evidence).violations;
        violations
            .into_iter()
            .map(|violation| violation.oracle)
            .collect::<BTreeSet<_>>()
    };
    let missing = found(&|evidence| {
        evidence.log.remove(place);
    });
    ensure!(
        missing.contains(&Oracle::O4) && missing.contains(&Oracle::O9),
        "{missing:?}"
    );
    let twice = found(&|evidence| {
        let mut again = evidence.log[place].clone();
        again.sequence = evidence.log.last().map_or(0, |last| last.sequence) + 1;
        evidence.log.push(again);
    });
    ensure!(
        twice.contains(&Oracle::O1) || twice.contains(&Oracle::O3),
        "{twice:?}"
    );
    let forgotten = found(&|evidence| {
        let first = evidence.log[place].facts[0].value.clone();
        let asked = |entry: &Entry| matches!(&entry.step, Step::Invoke(asked) if asked.value == first);
        let command = evidence.history.iter().find(|entry| asked(entry));
        if let Some(command) = command.map(|entry| entry.command) {
            evidence.history.retain(|entry| entry.command != command);
        }
    });
    ensure!(forgotten == [Oracle::O3].into(), "{forgotten:?}");
    let undelivered = found(&|evidence| {
        let value = evidence.log[place].facts[0].value.clone();
        evidence.received.retain(|webhook| webhook.value != value);
    });
    ensure!(undelivered == [Oracle::O9].into(), "{undelivered:?}");
    Ok(())
}
