//! The command side, whatever goes wrong.

use tests::simulator::simulate;
use tests::simulator::writing::{Breakage, run};

use crate::seeds::every;

/// Every yes happened once and stands where it was said to, no no did, versions have no gaps, what is unique has one
/// owner, and nobody sees another's.
#[test]
fn the_command_side_keeps_its_word() {
    let tally = every("the command side", 1_000, |seed, aloud| {
        simulate(run(seed, Breakage::NONE, aloud))
    });
    // What never comes to pass is not tested.
    for what in [
        "done", "no", "not now", "unknown", "silence", "seen", "records", "messages",
    ] {
        let often = tally
            .as_ref()
            .map(|tally| tally.get(what).copied().unwrap_or_default());
        assert!(often != Some(0), "no seed ever came to `{what}`");
    }
}
