//! When an endpoint that fails is left alone for a while.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Bounded;

/// Whether an endpoint has a circuit breaker of its own making. In JSON `false`, or an object of the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerPolicy {
    /// It has none: its jobs are tried whatever becomes of others.
    Off,
    /// It has this one.
    On(BreakerRule),
}

/// When the breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerRule {
    /// The part of attempts that must have failed, in per cent: 1 to 100.
    pub failure_percent: Bounded<1, 100>,
    /// How many attempts there must have been at least: 1 to 1,000.
    pub minimum: Bounded<1, 1_000>,
    /// Over how many seconds attempts are counted: 1 to 3,600.
    pub window_seconds: Bounded<1, 3_600>,
    /// For how many seconds nothing is tried then: 1 to 3,600.
    pub open_seconds: Bounded<1, 3_600>,
}

impl Default for BreakerRule {
    /// Half of at least ten attempts within a minute; half a minute of rest.
    fn default() -> Self {
        Self {
            failure_percent: Bounded::fixed::<50>(),
            minimum: Bounded::fixed::<10>(),
            window_seconds: Bounded::fixed::<60>(),
            open_seconds: Bounded::fixed::<30>(),
        }
    }
}

impl Serialize for BreakerPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::On(rule) => rule.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for BreakerPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Policy;

        impl<'de> Visitor<'de> for Policy {
            type Value = BreakerPolicy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("false or an object")
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<BreakerPolicy, E> {
                if on {
                    return Err(E::custom("must be false or an object, which may be empty"));
                }
                Ok(BreakerPolicy::Off)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BreakerPolicy, A::Error> {
                BreakerRule::deserialize(MapAccessDeserializer::new(map)).map(BreakerPolicy::On)
            }
        }

        deserializer.deserialize_any(Policy)
    }
}
