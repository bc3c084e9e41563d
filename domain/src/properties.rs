//! JSON objects that tenants keep with their things: bounded, and changed by merge patches (RFC 7396).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest key, in characters.
const MAX_KEY: usize = 128;
/// The most bytes, written as JSON without spaces.
const MAX_BYTES: usize = 16 * 1024;
/// How deep objects and lists may stand in each other, the outermost counted.
const MAX_DEPTH: usize = 16;

/// Why an object is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProperties {
    /// Too many keys.
    #[error("must have at most {max} keys")]
    TooManyKeys {
        /// The limit.
        max: usize,
    },
    /// An empty key, or one that is too long.
    #[error("must have keys of 1 to {MAX_KEY} characters")]
    Key,
    /// Too many bytes.
    #[error("must take at most {MAX_BYTES} bytes as JSON")]
    TooLarge,
    /// Objects and lists stand too deep in each other.
    #[error("must be nested at most {MAX_DEPTH} deep")]
    TooDeep,
}

/// A JSON object of at most `KEYS` keys of 1 to 128 characters, 16 KiB as JSON, nested at most 16 deep.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct Properties<const KEYS: usize>(Map<String, Value>);

impl<const KEYS: usize> Properties<KEYS> {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a merge patch makes of it: members that are null go, objects are merged, all else is replaced.
    pub fn merged(&self, patch: Map<String, Value>) -> Result<Self, InvalidProperties> {
        let mut merged = self.0.clone();
        merge(&mut merged, patch);
        merged.try_into()
    }

    /// The members whose values differ between the two: as they were, and as they are.
    pub fn difference(&self, to: &Self) -> (Self, Self) {
        let differing = |these: &Self, those: &Self| {
            let members = these
                .0
                .iter()
                .filter(|(key, value)| those.0.get(*key) != Some(value));
            Self(members.map(|(key, value)| (key.clone(), value.clone())).collect())
        };
        (differing(self, to), differing(to, self))
    }

    /// Puts members as they are in the place of members as they were.
    pub fn replace(&mut self, from: &Self, to: Self) {
        self.0.retain(|key, _| !from.0.contains_key(key));
        self.0.extend(to.0);
    }
}

impl<const KEYS: usize> TryFrom<Map<String, Value>> for Properties<KEYS> {
    type Error = InvalidProperties;

    fn try_from(map: Map<String, Value>) -> Result<Self, InvalidProperties> {
        if map.len() > KEYS {
            return Err(InvalidProperties::TooManyKeys { max: KEYS });
        }
        if map
            .keys()
            .any(|key| key.is_empty() || key.chars().count() > MAX_KEY)
        {
            return Err(InvalidProperties::Key);
        }
        if !map.values().all(|value| is_flat(value, MAX_DEPTH - 1)) {
            return Err(InvalidProperties::TooDeep);
        }
        match serde_json::to_vec(&map) {
            Ok(bytes) if bytes.len() <= MAX_BYTES => Ok(Self(map)),
            _ => Err(InvalidProperties::TooLarge),
        }
    }
}

impl<const KEYS: usize> From<Properties<KEYS>> for Map<String, Value> {
    fn from(properties: Properties<KEYS>) -> Self {
        properties.0
    }
}

/// Whether at most `levels` objects and lists stand in each other here.
fn is_flat(value: &Value, levels: usize) -> bool {
    match value {
        Value::Object(map) => levels > 0 && map.values().all(|value| is_flat(value, levels - 1)),
        Value::Array(list) => levels > 0 && list.iter().all(|value| is_flat(value, levels - 1)),
        _ => true,
    }
}

/// RFC 7396, section 2.
fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(&key);
            }
            Value::Object(patch) => {
                let mut inner = match target.remove(&key) {
                    Some(Value::Object(inner)) => inner,
                    _ => Map::new(),
                };
                merge(&mut inner, patch);
                target.insert(key, Value::Object(inner));
            }
            value => {
                target.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    fn properties(value: Value) -> Properties<64> {
        map(value).try_into().unwrap()
    }

    /// The examples of RFC 7396, appendix A, whose target and patch are objects.
    #[test]
    fn a_patch_merges_as_its_standard_says() {
        for (target, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ] {
            let merged = properties(target.clone()).merged(map(patch.clone())).unwrap();
            assert_eq!(merged, properties(expected), "{target} with {patch}");
        }
    }

    #[test]
    fn a_difference_names_what_changed_and_carries_it_over() {
        let before = properties(json!({"same": 1, "changed": {"a": 1}, "gone": true}));
        let after = properties(json!({"same": 1, "changed": {"a": 2}, "new": null}));
        let (from, to) = before.difference(&after);
        assert_eq!(from, properties(json!({"changed": {"a": 1}, "gone": true})));
        assert_eq!(to, properties(json!({"changed": {"a": 2}, "new": null})));
        let mut carried = before;
        carried.replace(&from, to);
        assert_eq!(carried, after);
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_with_the_bound() {
        let refusal = |map: Map<String, Value>| Properties::<2>::try_from(map).unwrap_err();
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert!(Properties::<2>::try_from(map(json!({ "a": nested(15) }))).is_ok());
        assert_eq!(
            refusal(map(json!({ "a": nested(16) }))),
            InvalidProperties::TooDeep
        );
        assert_eq!(
            refusal(map(json!({"a":1,"b":2,"c":3}))),
            InvalidProperties::TooManyKeys { max: 2 }
        );
        assert_eq!(refusal(map(json!({"": 1}))), InvalidProperties::Key);
        assert_eq!(refusal(map(json!({"ä".repeat(129): 1}))), InvalidProperties::Key);
        // `{"a":"…"}` takes eight bytes beside the text.
        assert!(Properties::<2>::try_from(map(json!({"a": "x".repeat(16 * 1024 - 8)}))).is_ok());
        assert_eq!(
            refusal(map(json!({"a": "x".repeat(16 * 1024 - 7)}))),
            InvalidProperties::TooLarge
        );
    }
}
