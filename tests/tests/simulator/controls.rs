//! Positive controls: what is broken on purpose is seen, within so many seeds.

use tests::simulator::client::Fault;
use tests::simulator::memory::Breach;
use tests::simulator::simulate;
use tests::simulator::writing::{Breakage, run};

use crate::seeds::first_broken;

/// How many seeds a breakage may stay unseen.
const BOUND: u64 = 200;

fn assert_seen(breakage: Breakage, because: &str) {
    let seen = first_broken(BOUND, |seed| simulate(run(seed, breakage, false)));
    let Some((seed, findings)) = seen else {
        panic!("{breakage:?} stayed unseen for {BOUND} seeds");
    };
    println!("{breakage:?} was seen in seed {seed}: {findings:#?}");
    assert!(
        findings.iter().any(|finding| finding.contains(because)),
        "{breakage:?} was seen in seed {seed} for another reason: {findings:#?}"
    );
}

fn log(breach: Breach) -> Breakage {
    Breakage {
        breach,
        ..Breakage::NONE
    }
}

fn callers(fault: Fault) -> Breakage {
    Breakage {
        fault,
        ..Breakage::NONE
    }
}

#[test]
fn a_log_that_ignores_expectations_is_seen() {
    assert_seen(log(Breach::IgnoresExpectations), "goes from");
}

#[test]
fn a_log_that_acknowledges_without_storing_is_seen() {
    assert_seen(log(Breach::ForgetsAppends), "was answered");
}

#[test]
fn a_log_that_stores_repetitions_is_seen() {
    assert_seen(log(Breach::StoresRepetitions), "records of");
}

#[test]
fn a_log_that_stores_appends_in_part_is_seen() {
    assert_seen(log(Breach::StoresInPart), "claimed by");
}

#[test]
fn a_service_that_takes_each_try_for_a_new_command_is_seen() {
    assert_seen(callers(Fault::DrawsAgain), "records of");
}

#[test]
fn a_service_that_does_not_know_repetitions_is_seen() {
    assert_seen(callers(Fault::HidesRepetitions), "was");
}

#[test]
fn a_service_that_takes_unknown_for_no_is_seen() {
    assert_seen(
        callers(Fault::TakesUnknownForNo),
        "was refused, but is in the log",
    );
}
