//! How projections are named.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text cannot name a projection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 40 of a-z and _, such as `api_keys`")]
pub struct InvalidProjectionName;

/// A projection's name, as `api_keys`: 1 to 40 of a-z and _. Whether there is such a projection, the program that
/// runs it knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProjectionName(String);

impl ProjectionName {
    const MAX: usize = 40;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProjectionName {
    type Error = InvalidProjectionName;

    fn try_from(text: String) -> Result<Self, InvalidProjectionName> {
        let fits = (1..=Self::MAX).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            Ok(Self(text))
        } else {
            Err(InvalidProjectionName)
        }
    }
}

impl FromStr for ProjectionName {
    type Err = InvalidProjectionName;

    fn from_str(text: &str) -> Result<Self, InvalidProjectionName> {
        Self::try_from(text.to_owned())
    }
}

impl From<ProjectionName> for String {
    fn from(name: ProjectionName) -> Self {
        name.0
    }
}

impl fmt::Display for ProjectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_lower_case_word() {
        assert_eq!("api_keys".parse::<ProjectionName>().unwrap().as_str(), "api_keys");
        for text in ["", "Audit", "a.b", "a b", "*", "ä", &"a".repeat(41)] {
            assert!(text.parse::<ProjectionName>().is_err(), "{text:?} was accepted");
        }
    }
}
