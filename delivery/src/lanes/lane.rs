//! One lane: what stands between an endpoint's jobs and its receiver.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use broker::Token;

use super::Verdict;
use super::breaker::{Breaker, Health, Probe};
use super::bucket::Bucket;
use super::pace::{Pace, SLOW, Speed};
use super::pressure::Pressure;
use super::rules::LaneRules;

/// Names a job that waits; later ones are greater.
pub(super) type Ticket = u64;

/// After so many first attempts in a row a retry that waits has its turn.
const AHEAD_OF_RETRIES: u32 = 4;
/// How long a lane that is slow is remembered to be, though nobody uses it.
const SLOW_REMEMBERED: Duration = Duration::from_mins(10);

/// Why no try can begin in a lane just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// Its breaker is open, until this time.
    Open(Instant),
    /// Its receiver asked to be left alone until this time.
    Resting(Instant),
    /// Its places are taken.
    Full,
    /// It has begun as many tries as its rate allows; the next may begin at this time.
    Rate(Instant),
}

impl Hindrance {
    /// Until when the lane is closed for everybody.
    pub(super) fn closed_until(self) -> Option<Instant> {
        match self {
            Self::Open(until) | Self::Resting(until) => Some(until),
            Self::Full | Self::Rate(_) => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) tenant: Token,
    pub(super) rules: LaneRules,
    /// Jobs that wait for a place: retries after first attempts, each kind in its order.
    pub(super) waiting: BTreeSet<(bool, Ticket)>,
    /// Whether the lane stands among those that could begin a try.
    pub(super) lined_up: bool,
    pace: Pace,
    bucket: Bucket,
    breaker: Breaker,
    pressure: Pressure,
    in_flight: u32,
    /// First attempts let in since the last retry.
    firsts: u32,
    used: Instant,
}

impl Lane {
    pub(super) fn new(tenant: Token, rules: LaneRules, now: Instant) -> Self {
        Self {
            tenant,
            rules,
            waiting: BTreeSet::new(),
            lined_up: false,
            pace: Pace::new(now),
            bucket: Bucket::new(now),
            breaker: Breaker::new(now),
            pressure: Pressure::new(),
            in_flight: 0,
            firsts: 0,
            used: now,
        }
    }

    pub(super) fn speed(&self) -> Speed {
        self.pace.speed()
    }

    /// Why no try can begin now, of at most so many at once.
    pub(super) fn hindrance(&mut self, share: u32, now: Instant) -> Option<Hindrance> {
        if self.rules.breaker.is_some()
            && let Some(until) = self.breaker.closed_until(now)
        {
            return Some(Hindrance::Open(until));
        }
        if let Some(until) = self.pressure.rests_until(now) {
            return Some(Hindrance::Resting(until));
        }
        if self.in_flight >= self.places().min(share) {
            return Some(Hindrance::Full);
        }
        let wait = self.rules.rate.and_then(|rate| self.bucket.wait(rate, now));
        wait.map(|wait| Hindrance::Rate(now + wait))
    }

    /// How long it takes, at the lane's pace, until the last of those that wait has had its turn.
    pub(super) fn backlog(&self) -> Duration {
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        self.interval().saturating_mul(waiting)
    }

    /// Lets the first of those that wait begin, which nothing may hinder.
    pub(super) fn let_in(&mut self, now: Instant) -> Option<(Ticket, Probe)> {
        let first = self.waiting.first().copied()?;
        let retry = self.waiting.last().copied().filter(|(late, _)| *late);
        let chosen = match retry {
            Some(_) if !first.0 && self.firsts >= AHEAD_OF_RETRIES => {
                self.waiting.range((true, 0)..).next().copied()?
            }
            _ => first,
        };
        self.firsts = if chosen.0 {
            0
        } else {
            self.firsts.saturating_add(1)
        };
        self.waiting.remove(&chosen);
        if self.rules.rate.is_some() {
            self.bucket.take();
        }
        self.in_flight += 1;
        self.used = now;
        Some((chosen.1, self.breaker.begin()))
    }

    /// A try has been under way for as long as makes it slow.
    pub(super) fn lasts(&mut self) {
        self.pace.lasts(SLOW);
    }

    /// A place is given back. Answers whether this opened the breaker.
    pub(super) fn end(
        &mut self,
        probe: Probe,
        verdict: Verdict,
        took: Option<Duration>,
        now: Instant,
    ) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.used = now;
        if let Some(took) = took {
            self.pace.took(took);
        }
        let most = self.rules.in_flight;
        match verdict {
            Verdict::Arrived => self.pressure.well(most),
            Verdict::TooMuch { asked } => self.pressure.too_much(most, asked, now),
            Verdict::Failed | Verdict::Refused | Verdict::Untried => {}
        }
        let health = match verdict {
            Verdict::Arrived => Health::Good,
            Verdict::TooMuch { .. } | Verdict::Failed => Health::Bad,
            Verdict::Refused | Verdict::Untried => Health::Unsaid,
        };
        match self.rules.breaker {
            Some(rules) => self.breaker.end(&rules, probe, health, now),
            None => false,
        }
    }

    /// For how long a job is sent away that finds the lane hindered, or its process busy.
    pub(super) fn send_away(&mut self, hindrance: Option<Hindrance>, now: Instant) -> Duration {
        let interval = self.interval();
        let earliest = hindrance.and_then(Hindrance::closed_until);
        self.pace.send_away(interval, earliest, now)
    }

    /// Whether its breaker keeps tries away.
    pub(super) fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// Whether it remembers nothing that a new one would not know.
    pub(super) fn is_idle(&mut self, now: Instant) -> bool {
        let slow = self.speed() == Speed::Slow && now < self.used + SLOW_REMEMBERED;
        let rate = self.rules.rate;
        self.waiting.is_empty()
            && self.in_flight == 0
            && !slow
            && self.breaker.is_idle(self.rules.breaker.as_ref(), now)
            && self.pressure.is_idle(self.rules.in_flight, now)
            && self.pace.is_idle(now)
            && rate.is_none_or(|rate| self.bucket.is_full(rate, now))
    }

    fn places(&self) -> u32 {
        self.pressure.places(self.rules.in_flight)
    }

    /// From one try that may begin to the next.
    fn interval(&self) -> Duration {
        let by_places = self.pace.interval(self.places());
        let by_rate = self.rules.rate.map(super::rules::Rate::interval);
        by_places.max(by_rate.unwrap_or_default())
    }
}
