//! Cases of `KeyValue`: writes and what they expect, expiry, scans.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use crate::layout::{Bucket, Layout};
use crate::{Entry, Expect, KeyValue, KvError};

use super::Harness;
use super::support::{subject, within};

pub(super) async fn receipts(harness: &dyn Harness) -> Arc<dyn KeyValue> {
    harness.open(Layout::default()).await.bucket(Bucket::Receipts)
}

pub(super) async fn put(
    bucket: &dyn KeyValue,
    key: &str,
    value: &str,
    expect: Expect,
) -> Result<u64, KvError> {
    let value = Bytes::copy_from_slice(value.as_bytes());
    within("a put", bucket.put(&subject(key), value, expect, None)).await
}

pub(super) async fn get(bucket: &dyn KeyValue, key: &str) -> Option<Entry> {
    within("a get", bucket.get(&subject(key)))
        .await
        .expect("the bucket can be read")
}

pub(super) async fn value(bucket: &dyn KeyValue, key: &str) -> Option<Bytes> {
    get(bucket, key).await.map(|entry| entry.value)
}

pub(super) async fn scan(bucket: &dyn KeyValue, prefix: Option<&str>) -> Vec<Entry> {
    let prefix = prefix.map(subject);
    within("a scan", bucket.scan(prefix.as_ref()))
        .await
        .expect("the bucket can be read")
}

pub(super) fn keys(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

pub(super) fn assert_conflict(outcome: Result<impl Debug, KvError>, on: &str) {
    match outcome {
        Err(KvError::Conflict(key)) => assert_eq!(key.as_str(), on, "the conflict names another key"),
        other => panic!("a conflict on {on} was due, not {other:?}"),
    }
}

/// A key is absent until it is written, then has what was written last, with a revision that grows.
pub async fn what_is_put_can_be_got(harness: &dyn Harness) {
    let bucket = receipts(harness).await;
    assert_eq!(get(bucket.as_ref(), "t1.k").await, None);
    let first = put(bucket.as_ref(), "t1.k", "one", Expect::Anything)
        .await
        .expect("nothing stands against it");
    let expected = Entry {
        key: subject("t1.k"),
        value: Bytes::from_static(b"one"),
        revision: first,
    };
    assert_eq!(get(bucket.as_ref(), "t1.k").await, Some(expected));
    let other = put(bucket.as_ref(), "t1.l", "", Expect::Anything)
        .await
        .expect("nothing stands against it");
    let second = put(bucket.as_ref(), "t1.k", "two", Expect::Anything)
        .await
        .expect("nothing stands against it");
    assert!(
        second > first && other != first && other != second,
        "revisions: {first}, {other}, {second}"
    );
    let entry = get(bucket.as_ref(), "t1.k").await.expect("it is there");
    assert_eq!(
        (entry.value.as_ref(), entry.revision),
        (b"two".as_slice(), second)
    );
    assert_eq!(value(bucket.as_ref(), "t1.l").await, Some(Bytes::new()));
}

/// Create-if-absent works once; what stands is not touched.
pub async fn a_key_is_created_once(harness: &dyn Harness) {
    let bucket = receipts(harness).await;
    let revision = put(bucket.as_ref(), "t1.k", "one", Expect::Absent)
        .await
        .expect("the key is absent");
    assert_conflict(put(bucket.as_ref(), "t1.k", "two", Expect::Absent).await, "t1.k");
    let entry = get(bucket.as_ref(), "t1.k").await.expect("it is there");
    assert_eq!(
        (entry.value.as_ref(), entry.revision),
        (b"one".as_slice(), revision)
    );
}

/// Of many who create the same key at once, exactly one succeeds, and its value stands.
pub async fn one_of_many_racing_creators_wins(harness: &dyn Harness) {
    let bucket = receipts(harness).await;
    for round in 0..10 {
        let key = format!("t1.k{round}");
        let creators = (0..10).map(|creator| {
            let (bucket, key) = (Arc::clone(&bucket), key.clone());
            tokio::spawn(async move {
                let outcome = put(bucket.as_ref(), &key, &format!("c{creator}"), Expect::Absent).await;
                outcome.map(|revision| (creator, revision))
            })
        });
        let mut won = Vec::new();
        for outcome in join_all(creators).await {
            match outcome.expect("a creator does not panic") {
                Ok(winner) => won.push(winner),
                conflict => assert_conflict(conflict, &key),
            }
        }
        let [(creator, revision)] = won[..] else {
            panic!("one should have created {key}: {won:?}");
        };
        let entry = get(bucket.as_ref(), &key).await.expect("it is there");
        assert_eq!(
            (entry.value, entry.revision),
            (Bytes::from(format!("c{creator}")), revision)
        );
    }
}

/// A write that expects a revision succeeds on that one only.
pub async fn a_stale_revision_conflicts(harness: &dyn Harness) {
    let bucket = receipts(harness).await;
    assert_conflict(
        put(bucket.as_ref(), "t1.k", "x", Expect::Revision(1)).await,
        "t1.k",
    );
    let first = put(bucket.as_ref(), "t1.k", "one", Expect::Absent)
        .await
        .expect("the key is absent");
    let second = put(bucket.as_ref(), "t1.k", "two", Expect::Revision(first))
        .await
        .expect("it is the revision");
    assert!(second > first);
    for stale in [first, second + 1] {
        assert_conflict(
            put(bucket.as_ref(), "t1.k", "x", Expect::Revision(stale)).await,
            "t1.k",
        );
    }
    let entry = get(bucket.as_ref(), "t1.k").await.expect("it is there");
    assert_eq!(
        (entry.value.as_ref(), entry.revision),
        (b"two".as_slice(), second)
    );
    // A revision of another key says nothing about this one.
    let other = put(bucket.as_ref(), "t1.l", "other", Expect::Absent)
        .await
        .expect("the key is absent");
    assert_conflict(
        put(bucket.as_ref(), "t1.k", "x", Expect::Revision(other)).await,
        "t1.k",
    );
}

/// Counting up by compare and set from many tasks loses no count.
pub async fn compare_and_set_loses_nothing(harness: &dyn Harness) {
    let bucket = receipts(harness).await;
    put(bucket.as_ref(), "t1.count", "0", Expect::Absent)
        .await
        .expect("the key is absent");
    let counters = (0..4).map(|_| tokio::spawn(count_up(Arc::clone(&bucket), 10)));
    for counter in within("the counters", join_all(counters)).await {
        counter.expect("a counter does not panic");
    }
    assert_eq!(
        value(bucket.as_ref(), "t1.count").await,
        Some(Bytes::from_static(b"40"))
    );
}

async fn count_up(bucket: Arc<dyn KeyValue>, times: u32) {
    let mut done = 0;
    while done < times {
        let entry = get(bucket.as_ref(), "t1.count").await.expect("it is there");
        let count: u32 = std::str::from_utf8(&entry.value)
            .ok()
            .and_then(|text| text.parse().ok())
            .expect("a number");
        let next = (count + 1).to_string();
        match put(
            bucket.as_ref(),
            "t1.count",
            &next,
            Expect::Revision(entry.revision),
        )
        .await
        {
            Ok(_) => done += 1,
            conflict => assert_conflict(conflict, "t1.count"),
        }
    }
}

/// A deleted key is absent, can be created again, and its revision goes on.
pub async fn a_deleted_key_can_be_created_again(harness: &dyn Harness) {
    let bucket = receipts(harness).await;
    let first = put(bucket.as_ref(), "t1.k", "one", Expect::Absent)
        .await
        .expect("the key is absent");
    bucket
        .delete(&subject("t1.k"), Expect::Revision(first))
        .await
        .expect("it is the revision");
    assert_eq!(get(bucket.as_ref(), "t1.k").await, None);
    assert_eq!(keys(&scan(bucket.as_ref(), None).await), Vec::<&str>::new());
    assert_conflict(
        put(bucket.as_ref(), "t1.k", "x", Expect::Revision(first)).await,
        "t1.k",
    );
    let second = put(bucket.as_ref(), "t1.k", "two", Expect::Absent)
        .await
        .expect("the key is absent");
    assert!(second > first, "the revision {second} is not above {first}");
    assert_eq!(
        value(bucket.as_ref(), "t1.k").await,
        Some(Bytes::from_static(b"two"))
    );
}

/// A deletion respects what it expects; an absent key is no error where it expects nothing.
pub async fn a_deletion_respects_its_expectation(harness: &dyn Harness) {
    let bucket = receipts(harness).await;
    let key = subject("t1.k");
    bucket
        .delete(&key, Expect::Anything)
        .await
        .expect("an absent key is no error");
    assert_conflict(bucket.delete(&key, Expect::Revision(1)).await, "t1.k");
    let first = put(bucket.as_ref(), "t1.k", "one", Expect::Anything)
        .await
        .expect("nothing stands against it");
    let second = put(bucket.as_ref(), "t1.k", "two", Expect::Anything)
        .await
        .expect("nothing stands against it");
    assert_conflict(bucket.delete(&key, Expect::Revision(first)).await, "t1.k");
    assert_eq!(
        get(bucket.as_ref(), "t1.k").await.map(|entry| entry.revision),
        Some(second)
    );
    bucket
        .delete(&key, Expect::Anything)
        .await
        .expect("nothing stands against it");
    assert_eq!(get(bucket.as_ref(), "t1.k").await, None);
    bucket
        .delete(&key, Expect::Anything)
        .await
        .expect("an absent key is no error");
}

/// A scan selects whole tokens under its prefix, in the order of keys; without one, everything.
pub async fn a_scan_selects_by_prefix_in_order(harness: &dyn Harness) {
    let bucket = receipts(harness).await;
    assert_eq!(scan(bucket.as_ref(), None).await, []);
    for key in [
        "b.a", "a.b.d", "a.bc", "a.b.c.e", "a.b.c", "a.b-c.d", "a.c.a", "A.b.c",
    ] {
        put(bucket.as_ref(), key, key, Expect::Absent)
            .await
            .expect("the key is absent");
    }
    let found = scan(bucket.as_ref(), Some("a.b")).await;
    assert_eq!(keys(&found), ["a.b.c", "a.b.c.e", "a.b.d"]);
    assert!(found.iter().all(|entry| entry.value == entry.key.as_str()));
    assert_eq!(get(bucket.as_ref(), "a.b.c").await.as_ref(), found.first());
    assert_eq!(keys(&scan(bucket.as_ref(), Some("a.b.c")).await), ["a.b.c.e"]);
    assert_eq!(scan(bucket.as_ref(), Some("a.x")).await, []);
    let all = scan(bucket.as_ref(), None).await;
    assert_eq!(
        keys(&all),
        [
            "A.b.c", "a.b-c.d", "a.b.c", "a.b.c.e", "a.b.d", "a.bc", "a.c.a", "b.a"
        ]
    );
}

/// The same key in two buckets is two keys.
pub async fn buckets_are_apart(harness: &dyn Harness) {
    let engine = harness.open(Layout::default()).await;
    for bucket in Bucket::ALL {
        let handle = engine.bucket(bucket);
        put(handle.as_ref(), "t1.k", bucket.name(), Expect::Absent)
            .await
            .expect("the key is absent");
    }
    engine
        .bucket(Bucket::Cursors)
        .delete(&subject("t1.k"), Expect::Anything)
        .await
        .expect("it is there");
    assert_eq!(get(engine.bucket(Bucket::Cursors).as_ref(), "t1.k").await, None);
    for bucket in [Bucket::EndpointSecrets, Bucket::Receipts] {
        let found = value(engine.bucket(bucket).as_ref(), "t1.k").await;
        assert_eq!(found, Some(Bytes::from_static(bucket.name().as_bytes())));
    }
}

/// A large and binary value comes back as it went in; one over the limit is refused, and nothing is changed.
pub async fn an_oversized_value_is_refused(harness: &dyn Harness) {
    const LIMIT: usize = 1 << 20;
    let bucket = receipts(harness).await;
    let key = subject("t1.k");
    let large: Bytes = (0..512_usize << 10)
        .map(|at| u8::try_from(at % 256).unwrap_or_default())
        .collect();
    bucket
        .put(&key, large.clone(), Expect::Absent, None)
        .await
        .expect("the key is absent");
    assert_eq!(value(bucket.as_ref(), "t1.k").await, Some(large.clone()));
    match bucket
        .put(&key, Bytes::from(vec![0; LIMIT + 1]), Expect::Anything, None)
        .await
    {
        Err(KvError::TooLarge { bytes, limit }) => assert_eq!((bytes, limit), (LIMIT + 1, LIMIT)),
        other => panic!("too large a value was not refused: {other:?}"),
    }
    assert_eq!(value(bucket.as_ref(), "t1.k").await, Some(large));
}
