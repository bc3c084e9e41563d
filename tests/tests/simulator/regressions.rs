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
