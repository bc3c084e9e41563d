//! The circuit breaker: a receiver that mostly fails is left alone for a while, then asked with single tries.
//!
//! Closed, it counts the tries of a window. Open, nothing is tried until a time. Half open, one try at a time is let
//! through: a few that go well in a row close it, one that fails opens it again, for twice as long.

use std::time::{Duration, Instant};

use super::rules::BreakerRules;

/// Into how many parts a window is cut; the oldest part is forgotten as a whole.
const PARTS: u32 = 10;
/// How many probes in a row must go well.
const PROBES: u32 = 2;
/// The longest it opens by growing; one that is set longer opens for that.
const LONGEST: Duration = Duration::from_mins(10);
/// While a probe is under way others come again after this time.
const PROBING: Duration = Duration::from_secs(1);

/// What a try says of its receiver's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    Bad,
    /// Nothing: it answered, and said no to this message, or it was not asked.
    Unsaid,
}

/// How a try begins: whether the breaker looks at how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe(bool);

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    tries: u32,
    bad: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { probing: bool, good: u32 },
}

/// One lane's breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// How often it has opened since it was last closed.
    opened: u32,
    parts: [Part; PARTS as usize],
    /// The part that counts now, and since when.
    part: usize,
    since: Instant,
}

impl Breaker {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Closed,
            opened: 0,
            parts: Default::default(),
            part: 0,
            since: now,
        }
    }

    /// When a try may begin, if not now.
    pub(super) fn closed_until(&mut self, now: Instant) -> Option<Instant> {
        if let State::Open { until } = self.state {
            if now < until {
                return Some(until);
            }
            self.state = State::HalfOpen {
                probing: false,
                good: 0,
            };
        }
        match self.state {
            State::HalfOpen { probing: true, .. } => Some(now + PROBING),
            _ => None,
        }
    }

    /// A try begins, which [`Breaker::closed_until`] did not forbid.
    pub(super) fn begin(&mut self) -> Probe {
        if let State::HalfOpen { probing, .. } = &mut self.state {
            *probing = true;
            return Probe(true);
        }
        Probe(false)
    }

    /// A try ends. Answers whether this opened the breaker.
    pub(super) fn end(&mut self, rules: &BreakerRules, probe: Probe, health: Health, now: Instant) -> bool {
        match (&mut self.state, probe) {
            (State::HalfOpen { probing, good }, Probe(true)) => {
                *probing = false;
                match health {
                    Health::Unsaid => {}
                    Health::Bad => return self.open(rules, now),
                    Health::Good => {
                        *good += 1;
                        if *good >= PROBES {
                            *self = Self::new(now);
                        }
                    }
                }
            }
            (State::Closed, _) => {
                self.count(rules, health, now);
                if self.too_bad(rules) {
                    return self.open(rules, now);
                }
            }
            // It began before the breaker opened, which knows already.
            (State::Open { .. } | State::HalfOpen { .. }, _) => {}
        }
        false
    }

    /// Whether it remembers nothing that a new one would not know, or nothing that matters any more.
    pub(super) fn is_idle(&self, rules: Option<&BreakerRules>, now: Instant) -> bool {
        let Some(rules) = rules else {
            return true;
        };
        let lately = match self.state {
            State::Closed => self.since + rules.window,
            State::Open { until } => until + LONGEST,
            State::HalfOpen { .. } => self.since + 2 * LONGEST.max(rules.open),
        };
        now >= lately
    }

    /// Whether it keeps tries away.
    pub(super) fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    fn open(&mut self, rules: &BreakerRules, now: Instant) -> bool {
        let grown = rules.open.saturating_mul(1 << self.opened.min(16));
        let length = grown.min(LONGEST.max(rules.open));
        *self = Self {
            state: State::Open { until: now + length },
            opened: self.opened + 1,
            ..Self::new(now)
        };
        true
    }

    fn count(&mut self, rules: &BreakerRules, health: Health, now: Instant) {
        let length = (rules.window / PARTS).max(Duration::from_millis(1));
        if now.saturating_duration_since(self.since) >= rules.window + length {
            self.parts = Default::default();
            self.since = now;
        }
        while now.saturating_duration_since(self.since) >= length {
            self.part = (self.part + 1) % self.parts.len();
            self.parts[self.part] = Part::default();
            self.since += length;
        }
        let part = &mut self.parts[self.part];
        match health {
            Health::Unsaid => {}
            Health::Good => part.tries += 1,
            Health::Bad => {
                part.tries += 1;
                part.bad += 1;
            }
        }
    }

    fn too_bad(&self, rules: &BreakerRules) -> bool {
        let tries: u32 = self.parts.iter().map(|part| part.tries).sum();
        let bad: u32 = self.parts.iter().map(|part| part.bad).sum();
        tries >= rules.minimum.max(1)
            && bad.saturating_mul(100) >= tries.saturating_mul(rules.failure_percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: BreakerRules = BreakerRules {
        failure_percent: 50,
        minimum: 4,
        window: Duration::from_secs(10),
        open: Duration::from_secs(30),
    };

    fn seconds(from: Instant, seconds: u64) -> Instant {
        from + Duration::from_secs(seconds)
    }

    fn try_once(breaker: &mut Breaker, health: Health, now: Instant) -> bool {
        assert_eq!(breaker.closed_until(now), None);
        let probe = breaker.begin();
        breaker.end(&RULES, probe, health, now)
    }

    fn opened(start: Instant) -> Breaker {
        let mut breaker = Breaker::new(start);
        assert!((0..3).all(|_| !try_once(&mut breaker, Health::Bad, start)));
        assert!(try_once(&mut breaker, Health::Bad, start));
        breaker
    }

    #[test]
    fn it_opens_by_the_part_that_failed_and_not_before_the_minimum() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.closed_until(start), Some(seconds(start, 30)));
        let mut mostly_well = Breaker::new(start);
        for _ in 0..20 {
            assert!(!try_once(&mut mostly_well, Health::Good, start));
            assert!(!try_once(&mut mostly_well, Health::Good, start));
            assert!(!try_once(&mut mostly_well, Health::Bad, start));
        }
        assert!((0..20).all(|_| !try_once(&mut mostly_well, Health::Unsaid, start)));
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let start = Instant::now();
        let mut breaker = Breaker::new(start);
        for second in [0, 4, 11, 15, 26, 40] {
            assert!(!try_once(&mut breaker, Health::Bad, seconds(start, second)));
            assert!(!try_once(&mut breaker, Health::Unsaid, seconds(start, second)));
        }
        assert!(!breaker.is_idle(Some(&RULES), seconds(start, 45)));
        assert!(breaker.is_idle(Some(&RULES), seconds(start, 51)));
    }

    #[test]
    fn half_open_it_lets_one_probe_through_at_a_time_and_closes_after_some() {
        let start = Instant::now();
        let mut breaker = opened(start);
        let later = seconds(start, 30);
        assert_eq!(breaker.closed_until(later), None);
        let probe = breaker.begin();
        assert_eq!(breaker.closed_until(later), Some(later + PROBING));
        assert!(!breaker.end(&RULES, probe, Health::Unsaid, later));
        assert!(!try_once(&mut breaker, Health::Good, later));
        assert!(breaker.is_open());
        assert!(!try_once(&mut breaker, Health::Good, later));
        assert!(!breaker.is_open());
        let (first, second) = (breaker.begin(), breaker.begin());
        assert_eq!(breaker.closed_until(later), None, "closed, it lets many through");
        assert!(!breaker.end(&RULES, first, Health::Good, later));
        assert!(!breaker.end(&RULES, second, Health::Good, later));
    }

    #[test]
    fn each_time_it_opens_for_longer_up_to_a_bound() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        let mut lengths = Vec::new();
        for _ in 0..8 {
            let until = breaker.closed_until(now).unwrap();
            lengths.push((until - now).as_secs());
            now = until;
            assert!(try_once(&mut breaker, Health::Bad, now));
        }
        assert_eq!(lengths, [30, 60, 120, 240, 480, 600, 600, 600]);
    }

    #[test]
    fn a_try_of_before_it_opened_says_nothing() {
        let start = Instant::now();
        let mut breaker = Breaker::new(start);
        let late = breaker.begin();
        for _ in 0..4 {
            try_once(&mut breaker, Health::Bad, start);
        }
        let until = breaker.closed_until(start);
        assert!(!breaker.end(&RULES, late, Health::Bad, seconds(start, 5)));
        assert_eq!(breaker.closed_until(seconds(start, 5)), until);
    }
}
