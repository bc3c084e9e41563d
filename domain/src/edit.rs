//! One value of many that a request may change, set back, or leave alone.

use serde::{Deserialize, Deserializer};

/// What shall become of one value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Edit<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is taken away, and the default holds.
    Reset,
    /// It is set.
    Set(T),
}

impl<T> Edit<T> {
    /// Whether it asks for nothing.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// The same for what the value is turned into.
    pub fn map<U>(self, turn: impl FnOnce(T) -> U) -> Edit<U> {
        match self {
            Self::Keep => Edit::Keep,
            Self::Reset => Edit::Reset,
            Self::Set(value) => Edit::Set(turn(value)),
        }
    }

    /// The value after it; none where the default holds.
    pub fn of(self, present: Option<T>) -> Option<T> {
        match self {
            Self::Keep => present,
            Self::Reset => None,
            Self::Set(value) => Some(value),
        }
    }
}

/// `null` resets, a value sets; with `#[serde(default)]` what is missing stays.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Edit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = Option::deserialize(deserializer)?;
        Ok(given.map_or(Self::Reset, Self::Set))
    }
}
