//! How many tries an endpoint gets at once, and how many a second.

use serde::{Deserialize, Serialize};

use crate::Bounded;

/// How many tries may be under way at once: 1 to 1,000.
pub type MaxInFlight = Bounded<1, 1_000>;
/// How many tries may begin in a second, or at once after a quiet time: 1 to 10,000.
pub type PerSecond = Bounded<1, 10_000>;

/// How many tries an endpoint gets at once, and how many a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanePolicy {
    /// How many at once; none: the installation's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<MaxInFlight>,
    /// How many a second; none: as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// How many tries may begin in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// How many in the long run.
    pub per_second: PerSecond,
    /// How many at once after a quiet time; none: those of a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<PerSecond>,
}

impl RateLimit {
    /// How many may begin at once after a quiet time.
    pub fn burst(self) -> u32 {
        self.burst.unwrap_or(self.per_second).get()
    }
}
