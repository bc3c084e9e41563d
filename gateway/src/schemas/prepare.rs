//! What is compiled of a schema: the keywords known here, references within it, and a [`Meter`] before each subschema.
//!
//! A subschema `S` becomes `{"allOf": [{"tidings:meter": …}, S]}`, since `allOf` goes in order and a keyword of one's
//! own would otherwise come last. References are pointers to places, which this moves; they are rewritten with it.

use domain::event_type::{Dialect, Schema};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::meter::{METER, Meter};
use super::places;
use crate::problem::FieldError;

/// How many subschemas a schema may have: what is compiled is larger than what is written.
const MAX_SUBSCHEMAS: usize = 2_000;
/// How many regular expressions a schema may have: each is compiled, and kept in memory.
const MAX_PATTERNS: u32 = 64;

/// A schema as it is compiled.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) schema: Value,
    /// How many regular expressions there are in it.
    pub(super) patterns: u32,
}

/// Rewrites a valid schema; the errors name what in it is not taken.
pub(super) fn prepare(schema: &Schema) -> Result<Prepared, Vec<FieldError>> {
    let mut preparing = Preparing {
        root: schema.as_value(),
        draft7: schema.dialect() == Dialect::Draft7,
        subschemas: 0,
        patterns: 0,
        errors: Vec::new(),
    };
    let mut at = Vec::new();
    let prepared = preparing.subschema(schema.as_value(), &mut at);
    if preparing.subschemas > MAX_SUBSCHEMAS {
        preparing.refuse(&[], &format!("must have at most {MAX_SUBSCHEMAS} subschemas"));
    }
    if preparing.patterns > MAX_PATTERNS {
        preparing.refuse(
            &[],
            &format!("must have at most {MAX_PATTERNS} regular expressions"),
        );
    }
    if preparing.errors.is_empty() {
        Ok(Prepared {
            schema: prepared,
            patterns: preparing.patterns,
        })
    } else {
        preparing.errors.truncate(super::MAX_ERRORS);
        Err(preparing.errors)
    }
}

/// What a keyword's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A schema, or a list of them.
    Schemas,
    /// Schemas by name.
    Named,
    /// What the keyword asserts by itself.
    Assertion,
    /// A reference to a schema.
    Reference,
    /// What gives schemas names of their own, or refers to such.
    Identity,
    /// For people, or for nobody.
    Other,
}

impl Shape {
    fn of(keyword: &str) -> Self {
        match keyword {
            "allOf"
            | "anyOf"
            | "oneOf"
            | "not"
            | "if"
            | "then"
            | "else"
            | "items"
            | "prefixItems"
            | "additionalItems"
            | "contains"
            | "additionalProperties"
            | "propertyNames"
            | "unevaluatedItems"
            | "unevaluatedProperties" => Self::Schemas,
            "properties" | "patternProperties" | "dependentSchemas" | "dependencies" | "$defs"
            | "definitions" => Self::Named,
            "type" | "enum" | "const" | "multipleOf" | "maximum" | "exclusiveMaximum" | "minimum"
            | "exclusiveMinimum" | "maxLength" | "minLength" | "pattern" | "maxItems" | "minItems"
            | "uniqueItems" | "maxContains" | "minContains" | "maxProperties" | "minProperties"
            | "required" | "dependentRequired" | "format" => Self::Assertion,
            "$ref" => Self::Reference,
            "$id" | "$schema" | "$anchor" | "$dynamicRef" | "$dynamicAnchor" | "$vocabulary" => {
                Self::Identity
            }
            _ => Self::Other,
        }
    }
}

struct Preparing<'s> {
    root: &'s Value,
    draft7: bool,
    subschemas: usize,
    patterns: u32,
    errors: Vec<FieldError>,
}

impl Preparing<'_> {
    fn refuse(&mut self, at: &[String], message: &str) {
        let path = places::path("schema", at.iter().map(String::as_str), self.root);
        self.errors.push(places::error(&path, message));
    }

    /// A subschema behind its meter; `true` and `false` need none.
    fn subschema(&mut self, schema: &Value, at: &mut Vec<String>) -> Value {
        self.subschemas += 1;
        let Value::Object(fields) = schema else {
            return schema.clone();
        };
        // Draft 7 passes over whatever stands beside a reference, but for what others refer to.
        let only_reference = self.draft7 && fields.contains_key("$ref");
        let mut prepared = Map::new();
        for (keyword, value) in fields {
            at.push(keyword.clone());
            let counts = !only_reference || matches!(keyword.as_str(), "$ref" | "$defs" | "definitions");
            if let Some(value) = counts.then(|| self.keyword(keyword, value, at)).flatten() {
                prepared.insert(keyword.clone(), value);
            }
            at.pop();
        }
        let meter = meter(&prepared);
        json!({ "allOf": [{ METER: meter }, prepared] })
    }

    /// What is compiled of a keyword, if anything is.
    fn keyword(&mut self, keyword: &str, value: &Value, at: &mut Vec<String>) -> Option<Value> {
        match Shape::of(keyword) {
            Shape::Schemas => Some(match value {
                Value::Array(schemas) => Value::Array(self.list(schemas, at)),
                schema => self.subschema(schema, at),
            }),
            Shape::Named => {
                if keyword == "patternProperties" {
                    let patterns = value.as_object().map_or(0, Map::len);
                    self.patterns += u32::try_from(patterns).unwrap_or(u32::MAX);
                }
                let fields = value.as_object().into_iter().flatten();
                let mut named = Map::new();
                for (name, schema) in fields {
                    at.push(name.clone());
                    let prepared = match schema {
                        // In `dependencies`: names of properties.
                        Value::Array(_) => schema.clone(),
                        schema => self.subschema(schema, at),
                    };
                    named.insert(name.clone(), prepared);
                    at.pop();
                }
                Some(Value::Object(named))
            }
            // Telling whether a text is a regular expression means compiling what anyone sends.
            Shape::Assertion if keyword == "format" && value == "regex" => None,
            Shape::Assertion => {
                self.patterns += u32::from(keyword == "pattern");
                Some(value.clone())
            }
            Shape::Reference => self.reference(value, at),
            Shape::Identity if at.len() == 1 && matches!(keyword, "$id" | "$schema") => None,
            Shape::Identity => {
                self.refuse(
                    at,
                    "is not taken here: name schemas under `$defs` and refer to them as `#/$defs/…`",
                );
                None
            }
            Shape::Other => None,
        }
    }

    fn list(&mut self, schemas: &[Value], at: &mut Vec<String>) -> Vec<Value> {
        let mut list = Vec::with_capacity(schemas.len());
        for (index, schema) in schemas.iter().enumerate() {
            at.push(index.to_string());
            list.push(self.subschema(schema, at));
            at.pop();
        }
        list
    }

    fn reference(&mut self, value: &Value, at: &[String]) -> Option<Value> {
        let reference = value.as_str().unwrap_or_default();
        let moved = reference
            .strip_prefix('#')
            .map(|pointer| moved(self.root, pointer));
        match moved {
            Some(Some(pointer)) => return Some(pointer.into()),
            Some(None) => self.refuse(
                at,
                "refers to no schema in this schema: write `#`, or a pointer such as `#/$defs/money`",
            ),
            None => self.refuse(
                at,
                "refers to another document, which is never fetched: copy what is needed under `$defs`",
            ),
        }
        None
    }
}

/// Where the place a pointer (RFC 6901, as the fragment of a URI) names in the schema is in the prepared one; none,
/// if no schema stands there.
fn moved(root: &Value, pointer: &str) -> Option<String> {
    let decoded = percent_decode_str(pointer).decode_utf8().ok()?;
    let mut tokens = decoded.split('/');
    tokens.next().filter(|before| before.is_empty())?;
    let (mut current, mut shape, mut to) = (root, None, "#".to_owned());
    for token in tokens {
        let name = token.replace("~1", "/").replace("~0", "~");
        let next = match current {
            Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
            value => value.get(&name)?,
        };
        let inside = shape.take();
        if inside.is_none() {
            // A step out of a schema, by one of its keywords.
            to.push_str("/allOf/1");
            shape = match Shape::of(&name) {
                Shape::Schemas if next.is_array() => Some(Shape::Schemas),
                Shape::Schemas => None,
                Shape::Named => Some(Shape::Named),
                _ => return None,
            };
        }
        to.push('/');
        to.extend(utf8_percent_encode(token, NON_ALPHANUMERIC));
        current = next;
    }
    (shape.is_none() && (current.is_object() || current.is_boolean())).then_some(to)
}

/// What applying the keywords of one subschema costs.
fn meter(schema: &Map<String, Value>) -> Value {
    let entries = |keyword: &str| match schema.get(keyword) {
        Some(Value::Array(list)) => list.len() as u64,
        Some(Value::Object(fields)) => fields.len() as u64,
        Some(_) => 1,
        None => 0,
    };
    let texts = ["minLength", "maxLength", "format"];
    let patterns = entries("patternProperties");
    let meter = Meter {
        once: 1 + schema.keys().map(|keyword| entries(keyword)).sum::<u64>(),
        per_byte: 4 * entries("pattern") + texts.iter().map(|keyword| entries(keyword)).sum::<u64>(),
        per_property: 16 * patterns,
        compares: ["uniqueItems", "enum", "const"]
            .iter()
            .any(|keyword| schema.contains_key(*keyword)),
    };
    serde_json::to_value(meter).unwrap_or_default()
}
