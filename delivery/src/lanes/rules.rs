//! What a lane keeps to: the endpoint's own wishes over the installation's defaults.

use std::time::Duration;

use domain::Bounded;
use domain::endpoint::Policy;
use domain::endpoint::policy::{BreakerPolicy, BreakerRule, RateLimit};

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

impl LaneRules {
    /// The same, but for what an endpoint asks for.
    #[must_use]
    pub(crate) fn for_endpoint(self, policy: &Policy) -> Self {
        Self {
            in_flight: policy.lane.max_in_flight.map_or(self.in_flight, Bounded::get),
            rate: policy.lane.rate_limit.map(Rate::from).or(self.rate),
            breaker: match policy.breaker {
                None => self.breaker,
                Some(BreakerPolicy::Off) => None,
                Some(BreakerPolicy::On(rule)) => Some(rule.into()),
            },
        }
    }
}

impl From<RateLimit> for Rate {
    fn from(limit: RateLimit) -> Self {
        Self {
            per_second: limit.per_second.get().into(),
            burst: limit.burst().into(),
        }
    }
}

impl From<BreakerRule> for BreakerRules {
    fn from(rule: BreakerRule) -> Self {
        Self {
            failure_percent: rule.failure_percent.get(),
            minimum: rule.minimum.get(),
            window: Duration::from_secs(rule.window_seconds.get().into()),
            open: Duration::from_secs(rule.open_seconds.get().into()),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_endpoint_asks_for_stands_over_the_defaults() {
        let policy = |text: &str| serde_json::from_str::<Policy>(text).unwrap();
        let defaults = LaneRules::default();
        assert_eq!(defaults.for_endpoint(&policy("{}")), defaults);
        let asked = policy(
            r#"{"max_in_flight":3,"rate_limit":{"per_second":5},"breaker":{"minimum":4,"open_seconds":2}}"#,
        );
        let rules = defaults.for_endpoint(&asked);
        let rate = Rate {
            per_second: 5.0,
            burst: 5.0,
        };
        assert_eq!((rules.in_flight, rules.rate), (3, Some(rate)));
        let breaker = rules.breaker.unwrap();
        assert_eq!((breaker.minimum, breaker.open), (4, Duration::from_secs(2)));
        assert_eq!(
            defaults.for_endpoint(&policy(r#"{"breaker":false}"#)).breaker,
            None
        );
    }
}
