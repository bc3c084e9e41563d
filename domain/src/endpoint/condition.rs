//! A condition on a message's data, in JSON: which messages of the types it wants an endpoint gets.
//!
//! ```json
//! { "all": [
//!   { "path": "/amount", "at_least": 100 },
//!   { "any": [ { "path": "/country", "in": ["CH", "AT"] }, { "path": "/tags", "contains": "urgent" } ] },
//!   { "not": { "path": "/test", "equals": true } }
//! ] }
//! ```
//!
//! A condition is one of `{"all": [conditions]}`, `{"any": [conditions]}`, `{"not": condition}`, and a test of one place:
//! `path`, a JSON Pointer, with exactly one of the [`Test`]s. It is true or false of any JSON whatever, takes time in
//! proportion to itself and what it looks at, and changes nothing.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pointer::JsonPointer;

mod form;
mod test;

pub use test::{Limit, Test};

/// A condition that is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCondition {
    /// Conditions in conditions in conditions.
    #[error("conditions may lie at most {} deep in each other", ContentFilter::MAX_DEPTH)]
    TooDeep,
    /// Too many of them.
    #[error("a filter holds at most {} conditions", ContentFilter::MAX_CONDITIONS)]
    TooMany,
    /// Too long in all.
    #[error("a filter is at most {} bytes of JSON", ContentFilter::MAX_BYTES)]
    TooLong,
}

/// What is asked of a message's data.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// All of these are so; of none, it is so.
    All(Vec<Condition>),
    /// One of these is so; of none, it is not so.
    Any(Vec<Condition>),
    /// This is not so.
    Not(Box<Condition>),
    /// What stands at a place passes a test.
    Place {
        /// Where.
        path: JsonPointer,
        /// What is asked of it.
        test: Test,
    },
}

impl Condition {
    /// Whether it is so of these data.
    pub fn holds(&self, data: &Value) -> bool {
        match self {
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(data)),
            Self::Any(conditions) => conditions.iter().any(|condition| condition.holds(data)),
            Self::Not(condition) => !condition.holds(data),
            Self::Place { path, test } => test.passes(path.find(data)),
        }
    }

    /// How deep its conditions lie in each other, and how many they are.
    fn measure(&self) -> (usize, usize) {
        let inner = match self {
            Self::All(conditions) | Self::Any(conditions) => conditions.as_slice(),
            Self::Not(condition) => std::slice::from_ref(condition.as_ref()),
            Self::Place { .. } => &[],
        };
        let within = inner.iter().map(Self::measure);
        let (depth, count) = within.fold((0, 0), |(depth, count), (its_depth, its_count)| {
            (depth.max(its_depth), count + its_count)
        });
        (depth + 1, count + 1)
    }
}

/// A condition of bounded size on a message's data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Condition", into = "Condition")]
pub struct ContentFilter(Condition);

impl ContentFilter {
    /// How deep conditions may lie in each other.
    pub const MAX_DEPTH: usize = 8;
    /// The most conditions.
    pub const MAX_CONDITIONS: usize = 100;
    /// The most bytes of its JSON.
    pub const MAX_BYTES: usize = 8_192;

    /// Whether an endpoint with this filter gets a message of these data.
    pub fn lets_through(&self, data: &Value) -> bool {
        self.0.holds(data)
    }
}

impl TryFrom<Condition> for ContentFilter {
    type Error = InvalidCondition;

    fn try_from(condition: Condition) -> Result<Self, InvalidCondition> {
        let (depth, count) = condition.measure();
        if depth > Self::MAX_DEPTH {
            return Err(InvalidCondition::TooDeep);
        }
        if count > Self::MAX_CONDITIONS {
            return Err(InvalidCondition::TooMany);
        }
        let length = serde_json::to_vec(&condition).map_or(usize::MAX, |json| json.len());
        if length > Self::MAX_BYTES {
            return Err(InvalidCondition::TooLong);
        }
        Ok(Self(condition))
    }
}

impl From<ContentFilter> for Condition {
    fn from(filter: ContentFilter) -> Self {
        filter.0
    }
}

#[cfg(test)]
mod tests;
