//! When to try again: the retry schedule of deliveries, and the waits of this process when a part of its
//! surroundings is away.
//!
//! The crate `backoff` (exponential waits with jitter) stays behind this module.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use domain::endpoint::policy::{InvalidWait, RetryPolicy, RetrySchedule, TooManyWaits, Wait};

use backoff::SystemClock;
use backoff::backoff::Backoff as _;
use backoff::exponential::ExponentialBackoff;

/// How far a wait may lie from the schedule, to either side, in per cent: retries of one moment spread out.
const JITTER: u32 = 15;
/// The latest a receiver's `Retry-After` can put an attempt off.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);

/// Why a text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    /// A step that is no wait.
    #[error(transparent)]
    Step(#[from] InvalidWait),
    /// Too many steps.
    #[error(transparent)]
    TooMany(#[from] TooManyWaits),
}

/// The waits between the attempts of a delivery: after `n` waits there are `n + 1` attempts.
///
/// In text `5s,5m,30m,2h`; the empty text is a schedule without retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Vec<Wait>);

impl Schedule {
    /// How long to wait after the attempt of this number (from 1) failed; none when it was the last.
    ///
    /// A receiver's `Retry-After` can put the next attempt off, by a day at most, never bring it forward: or one
    /// that answers `Retry-After: 0` would be called at once, over and over.
    ///
    /// What the endpoint's policy says of waits comes before this schedule.
    pub fn next(
        &self,
        policy: &RetryPolicy,
        attempt: u32,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        let waits = policy
            .schedule
            .as_ref()
            .map_or(self.0.as_slice(), RetrySchedule::waits);
        let index = usize::try_from(attempt).ok()?.checked_sub(1)?;
        let jitter = policy.jitter.map_or(JITTER, u32::from);
        let wait = jittered(waits.get(index)?.get(), jitter);
        Some(retry_after.map_or(wait, |asked| wait.max(asked.min(LONGEST_RETRY_AFTER))))
    }
}

impl Default for Schedule {
    /// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h: ten attempts over about three days.
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        let seconds = [
            5,
            5 * MINUTE,
            30 * MINUTE,
            2 * HOUR,
            5 * HOUR,
            10 * HOUR,
            14 * HOUR,
            20 * HOUR,
            24 * HOUR,
        ];
        Self(seconds.map(Wait::seconds).to_vec())
    }
}

impl FromStr for Schedule {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        if text.trim().is_empty() {
            return Ok(Self(Vec::new()));
        }
        let waits = text
            .split(',')
            .map(str::parse)
            .collect::<Result<Vec<Wait>, _>>()?;
        Ok(Self(RetrySchedule::try_from(waits)?.into()))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, wait) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "," };
            write!(f, "{separator}{wait}")?;
        }
        Ok(())
    }
}

fn jittered(wait: Duration, per_cent: u32) -> Duration {
    let mut policy = ExponentialBackoff::<SystemClock> {
        current_interval: wait,
        initial_interval: wait,
        max_interval: wait,
        randomization_factor: f64::from(per_cent) / 100.0,
        multiplier: 1.0,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    policy.next_backoff().unwrap_or(wait)
}

/// Growing waits while something around this process is away: from a tenth of a second to ten seconds, for ever.
#[derive(Debug)]
pub(crate) struct Waits(ExponentialBackoff<SystemClock>);

impl Waits {
    pub(crate) fn new() -> Self {
        let first = Duration::from_millis(100);
        Self(ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            max_interval: Duration::from_secs(10),
            randomization_factor: 0.3,
            multiplier: 2.0,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    /// All is well: the next wait will be the shortest.
    pub(crate) fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the installation has it.
    fn installation() -> RetryPolicy {
        RetryPolicy::default()
    }

    #[test]
    fn a_schedule_reads_as_it_prints() {
        for text in ["", "5s", "5s,5m,30m,2h", "250ms,1d", "0ms", "90s"] {
            assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
        }
        assert_eq!(Schedule::default().to_string(), "5s,5m,30m,2h,5h,10h,14h,20h,1d");
        assert_eq!(" 5s , 5m ".parse::<Schedule>().unwrap().to_string(), "5s,5m");
    }

    #[test]
    fn each_refusal_names_its_reason() {
        for text in [
            "5",
            "s",
            "5 s",
            "-5s",
            "5s,",
            ",",
            "5w",
            "1.5s",
            "99999999999999999999s",
        ] {
            assert!(
                matches!(
                    text.parse::<Schedule>(),
                    Err(InvalidSchedule::Step(InvalidWait::Malformed(_)))
                ),
                "{text:?} was accepted"
            );
        }
        assert_eq!(
            "31d".parse::<Schedule>(),
            Err(InvalidSchedule::Step(InvalidWait::TooLong("31d".into())))
        );
        assert_eq!(
            ["1s"; 51].join(",").parse::<Schedule>(),
            Err(InvalidSchedule::TooMany(TooManyWaits))
        );
        assert!(["1s"; 50].join(",").parse::<Schedule>().is_ok());
    }

    #[test]
    fn waits_lie_around_the_step_and_end_after_the_last() {
        let schedule: Schedule = "10s,1h".parse().unwrap();
        let waits: Vec<f64> = (0..200)
            .map(|_| schedule.next(&installation(), 1, None).unwrap().as_secs_f64())
            .collect();
        assert!(waits.iter().all(|wait| (8.5..=11.51).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait < 9.5) && waits.iter().any(|wait| *wait > 10.5));
        assert!(schedule.next(&installation(), 2, None).unwrap() > Duration::from_mins(50));
        assert_eq!(schedule.next(&installation(), 3, None), None);
        assert_eq!(schedule.next(&installation(), 0, None), None);
        assert_eq!(
            schedule.next(&installation(), u32::MAX, Some(Duration::from_secs(1))),
            None
        );
    }

    #[test]
    fn a_policy_of_waits_comes_before_the_schedule() {
        let schedule: Schedule = "10s,1h".parse().unwrap();
        let exact: RetryPolicy =
            serde_json::from_value(serde_json::json!({ "retry_schedule": ["7s"], "retry_jitter": 0 }))
                .unwrap();
        assert_eq!(schedule.next(&exact, 1, None), Some(Duration::from_secs(7)));
        assert_eq!(schedule.next(&exact, 2, None), None);
        let wide: RetryPolicy = serde_json::from_value(serde_json::json!({ "retry_jitter": 50 })).unwrap();
        let waits: Vec<f64> = (0..200)
            .map(|_| schedule.next(&wide, 1, None).unwrap().as_secs_f64())
            .collect();
        assert!(waits.iter().all(|wait| (5.0..=15.01).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait < 8.0) && waits.iter().any(|wait| *wait > 12.0));
    }

    #[test]
    fn retry_after_puts_off_within_bounds_and_never_brings_forward() {
        let schedule: Schedule = "10s".parse().unwrap();
        let next = |seconds| {
            schedule
                .next(&installation(), 1, Some(Duration::from_secs(seconds)))
                .unwrap()
        };
        assert!(next(0) >= Duration::from_millis(8_500));
        assert_eq!(next(600), Duration::from_mins(10));
        assert_eq!(next(u64::MAX), LONGEST_RETRY_AFTER);
    }

    #[test]
    fn waits_grow_to_a_limit_and_start_anew() {
        let mut waits = Waits::new();
        assert!(waits.next() < Duration::from_millis(200));
        for _ in 0..20 {
            waits.next();
        }
        assert!(waits.next() > Duration::from_secs(5));
        assert!(waits.next() < Duration::from_secs(14));
        waits.reset();
        assert!(waits.next() < Duration::from_millis(200));
    }
}
