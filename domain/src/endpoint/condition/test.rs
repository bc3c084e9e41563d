//! Tests of what stands at one place of a message's data.

use std::cmp::Ordering;

use serde_json::{Number, Value};

/// What is asked of what stands at a place. Where nothing stands there, only `not_equals` and `exists: false` pass.
///
/// Numbers are compared by what they are worth: 1 equals 1.0. Nothing else is taken for another kind: the text `"1"` is
/// not the number 1, and `greater_than` and its like are false of two things that are not both numbers or both texts.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// It is this value.
    Equals(Value),
    /// It is not this value, or nothing is there.
    NotEquals(Value),
    /// It is one of these values.
    In(Vec<Value>),
    /// Something is there (`true`), be it null, or nothing is (`false`).
    Exists(bool),
    /// It is a text that begins so.
    StartsWith(String),
    /// It is a text that ends so.
    EndsWith(String),
    /// It is a text with this text in it, or a list with this value in it.
    Contains(Value),
    /// It is greater, or as a text later in the order of code points.
    GreaterThan(Limit),
    /// It is greater or equal.
    AtLeast(Limit),
    /// It is less, or as a text earlier.
    LessThan(Limit),
    /// It is less or equal.
    AtMost(Limit),
}

/// What something can be greater or less than.
#[derive(Debug, Clone, PartialEq)]
pub enum Limit {
    /// A number.
    Number(Number),
    /// A text; of times in RFC 3339 with the same offset the order is that of time.
    Text(String),
}

impl Test {
    /// Whether what stands at the place passes.
    pub fn passes(&self, found: Option<&Value>) -> bool {
        let Some(found) = found else {
            return matches!(self, Self::NotEquals(_) | Self::Exists(false));
        };
        match self {
            Self::Equals(value) => same(found, value),
            Self::NotEquals(value) => !same(found, value),
            Self::In(values) => values.iter().any(|value| same(found, value)),
            Self::Exists(wanted) => *wanted,
            Self::StartsWith(text) => found.as_str().is_some_and(|found| found.starts_with(text)),
            Self::EndsWith(text) => found.as_str().is_some_and(|found| found.ends_with(text)),
            Self::Contains(value) => contains(found, value),
            Self::GreaterThan(limit) => compared(found, limit) == Some(Ordering::Greater),
            Self::AtLeast(limit) => compared(found, limit).is_some_and(Ordering::is_ge),
            Self::LessThan(limit) => compared(found, limit) == Some(Ordering::Less),
            Self::AtMost(limit) => compared(found, limit).is_some_and(Ordering::is_le),
        }
    }
}

/// Equality in which numbers are what they are worth.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => by_worth(left, right) == Some(Ordering::Equal),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(name, left)| right.get(name).is_some_and(|right| same(left, right)))
        }
        _ => left == right,
    }
}

fn contains(found: &Value, value: &Value) -> bool {
    match (found, value) {
        (Value::String(found), Value::String(text)) => found.contains(text.as_str()),
        (Value::Array(found), value) => found.iter().any(|item| same(item, value)),
        _ => false,
    }
}

fn compared(found: &Value, limit: &Limit) -> Option<Ordering> {
    match (found, limit) {
        (Value::Number(found), Limit::Number(limit)) => by_worth(found, limit),
        (Value::String(found), Limit::Text(limit)) => Some(found.as_str().cmp(limit)),
        _ => None,
    }
}

/// Whole numbers exactly, all others as the nearest that a computer has.
fn by_worth(left: &Number, right: &Number) -> Option<Ordering> {
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

fn whole(number: &Number) -> Option<i128> {
    let signed = number.as_i64().map(i128::from);
    signed.or_else(|| number.as_u64().map(i128::from))
}
