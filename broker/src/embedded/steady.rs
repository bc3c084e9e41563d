//! The clock that the queue goes by, in the file's microseconds: it begins with the time of day at which this process first
//! asks, and is not changed when that is. What is free now is free when the time of day has been put back too, and who waits
//! for five seconds waits no longer.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use super::units;

/// The present.
pub(super) fn now() -> i64 {
    static BEGIN: LazyLock<(i64, Instant)> = LazyLock::new(|| (units::now(), Instant::now()));
    BEGIN.0.saturating_add(units::span(BEGIN.1.elapsed()))
}

/// When it will be so late by the time of day, as that goes now; what is past is now.
pub(super) fn at(time: SystemTime) -> i64 {
    let wait = time.duration_since(SystemTime::now()).unwrap_or_default();
    now().saturating_add(units::span(wait))
}

/// The time of day, as that goes now, when this clock comes there; what is past is now.
pub(super) fn time_of_day(at: i64) -> SystemTime {
    let wait = units::unsigned(at.saturating_sub(now()));
    SystemTime::now() + Duration::from_micros(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_as_far_from_now_on_both_clocks() {
        let near = |one: SystemTime, other: SystemTime| {
            let apart = one
                .duration_since(other)
                .unwrap_or_else(|earlier| earlier.duration());
            apart < Duration::from_secs(1)
        };
        let later = SystemTime::now() + Duration::from_mins(3);
        assert!(near(time_of_day(at(later)), later));
        let past = SystemTime::now() - Duration::from_mins(3);
        assert!(near(time_of_day(at(past)), SystemTime::now()));
        assert!(
            near(units::time(now()), SystemTime::now()),
            "it begins with the time of day"
        );
    }
}
