//! When failed attempts are made again.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Bounded;

/// How far a wait may lie from the schedule to either side, in per cent: 0 to 50.
pub type Jitter = Bounded<0, 50>;

/// The longest wait.
const LONGEST: Duration = Duration::from_hours(30 * 24);

/// When failed attempts are made again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// The waits between attempts; none: the installation's.
    #[serde(default, rename = "retry_schedule", skip_serializing_if = "Option::is_none")]
    pub schedule: Option<RetrySchedule>,
    /// How far waits may lie from the schedule; none: the installation's.
    #[serde(default, rename = "retry_jitter", skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Jitter>,
}

/// Why a text is not a wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWait {
    /// Not a whole number and a unit.
    #[error("`{0}` is not a wait: write a whole number and one of ms, s, m, h, d, such as 5s")]
    Malformed(String),
    /// Above 30 days.
    #[error("`{0}` is longer than 30 days")]
    TooLong(String),
}

/// A wait between two attempts, as `5s`, `5m` or `2h`: at most 30 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Wait(Duration);

impl Wait {
    /// A wait of whole seconds, up to 30 days.
    pub fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds).min(LONGEST))
    }

    /// How long it is.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Wait {
    type Err = InvalidWait;

    fn from_str(text: &str) -> Result<Self, InvalidWait> {
        let text = text.trim();
        let invalid = || InvalidWait::Malformed(text.chars().take(32).collect());
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let millis_per_unit = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(invalid()),
        };
        let wait = Duration::from_millis(number.saturating_mul(millis_per_unit));
        if wait > LONGEST {
            return Err(InvalidWait::TooLong(text.to_owned()));
        }
        Ok(Self(wait))
    }
}

impl TryFrom<String> for Wait {
    type Error = InvalidWait;

    fn try_from(text: String) -> Result<Self, InvalidWait> {
        text.parse()
    }
}

impl From<Wait> for String {
    fn from(wait: Wait) -> Self {
        wait.to_string()
    }
}

/// In the greatest unit in which it is a whole number.
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        let millis = self.0.as_millis();
        let (size, unit) = units
            .into_iter()
            .find(|(size, _)| millis > 0 && millis.is_multiple_of(*size))
            .unwrap_or((1, "ms"));
        write!(f, "{}{unit}", millis / size)
    }
}

/// More waits than a schedule holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a schedule has at most {} waits", RetrySchedule::MAX)]
pub struct TooManyWaits;

/// The waits between the attempts of a delivery: after `n` waits there are `n + 1` attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Wait>", into = "Vec<Wait>")]
pub struct RetrySchedule(Vec<Wait>);

impl RetrySchedule {
    /// The most waits.
    pub const MAX: usize = 50;

    /// The waits, the first first.
    pub fn waits(&self) -> &[Wait] {
        &self.0
    }
}

impl TryFrom<Vec<Wait>> for RetrySchedule {
    type Error = TooManyWaits;

    fn try_from(waits: Vec<Wait>) -> Result<Self, TooManyWaits> {
        if waits.len() > Self::MAX {
            return Err(TooManyWaits);
        }
        Ok(Self(waits))
    }
}

impl From<RetrySchedule> for Vec<Wait> {
    fn from(schedule: RetrySchedule) -> Self {
        schedule.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_reads_as_it_prints() {
        for text in ["0ms", "250ms", "90s", "5m", "2h", "1d", "30d"] {
            assert_eq!(text.parse::<Wait>().unwrap().to_string(), text);
        }
        assert_eq!("3600s".parse::<Wait>().unwrap().to_string(), "1h");
        assert_eq!(Wait::seconds(u64::MAX).to_string(), "30d");
    }

    #[test]
    fn what_is_no_wait_is_refused() {
        for text in ["", "5", "s", "5 s", "-5s", "5w", "1.5s", "99999999999999999999s"] {
            assert!(
                matches!(text.parse::<Wait>(), Err(InvalidWait::Malformed(_))),
                "{text:?} was accepted"
            );
        }
        assert_eq!("31d".parse::<Wait>(), Err(InvalidWait::TooLong("31d".into())));
    }
}
