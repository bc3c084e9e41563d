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

/// Deals the faults of an engine, each of them before any comes again. Cases that let clients rest, that name their
/// values themselves (they could not come twice), or that take a disk of their own are not among them.
#[derive(Debug)]
pub(super) struct Deck {
    engine: Engine,
    dice: Dice,
    restarting: Vec<&'static str>,
    living: Vec<&'static str>,
}

impl Deck {
    pub(super) fn new(engine: Engine, seed: u64) -> Self {
        Self {
            engine,
            dice: Dice::new(seed, "deck"),
            restarting: Vec::new(),
            living: Vec::new(),
        }
    }

    /// The next fault; while it may restart the service, every other one does.
    pub(super) fn deal(&mut self, may_restart: bool) -> &'static str {
        if may_restart && self.dice.percent(50) {
            return take(&mut self.restarting, RESTARTING, &mut self.dice);
        }
        let all = match self.engine {
            Engine::Embedded => EMBEDDED,
            Engine::Cluster => CLUSTER,
        };
        take(&mut self.living, all, &mut self.dice)
    }
}

/// Takes one out of what is left, which is all again when it is empty.
fn take(left: &mut Vec<&'static str>, all: &'static [&'static str], dice: &mut Dice) -> &'static str {
    if left.is_empty() {
        left.extend(all);
    }
    let place = dice.number(0..left.len() as u64);
    left.swap_remove(usize::try_from(place).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::faults::cases;

    #[test]
    fn every_fault_comes_before_any_comes_again_and_is_a_case_of_its_engine() {
        for (engine, all) in [(Engine::Embedded, EMBEDDED), (Engine::Cluster, CLUSTER)] {
            let mut deck = Deck::new(engine, 7);
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
        let mut deck = Deck::new(Engine::Embedded, 7);
        let dealt: BTreeSet<_> = (0..40).map(|_| deck.deal(true)).collect();
        assert!(RESTARTING.iter().all(|name| dealt.contains(name)), "{dealt:?}");
        let dealt: BTreeSet<_> = (0..40).map(|_| deck.deal(false)).collect();
        assert!(RESTARTING.iter().all(|name| !dealt.contains(name)), "{dealt:?}");
    }
}
