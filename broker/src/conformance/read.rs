//! Cases of reading a log: `read`, `last`, `state`, and what a record carries.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::EventLog;
use crate::layout::Layout;

use super::Harness;
use super::support::{
    EVENTS, append, append_surely, events, filter, message_ids, read_all, record, sequences, subject, within,
};

/// Six records on four subjects, sequences 1 to 6.
async fn fill(log: &dyn EventLog) {
    let texts = [
        "ev.t1.user.u1",
        "ev.t1.user.u2",
        "ev.t1.team.m1",
        "ev.t2.user.u1",
        "ev.t1.user.u1",
        "uq.t1.email.h",
    ];
    for (number, text) in (1..).zip(texts) {
        append(log, vec![record(text, &format!("m{number}"), None)]).await;
    }
}

/// `after` and `limit` cut a page out of the log.
pub async fn pages_of_a_log(harness: &dyn Harness) {
    let log = events(harness).await;
    fill(log.as_ref()).await;
    for (after, limit, expected) in [
        (0, 2, vec![1, 2]),
        (2, 3, vec![3, 4, 5]),
        (4, 100, vec![5, 6]),
        (0, 0, vec![]),
        (5, 1, vec![6]),
    ] {
        let page = log.read(after, None, limit).await.expect("the log can be read");
        assert_eq!(sequences(&page), expected, "after {after}, limit {limit}");
    }
}

/// A record is found by its sequence, and none where none stands.
pub async fn the_record_at_a_sequence(harness: &dyn Harness) {
    let log = events(harness).await;
    fill(log.as_ref()).await;
    let found = log.at(4).await.expect("the log can be read");
    let pages = log.read(3, None, 1).await.expect("the log can be read");
    assert_eq!(found.as_ref(), pages.first());
    assert!(found.is_some());
    for sequence in [0, 7] {
        assert_eq!(
            log.at(sequence).await.expect("the log can be read"),
            None,
            "{sequence}"
        );
    }
}

/// A filter selects by literal subject, by `*` and by `>`, together with `after` and `limit`.
pub async fn filters_select_records(harness: &dyn Harness) {
    let log = events(harness).await;
    fill(log.as_ref()).await;
    let cases = [
        ("ev.t1.user.u1", 0, 10, vec![1, 5]),
        ("ev.t1.user.u1", 1, 10, vec![5]),
        ("ev.t1.user.u1", 0, 1, vec![1]),
        ("ev.t1.user.*", 0, 10, vec![1, 2, 5]),
        ("ev.*.user.u1", 0, 10, vec![1, 4, 5]),
        ("ev.t1.>", 0, 10, vec![1, 2, 3, 5]),
        ("ev.t1.>", 1, 2, vec![2, 3]),
        ("ev.t1.*", 0, 10, vec![]),
        ("ev.t1.user.u3", 0, 10, vec![]),
        (">", 3, 10, vec![4, 5, 6]),
        ("uq.>", 0, 10, vec![6]),
    ];
    for (text, after, limit, expected) in cases {
        let page = log
            .read(after, Some(&filter(text)), limit)
            .await
            .expect("the log can be read");
        assert_eq!(sequences(&page), expected, "{text} after {after}, limit {limit}");
    }
}

/// Beyond the end there is nothing, which is no error.
pub async fn beyond_the_end_is_nothing(harness: &dyn Harness) {
    let log = events(harness).await;
    assert_eq!(read_all(log.as_ref()).await, []);
    fill(log.as_ref()).await;
    assert_eq!(log.read(6, None, 10).await.expect("the log can be read"), []);
    assert_eq!(
        log.read(1_000_000, None, 10).await.expect("the log can be read"),
        []
    );
    assert_eq!(
        log.read(1_000_000, Some(&filter("ev.>")), 10)
            .await
            .expect("the log can be read"),
        []
    );
}

/// The last record on a subject, and none on an empty one.
pub async fn the_last_record_on_a_subject(harness: &dyn Harness) {
    let log = events(harness).await;
    assert_eq!(
        log.last(&subject("ev.t1.user.u1"))
            .await
            .expect("the log can be read"),
        None
    );
    fill(log.as_ref()).await;
    let last = log
        .last(&subject("ev.t1.user.u1"))
        .await
        .expect("the log can be read")
        .expect("it is there");
    assert_eq!((last.sequence, last.message_id.as_str()), (5, "m5"));
    assert_eq!(last.subject, subject("ev.t1.user.u1"));
    assert_eq!(
        log.last(&subject("ev.t1.user.u3"))
            .await
            .expect("the log can be read"),
        None
    );
    assert_eq!(
        log.last(&subject("ev.t1.user"))
            .await
            .expect("the log can be read"),
        None
    );
}

/// The bounds of an empty log and of one with records; the time it was made stays.
pub async fn the_bounds_of_a_log(harness: &dyn Harness) {
    let log = events(harness).await;
    let empty = log.state().await.expect("the log can be read");
    assert_eq!((empty.first, empty.last), (1, 0));
    fill(log.as_ref()).await;
    let full = log.state().await.expect("the log can be read");
    assert_eq!((full.first, full.last), (1, 6));
    assert_eq!(full.created, empty.created);
    let age = SystemTime::now().duration_since(full.created).unwrap_or_default();
    assert!(
        age < Duration::from_mins(10),
        "a new log says it was made {age:?} ago"
    );
}

/// A large payload comes back as it went in.
pub async fn a_large_payload_comes_back(harness: &dyn Harness) {
    let log = events(harness).await;
    let payload: Vec<u8> = (0..512_usize << 10)
        .map(|at| u8::try_from(at % 251).unwrap_or_default())
        .collect();
    let mut large = record("ev.t1.user.u1", "large", Some(0));
    large.payload = Bytes::from(payload);
    append(log.as_ref(), vec![large.clone()]).await;
    assert_eq!(read_all(log.as_ref()).await[0].payload, large.payload);
    let last = log
        .last(&large.subject)
        .await
        .expect("the log can be read")
        .expect("it is there");
    assert_eq!(last.payload, large.payload);
}

/// Every byte is kept as it is, and so is an empty payload.
pub async fn payloads_are_kept_verbatim(harness: &dyn Harness) {
    let log = events(harness).await;
    let payloads = [
        Bytes::from((0..=255).collect::<Vec<u8>>()),
        Bytes::new(),
        Bytes::from_static(b"\0\0"),
        Bytes::from_static(b"NATS/1.0\r\n\r\n"),
        Bytes::from_static(&[0xff, 0xfe, 0xc3, 0x28]),
    ];
    for (number, payload) in (0..).zip(&payloads) {
        let mut binary = record("ev.t1.user.u1", &format!("!~\"'{number}"), None);
        binary.payload = payload.clone();
        append(log.as_ref(), vec![binary]).await;
    }
    let stored = read_all(log.as_ref()).await;
    assert_eq!(
        stored
            .iter()
            .map(|record| record.payload.clone())
            .collect::<Vec<_>>(),
        payloads
    );
    assert_eq!(stored[0].message_id, "!~\"'0");
}

/// The log says when it stored a record, in an order that fits the sequences.
pub async fn records_know_when_they_were_stored(harness: &dyn Harness) {
    let log = events(harness).await;
    let slack = Duration::from_secs(5);
    let before = SystemTime::now() - slack;
    fill(log.as_ref()).await;
    let after = SystemTime::now() + slack;
    let records = read_all(log.as_ref()).await;
    assert!(
        records
            .iter()
            .all(|record| (before..after).contains(&record.stored_at))
    );
    assert!(records.is_sorted_by_key(|record| record.stored_at));
}

/// What was acknowledged is there when our process starts again, and sequences go on.
pub async fn a_log_survives_our_restart(harness: &dyn Harness) {
    let log = events(harness).await;
    fill(log.as_ref()).await;
    let (records, state) = (
        read_all(log.as_ref()).await,
        log.state().await.expect("the log can be read"),
    );
    let log = events(harness).await;
    assert_eq!(read_all(log.as_ref()).await, records);
    assert_eq!(log.state().await.expect("the log can be read"), state);
    assert_eq!(
        append(log.as_ref(), vec![record("ev.t1.user.u1", "m7", Some(5))]).await,
        7
    );
}

/// What was acknowledged is there when the storage has crashed and started again, and sequences go on.
pub async fn a_log_survives_a_crash_of_the_storage(harness: &dyn Harness) {
    let mut engine = harness.open(Layout::default()).await;
    fill(engine.log(EVENTS).as_ref()).await;
    let state = engine.log(EVENTS).state().await.expect("the log can be read");
    harness.restart().await;
    if !harness.survives_restart() {
        engine = harness.open(Layout::default()).await;
    }
    let log = engine.log(EVENTS);
    let next = append_surely(log.as_ref(), &[record("ev.t1.user.u1", "m7", Some(5))]).await;
    assert_eq!(next.expect("nothing stands against it")[0].sequence, 7);
    let records = within("a read", log.read(0, None, 100))
        .await
        .expect("the log can be read");
    assert_eq!(message_ids(&records), ["m1", "m2", "m3", "m4", "m5", "m6", "m7"]);
    assert_eq!(
        log.state().await.expect("the log can be read").created,
        state.created
    );
}
