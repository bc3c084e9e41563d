//! What a request draws: ids, command ids, secrets.
//!
//! All of it derives from one seed, by name. A request that is repeated under its `Idempotency-Key` starts from the
//! same seed and so draws the same again: what had already happened is recognised by its ids, and what is shown once
//! is shown the same.

use std::time::{SystemTime, UNIX_EPOCH};

use domain::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use ulid::Ulid;
use zeroize::Zeroizing;

/// The bits of a ULID that are random (<https://github.com/ulid/spec>).
const RANDOM_BITS: u32 = 80;

/// A source of ids and secrets. Clones draw the same.
#[derive(Clone)]
pub(crate) struct Draw {
    /// Milliseconds since 1970: the time in the ids drawn.
    millis: u64,
    seed: Zeroizing<[u8; 32]>,
    /// The request has been here before, with this seed.
    repeated: bool,
}

/// What [`Draw::seed`] holds: the time and the seed.
pub(crate) const SEED: usize = 40;

impl Draw {
    /// From a new seed.
    pub(crate) fn fresh() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rand::fill(seed.as_mut_slice());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(now.as_millis()).unwrap_or_default();
        Self {
            millis,
            seed,
            repeated: false,
        }
    }

    /// All there is to it, to be kept secret: what it draws are secrets, too.
    pub(crate) fn seed(&self) -> Zeroizing<[u8; SEED]> {
        let mut whole = Zeroizing::new([0; SEED]);
        whole[..8].copy_from_slice(&self.millis.to_be_bytes());
        whole[8..].copy_from_slice(self.seed.as_slice());
        whole
    }

    /// The source of a request that is repeated, from the seed of the first.
    pub(crate) fn again(whole: &[u8; SEED]) -> Self {
        let (mut millis, mut seed) = ([0; 8], Zeroizing::new([0; 32]));
        millis.copy_from_slice(&whole[..8]);
        seed.copy_from_slice(&whole[8..]);
        Self {
            millis: u64::from_be_bytes(millis),
            seed,
            repeated: true,
        }
    }

    /// When the first request with this seed began, where this one repeats it: what it does may have happened.
    pub(crate) fn repeats(&self) -> Option<Timestamp> {
        let millis = i64::try_from(self.millis).unwrap_or(i64::MAX);
        self.repeated.then(|| Timestamp::from_millis(millis))
    }

    /// The source for the n-th of several like things.
    pub(crate) fn nth(&self, n: usize) -> Self {
        self.part(&format!("nth/{n}"))
    }

    /// The source for one of several things, by its name.
    pub(crate) fn apart(&self, name: &str) -> Self {
        self.part(&format!("apart/{name}"))
    }

    fn part(&self, name: &str) -> Self {
        Self {
            millis: self.millis,
            seed: self.secret(name),
            repeated: self.repeated,
        }
    }

    /// The ULID of this name.
    pub(crate) fn ulid(&self, name: &str) -> Ulid {
        let drawn = self.secret(&format!("ulid/{name}"));
        let mut random = [0; 16];
        random.copy_from_slice(&drawn[..16]);
        let random = u128::from_be_bytes(random) >> (u128::BITS - RANDOM_BITS);
        Ulid::from_parts(self.millis, random)
    }

    /// The 32 bytes of this name: HMAC-SHA-256 of it under the seed.
    pub(crate) fn secret(&self, name: &str) -> Zeroizing<[u8; 32]> {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.seed.as_slice()).expect("any key fits");
        mac.update(name.as_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_draws_the_same_by_name_and_another_does_not() {
        let draw = Draw::fresh();
        let again = draw.clone();
        assert_eq!(draw.ulid("user"), again.ulid("user"));
        assert_eq!(draw.secret("key"), again.secret("key"));
        assert_eq!(draw.nth(3).ulid("user"), again.nth(3).ulid("user"));
        let all = [
            draw.ulid("user"),
            draw.ulid("role"),
            draw.nth(0).ulid("user"),
            draw.nth(1).ulid("user"),
            Draw::fresh().ulid("user"),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn a_repeated_request_draws_the_same() {
        let first = Draw::fresh();
        let again = Draw::again(&first.seed());
        assert_eq!(first.nth(2).ulid("user"), again.nth(2).ulid("user"));
        assert_eq!((first.repeats(), first.nth(1).repeats()), (None, None));
        let begun = i64::try_from(first.millis).unwrap();
        assert_eq!(again.nth(1).repeats(), Some(Timestamp::from_millis(begun)));
    }

    #[test]
    fn ids_carry_the_time_of_the_seed() {
        let draw = Draw::fresh();
        assert_eq!(draw.ulid("user").timestamp_ms(), draw.millis);
    }
}
