//! What must arrive in order.

use serde::{Deserialize, Serialize};

use crate::endpoint::pointer::{InvalidPointer, JsonPointer};
use crate::{InvalidText, Text};

/// What must arrive in order, and what happens where something of it does not arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderingPolicy {
    /// Messages of one key arrive in the order in which they were published.
    pub key: OrderingKey,
    /// What happens to those behind a message that does not arrive.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// What a message's key is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OrderingKey {
    /// What stands at this place of its data. Messages with nothing there have no order.
    At(JsonPointer),
    /// This, for every message: all of them arrive in order.
    Always(Text<64>),
}

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrderingKey {
    /// Begins as a place in the data does, and is none.
    #[error("{0}")]
    Pointer(#[from] InvalidPointer),
    /// Not a name either.
    #[error("{0}")]
    Name(#[from] InvalidText),
}

impl TryFrom<String> for OrderingKey {
    type Error = InvalidOrderingKey;

    fn try_from(text: String) -> Result<Self, InvalidOrderingKey> {
        if text.starts_with('/') {
            Ok(Self::At(JsonPointer::try_from(text)?))
        } else {
            Ok(Self::Always(Text::try_from(text)?))
        }
    }
}

impl From<OrderingKey> for String {
    fn from(key: OrderingKey) -> Self {
        match key {
            OrderingKey::At(pointer) => pointer.into(),
            OrderingKey::Always(name) => name.into(),
        }
    }
}

/// What happens to messages behind one that does not arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// They wait until it has arrived, or is a dead letter and somebody acts on that.
    #[default]
    Block,
    /// They become dead letters behind it, in order.
    Park,
    /// They go on without it once it is a dead letter.
    Skip,
}
