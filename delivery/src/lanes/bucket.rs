//! The token bucket behind a rate limit: each try takes a token, and tokens come back at the rate's pace.

use std::time::{Duration, Instant};

use super::rules::Rate;

/// The tokens of one lane.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Full.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tokens: f64::INFINITY,
            at: now,
        }
    }

    /// How long it takes until there is a token; nothing where there is one.
    pub(super) fn wait(&mut self, rate: Rate, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * rate.per_second).min(rate.burst.max(1.0));
        self.at = now;
        // Rounding must not make the last of many parts of a token missing.
        let missing = 1.0 - self.tokens;
        (missing > 1e-6).then(|| Duration::from_secs_f64((missing / rate.per_second).min(86_400.0)))
    }

    /// Whether it is as a new one.
    pub(super) fn is_full(&mut self, rate: Rate, now: Instant) -> bool {
        self.wait(rate, now).is_none() && self.tokens >= rate.burst
    }

    /// Takes one that [`Bucket::wait`] found there.
    pub(super) fn take(&mut self) {
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10.0,
        burst: 3.0,
    };

    fn take(bucket: &mut Bucket, now: Instant) -> bool {
        let there = bucket.wait(RATE, now).is_none();
        if there {
            bucket.take();
        }
        there
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let at_once = (0..10).filter(|_| take(&mut bucket, start)).count();
        assert_eq!(at_once, 3);
        let wait = bucket.wait(RATE, start).unwrap();
        assert_eq!(wait.as_millis(), 100);
        let later = (1..=1_000).filter(|ms| take(&mut bucket, start + Duration::from_millis(*ms)));
        assert_eq!(later.count(), 10);
    }

    #[test]
    fn no_more_than_the_burst_is_saved_up() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let much_later = start + Duration::from_hours(24);
        assert_eq!((0..10).filter(|_| take(&mut bucket, much_later)).count(), 3);
    }
}
