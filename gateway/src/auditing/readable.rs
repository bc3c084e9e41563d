//! MessagePack as JSON, whatever its form: byte strings become base64, and keys texts.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

/// How deep a record may be nested: twice as deep as any that Tidings writes. An export comes from somewhere else, and
/// must not use up the stack of whoever looks at it.
const MAX_DEPTH: usize = 256;

/// A record's bytes as JSON; null where they are not MessagePack, or nested too deep.
pub(super) fn readable(bytes: &[u8]) -> Value {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(MAX_DEPTH);
    Readable::deserialize(&mut deserializer).map_or(Value::Null, |readable| readable.0)
}

struct Readable(Value);

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything).map(Self)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessagePack")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(STANDARD.encode(value).into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Readable(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((Readable(key), Readable(value))) = entries.next_entry()? {
            let key = match key {
                Value::String(key) => key,
                other => other.to_string(),
            };
            map.insert(key, value);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use domain::{ClaimRecord, Commit};
    use serde_json::json;

    use super::*;

    fn golden(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/records");
        std::fs::read(format!("{folder}/{name}.msgpack")).unwrap()
    }

    #[test]
    fn a_bottomless_record_is_not_followed_down() {
        // A list of a list of a list …, and null in the end.
        let nested = |depth: usize| [&vec![0x91; depth][..], &[0xc0]].concat();
        assert!(readable(&nested(200)).is_array());
        for depth in [1_000, 100_000] {
            assert_eq!(readable(&nested(depth)), Value::Null);
        }
    }

    #[test]
    fn every_form_of_record_can_be_read() {
        let bytes = golden("commit.v1");
        let commit = Commit::decode(&bytes).unwrap();
        let read = readable(&bytes);
        assert_eq!(read["aggregate"], commit.aggregate);
        assert_eq!(read["events"][0]["data"], commit.events[0].data);
        assert_eq!(read["prev"], STANDARD.encode(commit.prev.unwrap()));
        let claim = golden("claim.v1");
        assert_eq!(
            readable(&claim)["kind"],
            ClaimRecord::decode(&claim).unwrap().kind
        );
        let message = golden("message.v1");
        assert!(readable(&message)["data"].is_string(), "bytes are base64");
    }

    #[test]
    fn what_is_no_record_is_null() {
        assert_eq!(readable(b"\xc1"), Value::Null);
        assert_eq!(readable(b""), Value::Null);
        assert_eq!(readable(b"\x81\x01\xc3"), json!({ "1": true }));
    }
}
