//! Cursors of pages, which clients can write as they like.

use serde_json::Value;

use crate::page::cursor::{decode, encode};
use crate::text;

/// Any text as a cursor: what is accepted for one list is for no other, and means the same when it is written again.
pub(crate) fn cursor(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let Some(key) = decode::<Value>("users", text) else {
        return;
    };
    assert_eq!(decode::<Value>("teams", text), None, "a cursor of two lists");
    let again = encode("users", &key).and_then(|text| decode::<Value>("users", &text));
    assert_eq!(again, Some(key), "it changes when it is written");
}
