//! Conditions in JSON. They are read member by member, so that whoever reads them with a record of the path (as the API
//! does) can tell at which place of a large filter something is wrong.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{Condition, JsonPointer, Limit, Test};

/// The members of a condition.
const MEMBERS: &[&str] = &[
    "all",
    "any",
    "not",
    "path",
    "equals",
    "not_equals",
    "in",
    "exists",
    "starts_with",
    "ends_with",
    "contains",
    "greater_than",
    "at_least",
    "less_than",
    "at_most",
];

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::All(conditions) => map.serialize_entry("all", conditions)?,
            Self::Any(conditions) => map.serialize_entry("any", conditions)?,
            Self::Not(condition) => map.serialize_entry("not", condition)?,
            Self::Place { path, test } => {
                map.serialize_entry("path", path)?;
                match test {
                    Test::Equals(value) => map.serialize_entry("equals", value)?,
                    Test::NotEquals(value) => map.serialize_entry("not_equals", value)?,
                    Test::In(values) => map.serialize_entry("in", values)?,
                    Test::Exists(wanted) => map.serialize_entry("exists", wanted)?,
                    Test::StartsWith(text) => map.serialize_entry("starts_with", text)?,
                    Test::EndsWith(text) => map.serialize_entry("ends_with", text)?,
                    Test::Contains(value) => map.serialize_entry("contains", value)?,
                    Test::GreaterThan(limit) => map.serialize_entry("greater_than", limit)?,
                    Test::AtLeast(limit) => map.serialize_entry("at_least", limit)?,
                    Test::LessThan(limit) => map.serialize_entry("less_than", limit)?,
                    Test::AtMost(limit) => map.serialize_entry("at_most", limit)?,
                }
            }
        }
        map.end()
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Number(number) => Ok(Self::Number(number)),
            Value::String(text) => Ok(Self::Text(text)),
            _ => Err(D::Error::custom("must be a number or a text")),
        }
    }
}

/// What has been read of a condition so far.
#[derive(Default)]
struct Parts {
    whole: Option<Condition>,
    path: Option<JsonPointer>,
    test: Option<Test>,
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfCondition;

        impl<'de> Visitor<'de> for OfCondition {
            type Value = Condition;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object that is a condition")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Condition, A::Error> {
                let mut parts = Parts::default();
                while let Some(member) = map.next_key::<String>()? {
                    take(&mut parts, &member, &mut map)?;
                }
                together(parts).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_map(OfCondition)
    }
}

fn take<'de, A: MapAccess<'de>>(parts: &mut Parts, member: &str, map: &mut A) -> Result<(), A::Error> {
    let test = match member {
        "all" | "any" | "not" if parts.whole.is_some() => return Err(A::Error::custom(TWO)),
        "all" => {
            parts.whole = Some(Condition::All(map.next_value()?));
            return Ok(());
        }
        "any" => {
            parts.whole = Some(Condition::Any(map.next_value()?));
            return Ok(());
        }
        "not" => {
            parts.whole = Some(Condition::Not(map.next_value()?));
            return Ok(());
        }
        "path" if parts.path.is_some() => return Err(A::Error::duplicate_field("path")),
        "path" => {
            parts.path = Some(map.next_value()?);
            return Ok(());
        }
        "equals" => Test::Equals(map.next_value()?),
        "not_equals" => Test::NotEquals(map.next_value()?),
        "in" => Test::In(map.next_value()?),
        "exists" => Test::Exists(map.next_value()?),
        "starts_with" => Test::StartsWith(map.next_value()?),
        "ends_with" => Test::EndsWith(map.next_value()?),
        "contains" => Test::Contains(map.next_value()?),
        "greater_than" => Test::GreaterThan(map.next_value()?),
        "at_least" => Test::AtLeast(map.next_value()?),
        "less_than" => Test::LessThan(map.next_value()?),
        "at_most" => Test::AtMost(map.next_value()?),
        other => return Err(A::Error::unknown_field(other, MEMBERS)),
    };
    if parts.test.replace(test).is_some() {
        return Err(A::Error::custom(TWO_TESTS));
    }
    Ok(())
}

const TWO: &str =
    "a condition is one of `all`, `any`, `not`, and `path` with a test; put several into `all` or `any`";
const TWO_TESTS: &str = "one `path` takes one test; put several into `all` or `any`";

fn together(parts: Parts) -> Result<Condition, &'static str> {
    match parts {
        Parts {
            whole: Some(whole),
            path: None,
            test: None,
        } => Ok(whole),
        Parts {
            whole: None,
            path: Some(path),
            test: Some(test),
        } => Ok(Condition::Place { path, test }),
        Parts {
            whole: None,
            path: Some(_),
            test: None,
        } => Err("`path` needs a test, such as `equals`"),
        Parts {
            whole: None,
            path: None,
            test: Some(_),
        } => Err("a test needs `path`, which says where"),
        Parts {
            whole: None,
            path: None,
            test: None,
        } => Err("a condition is one of `all`, `any`, `not`, and `path` with a test"),
        Parts { whole: Some(_), .. } => Err(TWO),
    }
}
