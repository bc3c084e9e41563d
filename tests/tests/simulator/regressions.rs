//! Seeds that once failed, each with what it found.

use tests::simulator::simulate;
use tests::simulator::writing::{Breakage, run};

use crate::seeds::assert_whole;

fn assert_mended(seed: u64) {
    let outcome = simulate(run(seed, Breakage::NONE, false));
    assert_whole("the command side", seed, &outcome);
}

/// A user was registered and nobody heard. The repetition loaded the user from one replica, looked for its own command
/// in another that was behind, and was told that the user exists already.
#[test]
fn a_request_is_not_refused_its_own_success() {
    assert_mended(44);
}

/// Of a repeated registration the first try was in the log, and a replica that lagged said that the quota was used up, by
/// that very user among others.
#[test]
fn a_no_is_the_leaders() {
    for seed in [1418, 3422, 4448] {
        assert_mended(seed);
    }
}
