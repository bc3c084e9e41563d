//! How far a run has come in this process, and how fast it is at this moment.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Over how long the rate is taken.
const WINDOW: Duration = Duration::from_secs(5);

/// What a run of this process has gone past.
#[derive(Debug, Default)]
pub(super) struct Tally {
    passed: AtomicU64,
    pace: Mutex<Pace>,
}

impl Tally {
    /// Folding begins, after something else.
    pub(super) fn start(&self) {
        self.pace().start(Instant::now(), self.passed());
    }

    /// How many records.
    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// So many more; answers how many there were a second lately.
    pub(super) fn pass(&self, records: u64) -> u64 {
        let passed = self.passed.fetch_add(records, Ordering::Relaxed) + records;
        self.pace().rate(Instant::now(), passed)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was gone past when, over the last seconds of folding.
#[derive(Debug, Default)]
struct Pace {
    seen: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// Folding begins, after something else.
    fn start(&mut self, now: Instant, passed: u64) {
        self.seen.clear();
        self.seen.push_back((now, passed));
    }

    /// The records a second over the last seconds; 0 before there is anything to tell.
    fn rate(&mut self, now: Instant, passed: u64) -> u64 {
        self.seen.push_back((now, passed));
        // The one before the window is kept, so that it is never shorter than it is long.
        while let Some((second, _)) = self.seen.get(1)
            && now.duration_since(*second) >= WINDOW
        {
            self.seen.pop_front();
        }
        let Some((began, before)) = self.seen.front() else {
            return 0;
        };
        let micros = now.duration_since(*began).as_micros();
        let passed = u128::from(passed.saturating_sub(*before)) * 1_000_000;
        let rate = passed.checked_div(micros).unwrap_or_default();
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let (began, mut pace) = (Instant::now(), Pace::default());
        let at = |seconds| began + Duration::from_secs(seconds);
        pace.start(began, 0);
        assert_eq!(pace.rate(began, 0), 0);
        assert_eq!(pace.rate(at(1), 1_000), 1_000);
        assert_eq!(pace.rate(at(2), 2_000), 1_000);
        // Four seconds later it has become slow, and after ten nothing is left of the quick beginning.
        assert_eq!(pace.rate(at(6), 2_040), (2_040 - 1_000) / 5);
        assert_eq!(pace.rate(at(7), 2_050), 10);
        assert_eq!(pace.rate(at(12), 2_100), 10);
        // What was gone past before a pause does not count after it.
        pace.start(at(100), 2_100);
        assert_eq!(pace.rate(at(101), 2_600), 500);
    }
}
