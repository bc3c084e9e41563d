//! A JSON Schema as a tenant gives it: the bounds within which any is kept. Whether it is a valid schema is asked of
//! whoever can compile it, before a command carries it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why a value is not kept as a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchema {
    /// Something else than an object.
    #[error("must be a JSON Schema: an object")]
    NotAnObject,
    /// Too long.
    #[error("must be at most {} bytes long as compact JSON", Schema::MAX_BYTES)]
    TooLarge,
    /// Too deep.
    #[error("must not be nested more than {} levels deep", Schema::MAX_DEPTH)]
    TooDeep,
    /// Written for a draft that is not read here.
    #[error(
        "`$schema` must be {:?} (or left out, which means the same) or {:?}",
        Dialect::Draft202012.uri(),
        Dialect::Draft7.uri()
    )]
    Dialect,
}

/// The draft of JSON Schema a schema is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Draft 2020-12 (<https://json-schema.org/draft/2020-12>).
    Draft202012,
    /// Draft 7 (<https://json-schema.org/draft-07>).
    Draft7,
}

impl Dialect {
    /// What `$schema` calls it.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Draft202012 => "https://json-schema.org/draft/2020-12/schema",
            Self::Draft7 => "http://json-schema.org/draft-07/schema#",
        }
    }

    fn of(schema: &Value) -> Option<Self> {
        let Some(named) = schema.get("$schema") else {
            return Some(Self::Draft202012);
        };
        let named = named.as_str()?.trim_end_matches('#');
        [Self::Draft202012, Self::Draft7]
            .into_iter()
            .find(|known| known.uri().trim_end_matches('#') == named)
    }
}

/// A JSON Schema within bounds: an object of a known draft, at most [`Schema::MAX_BYTES`] long and
/// [`Schema::MAX_DEPTH`] deep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Schema(Value);

impl Schema {
    /// The longest, in bytes of its compact form.
    pub const MAX_BYTES: usize = 64 * 1024;
    /// How deep arrays and objects may lie in each other.
    pub const MAX_DEPTH: usize = 64;

    /// The schema.
    pub fn as_value(&self) -> &Value {
        &self.0
    }

    /// The draft it is written for.
    pub fn dialect(&self) -> Dialect {
        Dialect::of(&self.0).unwrap_or(Dialect::Draft202012)
    }
}

impl TryFrom<Value> for Schema {
    type Error = InvalidSchema;

    fn try_from(schema: Value) -> Result<Self, InvalidSchema> {
        if !schema.is_object() {
            return Err(InvalidSchema::NotAnObject);
        }
        // Depth first: printing goes as deep as the value does.
        if is_deeper(&schema, Self::MAX_DEPTH) {
            return Err(InvalidSchema::TooDeep);
        }
        if schema.to_string().len() > Self::MAX_BYTES {
            return Err(InvalidSchema::TooLarge);
        }
        Dialect::of(&schema).ok_or(InvalidSchema::Dialect)?;
        Ok(Self(schema))
    }
}

impl From<Schema> for Value {
    fn from(schema: Schema) -> Self {
        schema.0
    }
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    let children: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => return false,
    };
    levels == 0 || children.into_iter().any(|child| is_deeper(child, levels - 1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nested(levels: usize) -> Value {
        (1..levels).fold(json!({}), |inner, _| json!({ "not": inner }))
    }

    #[test]
    fn a_schema_is_an_object_within_bounds() {
        assert!(Schema::try_from(json!({ "type": "object" })).is_ok());
        for value in [json!(true), json!([]), json!("object"), Value::Null] {
            assert_eq!(Schema::try_from(value), Err(InvalidSchema::NotAnObject));
        }
        let long = |bytes: usize| json!({ "title": "x".repeat(bytes - r#"{"title":""}"#.len()) });
        assert!(Schema::try_from(long(Schema::MAX_BYTES)).is_ok());
        assert_eq!(
            Schema::try_from(long(Schema::MAX_BYTES + 1)),
            Err(InvalidSchema::TooLarge)
        );
        assert!(Schema::try_from(nested(Schema::MAX_DEPTH)).is_ok());
        assert_eq!(
            Schema::try_from(nested(Schema::MAX_DEPTH + 1)),
            Err(InvalidSchema::TooDeep)
        );
    }

    #[test]
    fn the_draft_is_the_newest_unless_told() {
        let dialect = |value: Value| Schema::try_from(value).map(|schema| schema.dialect());
        assert_eq!(dialect(json!({})), Ok(Dialect::Draft202012));
        for draft in [Dialect::Draft202012, Dialect::Draft7] {
            for uri in [
                draft.uri().to_owned(),
                format!("{}#", draft.uri().trim_end_matches('#')),
            ] {
                assert_eq!(dialect(json!({ "$schema": uri })), Ok(draft));
            }
        }
        for other in [
            json!("http://json-schema.org/draft-04/schema#"),
            json!("https://example.org/"),
            json!(7),
        ] {
            assert_eq!(dialect(json!({ "$schema": other })), Err(InvalidSchema::Dialect));
        }
    }
}
