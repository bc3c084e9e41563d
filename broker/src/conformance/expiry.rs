//! Cases of `KeyValue` about time: times to live, and restarts.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{Expect, KeyValue};

use super::Harness;
use super::kv::{assert_conflict, get, keys, put, receipts, scan, value};
use super::support::{PATIENCE, subject, within};

async fn put_for(bucket: &dyn KeyValue, key: &str, value: &str, seconds: u64) -> u64 {
    let (value, time_to_live) = (
        Bytes::copy_from_slice(value.as_bytes()),
        Duration::from_secs(seconds),
    );
    let key = subject(key);
    let put = bucket.put(&key, value, Expect::Anything, Some(time_to_live));
    within("a put", put).await.expect("nothing stands against it")
}

/// Waits until the key is absent; answers how long that took.
async fn until_absent(bucket: &dyn KeyValue, key: &str) -> Duration {
    let begun = Instant::now();
    while get(bucket, key).await.is_some() {
        assert!(begun.elapsed() < PATIENCE, "{key} never expired");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

/// A key with a time to live is there until then, absent soon after, and can be created again.
pub async fn a_key_expires(harness: &dyn Harness) {
    let bucket = receipts(harness).await;
    put(bucket.as_ref(), "t1.stays", "s", Expect::Absent)
        .await
        .expect("the key is absent");
    put_for(bucket.as_ref(), "t1.k", "one", 2).await;
    assert_eq!(
        value(bucket.as_ref(), "t1.k").await,
        Some(Bytes::from_static(b"one"))
    );
    assert_conflict(put(bucket.as_ref(), "t1.k", "x", Expect::Absent).await, "t1.k");
    let lived = until_absent(bucket.as_ref(), "t1.k").await;
    assert!(lived > Duration::from_secs(1), "the key lived only {lived:?}");
    assert!(lived < Duration::from_secs(6), "the key lived {lived:?}");
    assert_eq!(keys(&scan(bucket.as_ref(), None).await), ["t1.stays"]);
    put(bucket.as_ref(), "t1.k", "two", Expect::Absent)
        .await
        .expect("an expired key is absent");
    assert_eq!(
        value(bucket.as_ref(), "t1.k").await,
        Some(Bytes::from_static(b"two"))
    );
}

/// A rewrite sets a new time to live, or none.
pub async fn a_rewrite_sets_a_new_time_to_live(harness: &dyn Harness) {
    let bucket = receipts(harness).await;
    for key in ["t1.longer", "t1.ever", "t1.short"] {
        put_for(bucket.as_ref(), key, "one", 1).await;
    }
    put_for(bucket.as_ref(), "t1.longer", "two", 60).await;
    put(bucket.as_ref(), "t1.ever", "two", Expect::Anything)
        .await
        .expect("nothing stands against it");
    until_absent(bucket.as_ref(), "t1.short").await;
    // Written at the same time, these would be gone by now as well, were it not for the rewrite.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(
        value(bucket.as_ref(), "t1.longer").await,
        Some(Bytes::from_static(b"two"))
    );
    assert_eq!(
        value(bucket.as_ref(), "t1.ever").await,
        Some(Bytes::from_static(b"two"))
    );
}

/// Values, revisions and times to live survive a restart of our process.
pub async fn keys_survive_our_restart(harness: &dyn Harness) {
    let bucket = receipts(harness).await;
    put(bucket.as_ref(), "t1.k", "one", Expect::Absent)
        .await
        .expect("the key is absent");
    put(bucket.as_ref(), "t1.gone", "x", Expect::Absent)
        .await
        .expect("the key is absent");
    bucket
        .delete(&subject("t1.gone"), Expect::Anything)
        .await
        .expect("it is there");
    put_for(bucket.as_ref(), "t1.short", "x", 2).await;
    let before = get(bucket.as_ref(), "t1.k").await;
    drop(bucket);
    let bucket = receipts(harness).await;
    assert_eq!(get(bucket.as_ref(), "t1.k").await, before);
    assert_eq!(get(bucket.as_ref(), "t1.gone").await, None);
    until_absent(bucket.as_ref(), "t1.short").await;
    let revision = before.expect("it is there").revision;
    let next = put(bucket.as_ref(), "t1.k", "two", Expect::Revision(revision)).await;
    assert!(next.expect("it is the revision") > revision);
}
