//! Places in JSON.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A text that is not a JSON Pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a JSON Pointer such as /customer/id, at most {} bytes long; ~ is written ~0 and / in a name ~1",
    JsonPointer::MAX
)]
pub struct InvalidPointer;

/// A JSON Pointer (RFC 6901), as `/lines/0/amount`; the empty one is the whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JsonPointer(String);

impl JsonPointer {
    /// The most bytes.
    pub const MAX: usize = 256;

    /// What stands there.
    pub fn find<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        value.pointer(&self.0)
    }

    /// The pointer as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for JsonPointer {
    type Error = InvalidPointer;

    fn try_from(text: String) -> Result<Self, InvalidPointer> {
        let begins = text.is_empty() || text.starts_with('/');
        let mut after_tildes = text.split('~').skip(1);
        let escaped = after_tildes.all(|rest| rest.starts_with(['0', '1']));
        if begins && escaped && text.len() <= Self::MAX {
            Ok(Self(text))
        } else {
            Err(InvalidPointer)
        }
    }
}

impl From<JsonPointer> for String {
    fn from(pointer: JsonPointer) -> Self {
        pointer.0
    }
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pointer_finds_what_rfc_6901_says() {
        let value = json!({ "a": [{ "b/c": 1 }], "m~n": 2, "": 3 });
        for (text, found) in [
            ("/a/0/b~1c", Some(json!(1))),
            ("/m~0n", Some(json!(2))),
            ("/", Some(json!(3))),
            ("", Some(value.clone())),
            ("/a/1", None),
            ("/a/-", None),
        ] {
            let pointer = JsonPointer::try_from(text.to_owned()).unwrap();
            assert_eq!(pointer.find(&value), found.as_ref(), "{text}");
        }
        for text in ["a", "/a~", "/a~2", "~1", &format!("/{}", "a".repeat(256))] {
            assert_eq!(
                JsonPointer::try_from(text.to_owned()),
                Err(InvalidPointer),
                "{text}"
            );
        }
    }

    #[test]
    fn a_pointer_reads_as_it_was_written() {
        let pointer = JsonPointer::try_from("/a/b~1c".to_owned()).unwrap();
        assert_eq!(pointer.as_str(), "/a/b~1c");
    }
}
