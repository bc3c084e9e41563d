//! That a seed is a run: the same seed does the same, to the last line of its trace.

use std::collections::BTreeSet;

use tests::simulator::simulate;
use tests::simulator::writing::{Breakage, run};

#[test]
fn a_seed_replays_to_the_last_line() {
    let mut traces = BTreeSet::new();
    for seed in 0..40 {
        let once = simulate(run(seed, Breakage::NONE, false));
        let again = simulate(run(seed, Breakage::NONE, false));
        assert_eq!(once, again, "seed {seed} does not replay");
        assert!(once.trace.1 > 20, "seed {seed} hardly does anything: {once:?}");
        traces.insert(once.trace);
    }
    assert_eq!(traces.len(), 40, "two seeds do the same");
}
