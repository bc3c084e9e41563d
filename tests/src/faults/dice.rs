//! What is drawn: the moment of a fault, how long it lasts, what a client asks for next. All of it from one seed.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Draws for one part of a run; parts draw independently of each other, whoever comes first.
#[derive(Debug)]
pub(crate) struct Dice(StdRng);

impl Dice {
    /// For the part of this name.
    pub(crate) fn new(seed: u64, part: &str) -> Self {
        // FNV-1a: the same for ever, unlike the standard library's hashes.
        let mixed = part.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(StdRng::seed_from_u64(mixed))
    }

    /// A number of a range.
    pub(crate) fn number(&mut self, range: Range<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// A time of so many milliseconds, to the microsecond.
    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_micros(self.0.random_range(range.start * 1_000..range.end * 1_000))
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.number(0..100) < chance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_part_draw_the_same_again() {
        let draw = |seed, part| {
            let mut dice = Dice::new(seed, part);
            (0..8).map(|_| dice.number(0..1_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, "fault"), draw(7, "fault"));
        assert_ne!(draw(7, "fault"), draw(8, "fault"));
        assert_ne!(draw(7, "fault"), draw(7, "writer 1"));
    }
}
