//! How fast a lane moves, and when the jobs it sends away shall come back: each at a time of its own, spaced as the
//! lane moves, so that a long backlog comes back at the pace at which it can be taken and is sent away seldom twice.

use std::time::{Duration, Instant};

/// A try that lasts as long as this is slow, and so is a lane whose tries last as long on the average.
pub(super) const SLOW: Duration = Duration::from_millis(500);
/// How long a try is taken to last before one has ended: short, since who comes back too early costs little.
const FIRST_GUESS: Duration = Duration::from_millis(5);
/// The shortest time a job is sent away for.
pub(super) const AWAY_MIN: Duration = Duration::from_millis(50);
/// The widest space between two jobs of a lane that is slow or closed: when it recovers they shall not be far.
const WIDEST: Duration = Duration::from_millis(100);
/// How far ahead jobs are given times: not far where the pace is not known yet, further where it is, and furthest where
/// coming back in vain is what costs. When that time is full, another round begins in its second half.
const AHEAD_UNKNOWN: Duration = Duration::from_secs(2);
const AHEAD_QUICK: Duration = Duration::from_mins(1);
const AHEAD_SLOW: Duration = Duration::from_mins(15);

/// What is known of a lane's speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speed {
    /// No try of it has ended.
    Unknown,
    Quick,
    Slow,
}

/// One lane's pace.
#[derive(Debug)]
pub(super) struct Pace {
    /// How long the receiver takes, on the average of the last tries; nothing before one has ended.
    took: Option<Duration>,
    /// When the next job to be sent away shall come back.
    next: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            took: None,
            next: now,
        }
    }

    /// A try has ended.
    pub(super) fn took(&mut self, time: Duration) {
        self.took = Some(self.took.map_or(time, |took| (took * 3 + time) / 4));
    }

    /// A try has not ended by now.
    pub(super) fn lasts(&mut self, time: Duration) {
        self.took = Some(self.took.map_or(time, |took| took.max(time)));
    }

    pub(super) fn speed(&self) -> Speed {
        match self.took {
            None => Speed::Unknown,
            Some(took) if took >= SLOW => Speed::Slow,
            Some(_) => Speed::Quick,
        }
    }

    /// From one place that becomes free to the next, of so many.
    pub(super) fn interval(&self, places: u32) -> Duration {
        self.took.unwrap_or(FIRST_GUESS) / places.max(1)
    }

    /// For how long a job is sent away: until `earliest` at least, where the lane is closed until then.
    pub(super) fn send_away(
        &mut self,
        interval: Duration,
        earliest: Option<Instant>,
        now: Instant,
    ) -> Duration {
        let (space, ahead) = match (self.speed(), earliest) {
            // A little early, should it have been misjudged.
            (Speed::Unknown, None) => (interval * 3 / 4, AHEAD_UNKNOWN),
            (Speed::Quick, None) => (interval * 3 / 4, AHEAD_QUICK),
            (Speed::Slow, None) | (_, Some(_)) => ((interval * 3 / 4).min(WIDEST), AHEAD_SLOW),
        };
        let first = earliest.unwrap_or(now).max(now + AWAY_MIN);
        let mut back = self.next.max(first);
        if back > first + ahead {
            back = first + ahead / 2;
        }
        self.next = back + space;
        back.saturating_duration_since(now)
    }

    /// Whether nobody is to come back.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.next <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_come_back_at_the_pace_of_the_lane() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.took(Duration::from_millis(400));
        let interval = pace.interval(4);
        let waits: Vec<_> = (0..100).map(|_| pace.send_away(interval, None, now)).collect();
        assert_eq!(waits[0], AWAY_MIN);
        assert!(
            waits
                .windows(2)
                .all(|pair| pair[1].checked_sub(pair[0]).unwrap() == Duration::from_millis(75))
        );
        assert_eq!(pace.speed(), Speed::Quick);
    }

    #[test]
    fn before_a_closed_lane_they_come_when_it_opens() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let opens = now + Duration::from_secs(30);
        let mut send_away = || pace.send_away(Duration::from_secs(5), Some(opens), now);
        assert_eq!(send_away(), Duration::from_secs(30));
        assert_eq!(send_away(), Duration::from_secs(30) + WIDEST);
    }

    #[test]
    fn a_million_are_bounded_in_time_and_spread_over_it() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.lasts(SLOW);
        assert_eq!(pace.speed(), Speed::Slow);
        let interval = pace.interval(1);
        let waits = (0..1_000_000).map(|_| pace.send_away(interval, None, now));
        let mut by_second = vec![0_u32; 1_000];
        for wait in waits {
            assert!(wait >= AWAY_MIN && wait <= AHEAD_SLOW + AWAY_MIN);
            by_second[usize::try_from(wait.as_secs()).unwrap()] += 1;
        }
        let most = by_second.iter().max().unwrap();
        assert!(*most < 2_500, "{most} come back within one second");
    }

    #[test]
    fn a_receiver_that_recovers_is_quick_again_after_some_tries() {
        let mut pace = Pace::new(Instant::now());
        pace.took(Duration::from_secs(15));
        let tries = (1..100).find(|_| {
            pace.took(Duration::from_millis(5));
            pace.speed() == Speed::Quick
        });
        assert!(tries.is_some_and(|tries| tries < 20), "{tries:?}");
    }
}
