//! Which fault comes next.

use super::super::dice::Dice;
use crate::service::Engine;

/// Faults after which the service is another process.
const RESTARTING: &[&str] = &["service-kill", "worker-kill"];

/// Faults that its process lives through, on the embedded engine.
const EMBEDDED: &[&str] = &["log-locked", "receiver-down"];

/// The same on the cluster engine.
const CLUSTER: &[&str] = &[
    "nats-kill",
    "nats-pause",
    "nats-lost-ack",
    "nats-slow",
    "nats-half-open",
    "nats-reset",
    "nats-refused",
    "postgres-lost-ack",
    "postgres-slow",
    "postgres-half-open",
    "postgres-reset",
    "postgres-stop",
    "postgres-kill",
    "postgres-pause",
    "projector-pause",
    "receiver-down",
];

/// Those of all these that may last for longer than ten seconds: silences, and the lease of a webhook under way.
const SLOW: &[&str] = &[
    "worker-kill",
    "nats-pause",
    "nats-half-open",
    "postgres-half-open",
    "postgres-pause",
    "projector-pause",
];

/// Deals the faults of an engine, each of them before any comes again. Cases that let clients rest, that name their
/// values themselves (they could not come twice), or that take a disk of their own are not among them. Nor is
/// `service-term`: where requests never pause, one may reach a listener that is closing, and whether it was accepted
/// is not told.
#[derive(Debug)]
pub(super) struct Deck {
    dice: Dice,
    restarting: Pile,
    living: Pile,
}

impl Deck {
    /// All faults of an engine, or only those that are over in seconds.
    pub(super) fn new(engine: Engine, quick: bool, seed: u64) -> Self {
        let of = |all: &[&'static str]| {
            let wanted = all.iter().filter(|name| !quick || !SLOW.contains(name));
            Pile {
                all: wanted.copied().collect(),
                left: Vec::new(),
            }
        };
        Self {
            dice: Dice::new(seed, "deck"),
            restarting: of(RESTARTING),
            living: of(match engine {
                Engine::Embedded => EMBEDDED,
                Engine::Cluster => CLUSTER,
            }),
        }
    }

    /// The next fault; while it may restart the service, every other one does.
    pub(super) fn deal(&mut self, may_restart: bool) -> &'static str {
        if may_restart && self.dice.percent(50) {
            self.restarting.take(&mut self.dice)
        } else {
            self.living.take(&mut self.dice)
        }
    }
}

/// Faults of a kind, and which of them did not come yet.
#[derive(Debug)]
struct Pile {
    all: Vec<&'static str>,
    left: Vec<&'static str>,
}

impl Pile {
    /// Takes one out of what is left, which is all again when it is empty.
    fn take(&mut self, dice: &mut Dice) -> &'static str {
        if self.left.is_empty() {
            self.left.extend(&self.all);
        }
        let place = dice.number(0..self.left.len() as u64);
        self.left.swap_remove(usize::try_from(place).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::faults::cases;

    #[test]
    fn every_fault_comes_before_any_comes_again_and_is_a_case_of_its_engine() {
        for (engine, all) in [(Engine::Embedded, EMBEDDED), (Engine::Cluster, CLUSTER)] {
            let mut deck = Deck::new(engine, false, 7);
            for _ in 0..3 {
                let dealt: BTreeSet<_> = all.iter().map(|_| deck.deal(false)).collect();
                assert_eq!(dealt, all.iter().copied().collect());
            }
            for name in all.iter().chain(RESTARTING) {
                let case = cases::find(name).unwrap();
                assert!(case.engines.contains(&engine) && case.breaks.is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn only_where_it_may_is_the_service_started_anew() {
        let mut deck = Deck::new(Engine::Embedded, false, 7);
        let dealt: BTreeSet<_> = (0..40).map(|_| deck.deal(true)).collect();
        assert!(RESTARTING.iter().all(|name| dealt.contains(name)), "{dealt:?}");
        let dealt: BTreeSet<_> = (0..40).map(|_| deck.deal(false)).collect();
        assert!(RESTARTING.iter().all(|name| !dealt.contains(name)), "{dealt:?}");
    }

    #[test]
    fn a_quick_deck_has_nothing_slow() {
        for engine in [Engine::Embedded, Engine::Cluster] {
            let mut deck = Deck::new(engine, true, 7);
            let dealt: BTreeSet<_> = (0..80).map(|number| deck.deal(number % 2 == 0)).collect();
            assert!(SLOW.iter().all(|name| !dealt.contains(name)), "{dealt:?}");
            assert!(dealt.contains("service-kill") && dealt.len() > 2, "{dealt:?}");
        }
    }
}
