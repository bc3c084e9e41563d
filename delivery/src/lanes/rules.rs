//! What a lane keeps to: the endpoint's own wishes over the installation's defaults.

use std::time::Duration;

/// How fast, how many at once, and when to leave a receiver alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LaneRules {
    /// Tries at once, at least 1.
    pub in_flight: u32,
    /// How many tries may begin in a second; none: as many as there are.
    pub rate: Option<Rate>,
    /// When the lane is closed for a while; none: never.
    pub breaker: Option<BreakerRules>,
}

impl Default for LaneRules {
    /// Eight at once, as fast as they go, and the default breaker.
    fn default() -> Self {
        Self {
            in_flight: 8,
            rate: None,
            breaker: Some(BreakerRules::default()),
        }
    }
}

/// How many tries may begin in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// In the long run; above 0.
    pub per_second: f64,
    /// At once after a quiet time; at least 1.
    pub burst: f64,
}

impl Rate {
    /// From one try to the next.
    pub(super) fn interval(self) -> Duration {
        Duration::try_from_secs_f64(1.0 / self.per_second).unwrap_or(Duration::MAX)
    }
}

/// When a lane's breaker opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerRules {
    /// How many of a hundred tries must have failed.
    pub failure_percent: u32,
    /// How many tries there must have been.
    pub minimum: u32,
    /// Within what time.
    pub window: Duration,
    /// For how long it opens the first time; each time that follows it opens for twice as long.
    pub open: Duration,
}

impl Default for BreakerRules {
    /// Half of at least ten tries within a minute; half a minute of rest.
    fn default() -> Self {
        Self {
            failure_percent: 50,
            minimum: 10,
            window: Duration::from_mins(1),
            open: Duration::from_secs(30),
        }
    }
}
