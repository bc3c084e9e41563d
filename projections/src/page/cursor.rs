//! The text of a cursor: the list it belongs to and the key of a row, which clients get, keep and send back as they like.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The cursor of a key in a list; none for a key that has no form in JSON.
pub(crate) fn encode<K: Serialize>(list: &str, key: &K) -> Option<String> {
    let bytes = serde_json::to_vec(&(list, key)).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// The key that a text is the cursor of; none for what is no cursor of this list.
pub(crate) fn decode<K: DeserializeOwned>(list: &str, text: &str) -> Option<K> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (of, key): (String, K) = serde_json::from_slice(&bytes).ok()?;
    (of == list).then_some(key)
}
