//! Foreign bytes: whatever a decoder is given, it answers, and what it accepts is written as it was read.
//!
//! Inputs are drawn at random and from what is valid with something changed in it. A failure is kept beside this file
//! and tried first from then on.

#![expect(
    clippy::unwrap_used,
    reason = "what a test prepares must succeed, in its helpers too"
)]

use std::fmt::{Debug, Display};
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use domain::endpoint::{ContentFilter, EventTypeFilter, TargetUrl};
use domain::user::Email;
use domain::{
    ClaimRecord, Commit, DecodeError, DeliveryRecord, EventId, EventType, Grant, Message, Permission,
    Position, TenantId, Timestamp, UserId,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Records that were valid once and must be for ever.
fn golden() -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/records");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One of the golden records with a few bytes changed, put in or taken out.
fn spoilt_record() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), any::<u8>(), 0..3_u8);
    (select(golden()), vec(change, 1..4)).prop_map(|(mut bytes, changes)| {
        for (place, byte, how) in changes {
            let place = place.index(bytes.len());
            match how {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ if bytes.len() > 1 => {
                    bytes.remove(place);
                }
                _ => {}
            }
        }
        bytes
    })
}

/// Text with one character changed, put in or taken out.
fn spoilt(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    (select(texts), any::<Index>(), any::<char>(), 0..3_u8).prop_map(|(text, place, character, how)| {
        let mut characters: Vec<char> = text.chars().collect();
        let place = place.index(characters.len());
        match how {
            0 => characters[place] = character,
            1 => characters.insert(place, character),
            _ => {
                characters.remove(place);
            }
        }
        characters.into_iter().collect()
    })
}

/// Reads the bytes as a record of one kind; what is accepted is the same after it was written and read again.
fn check<T: Debug + PartialEq>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    if let Ok(record) = decode(bytes) {
        assert_eq!(decode(&encode(&record)).unwrap(), record);
    }
}

fn check_as_every_record(bytes: &[u8]) {
    check(bytes, Commit::decode, Commit::encode);
    check(bytes, Message::decode, Message::encode);
    check(bytes, ClaimRecord::decode, ClaimRecord::encode);
    check(bytes, DeliveryRecord::decode, DeliveryRecord::encode);
}

/// Reads a text; what is accepted prints as it was given, so that no thing has two names.
fn check_text<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text);
    }
}

fn check_every_text(text: &str) {
    check_text::<Position>(text);
    check_text::<TenantId>(text);
    check_text::<UserId>(text);
    check_text::<EventId>(text);
    check_text::<EventType>(text);
    check_text::<Permission>(text);
    check_text::<Grant>(text);
    if let Ok(filter) = EventTypeFilter::try_from(text.to_owned()) {
        assert_eq!(filter.as_str(), text);
    }
    if let Ok(email) = Email::try_from(text.to_owned()) {
        assert_eq!(email.as_str(), text.trim());
    }
    // These have one form of many ways to write them: once in that form, they stay in it.
    if let Ok(url) = TargetUrl::try_from(text.to_owned()) {
        assert_eq!(TargetUrl::try_from(url.to_string()).as_ref(), Ok(&url));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        assert_eq!(time.to_string().parse::<Timestamp>(), Ok(time), "{text}");
    }
}

const TEXTS: &[&str] = &[
    "e0-42",
    "m3-0",
    "d65535-18446744073709551615",
    "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "ten_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "platform",
    "invoice.paid",
    "invoice.*.paid",
    "*",
    "users.read.tenant",
    "users.*.team",
    "ada@example.org",
    "2026-11-20T08:00:00.000Z",
    "2026-02-25T15:02:10+05:30",
    "https://example.org:8443/hooks?x=1",
    "http://[2001:db8::1]/",
];

#[test]
fn what_is_valid_is_accepted() {
    let decoded = |bytes: &Vec<u8>| {
        Commit::decode(bytes).is_ok()
            || Message::decode(bytes).is_ok()
            || ClaimRecord::decode(bytes).is_ok()
            || DeliveryRecord::decode(bytes).is_ok()
    };
    assert!(golden().len() >= 8 && golden().iter().all(decoded));
}

/// A record whose data is a list in a list in a list …, deeper than any program would go after it.
#[test]
fn a_bottomless_record_is_refused() {
    let valid = golden().into_iter().find(|bytes| Commit::decode(bytes).is_ok());
    let mut with = Commit::decode(&valid.unwrap()).unwrap();
    with.events[0].data = serde_json::json!("the place of the data");
    let bytes = with.encode();
    let mark = b"the place of the data";
    let at = bytes
        .windows(mark.len())
        .position(|window| window == mark)
        .unwrap();
    for depth in [100, 130, 500, 1_100, 100_000] {
        // A list of one element has the byte 0x91; the text's own length stands one byte before it.
        let deep = [
            &bytes[..at - 1],
            &vec![0x91; depth][..],
            &[0xc0],
            &bytes[at + mark.len()..],
        ]
        .concat();
        check(&deep, Commit::decode, Commit::encode);
        // What clients send goes 128 deep at most, and is read.
        assert_eq!(Commit::decode(&deep).is_ok(), depth <= 130, "{depth}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_record_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        check_as_every_record(&bytes);
    }

    #[test]
    fn a_spoilt_record_is_read_as_what_it_says_or_refused(bytes in spoilt_record()) {
        check_as_every_record(&bytes);
    }

    #[test]
    fn any_text_is_a_name_or_refused(text in any::<String>()) {
        check_every_text(&text);
    }

    #[test]
    fn a_spoilt_name_is_another_or_refused(text in spoilt(TEXTS)) {
        check_every_text(&text);
    }

    #[test]
    fn a_position_has_one_form(text in "[emdx][0-9]{1,6}-[0-9]{1,21}") {
        check_text::<Position>(&text);
    }

    /// A content filter of any text is a filter that says yes or no of any data, and is written as it was read.
    #[test]
    fn any_json_text_is_a_content_filter_or_refused(
        text in r#"\{"(path|all|any|not|equals)":("/[a-z]"|\[\]|\{\}|1)(,"(equals|in|exists|contains)":("[a-z]"|true|\[1\]|null))?\}"#,
        data in r#"(\{"[a-z]":[0-9]\}|"[a-z]"|null)"#,
    ) {
        let Ok(filter) = serde_json::from_str::<ContentFilter>(&text) else {
            return Ok(());
        };
        let data = serde_json::from_str(&data).unwrap();
        let again: ContentFilter = serde_json::from_value(serde_json::to_value(&filter).unwrap()).unwrap();
        prop_assert_eq!(again.lets_through(&data), filter.lets_through(&data));
    }
}
