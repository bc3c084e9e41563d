//! Cursors of pages, which clients can write as they like.

use serde_json::Value;

use crate::page::cursor::{decode, encode};
use crate::text;

/// Whether a number in it has a fraction: no key has one, and they may change by their last digit.
fn fractional(key: &Value) -> bool {
    match key {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(fractional),
        Value::Object(fields) => fields.values().any(fractional),
        _ => false,
    }
}

/// Any text as a cursor: what is accepted for one list is for no other, and means the same when it is written again.
pub(crate) fn cursor(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let Some(key) = decode::<Value>("users", text) else {
        return;
    };
    assert_eq!(decode::<Value>("teams", text), None, "a cursor of two lists");
    if fractional(&key) {
        return;
    }
    let again = encode("users", &key).and_then(|text| decode::<Value>("users", &text));
    assert_eq!(again, Some(key), "it changes when it is written");
}
