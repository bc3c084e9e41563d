//! Cases of `EventLog::follow`: history, then live, with no gap and no repeat.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use crate::layout::Layout;
use crate::{EventLog, MAX_RECORD};

use super::Harness;
use super::support::{
    EVENTS, append, append_surely, assert_contiguous, assert_silent, events, filter, message_ids, record,
    sequences, take, within,
};

async fn append_numbers(log: &dyn EventLog, writer: u32, count: u32) {
    for number in 0..count {
        let id = format!("w{writer}-{number}");
        append(
            log,
            vec![record(&format!("ev.t{writer}.user.u{}", number % 3), &id, None)],
        )
        .await;
    }
}

/// A follower that starts while others write sees every record once, in order.
pub async fn history_then_live_without_gap_or_repeat(harness: &dyn Harness) {
    let log = events(harness).await;
    append_numbers(log.as_ref(), 0, 50).await;
    let writers = (1..=4).map(|writer| {
        let log = Arc::clone(&log);
        tokio::spawn(async move { append_numbers(log.as_ref(), writer, 50).await })
    });
    let writers: Vec<_> = writers.collect();
    let mut follower = within("following", log.follow(0, None))
        .await
        .expect("the log can be followed");
    let records = take(&mut follower, 250).await;
    assert_contiguous(&records, 1);
    within("the writers", join_all(writers)).await;
    assert_silent(&mut follower).await;
    append(log.as_ref(), vec![record("ev.t1.user.u1", "late", None)]).await;
    assert_eq!(message_ids(&take(&mut follower, 1).await), ["late"]);
}

/// A follower of an empty log, or from its end, sees what comes, and nothing before it.
pub async fn from_the_end_only_what_comes(harness: &dyn Harness) {
    let log = events(harness).await;
    let mut from_empty = log.follow(0, None).await.expect("the log can be followed");
    assert_silent(&mut from_empty).await;
    append_numbers(log.as_ref(), 1, 5).await;
    assert_eq!(sequences(&take(&mut from_empty, 5).await), [1, 2, 3, 4, 5]);
    let mut from_end = log.follow(5, None).await.expect("the log can be followed");
    let mut from_middle = log.follow(3, None).await.expect("the log can be followed");
    assert_eq!(sequences(&take(&mut from_middle, 2).await), [4, 5]);
    assert_silent(&mut from_end).await;
    append_numbers(log.as_ref(), 2, 1).await;
    for mut follower in [from_empty, from_middle, from_end] {
        assert_eq!(sequences(&take(&mut follower, 1).await), [6]);
    }
}

/// A follower with a filter sees exactly the records it selects, live ones too, however many lie between.
pub async fn a_filter_selects_what_is_followed(harness: &dyn Harness) {
    let log = events(harness).await;
    append_numbers(log.as_ref(), 1, 40).await;
    append(log.as_ref(), vec![record("ev.t2.user.u1", "mine-1", None)]).await;
    let mut wild = log
        .follow(0, Some(filter("ev.t2.>")))
        .await
        .expect("the log can be followed");
    let mut literal = log
        .follow(0, Some(filter("ev.t2.user.u1")))
        .await
        .expect("the log can be followed");
    for follower in [&mut wild, &mut literal] {
        assert_eq!(sequences(&take(follower, 1).await), [41]);
    }
    append_numbers(log.as_ref(), 1, 0).await;
    for number in 0..40 {
        append(
            log.as_ref(),
            vec![record("ev.t1.noise.n", &format!("noise-{number}"), None)],
        )
        .await;
    }
    append(log.as_ref(), vec![record("ev.t2.user.u1", "mine-2", None)]).await;
    for follower in [&mut wild, &mut literal] {
        let records = take(follower, 1).await;
        assert_eq!(
            (sequences(&records), message_ids(&records)),
            (vec![82], vec!["mine-2"])
        );
        assert_silent(follower).await;
    }
}

/// Two followers see the same records in the same order while many write.
pub async fn followers_agree_on_the_order(harness: &dyn Harness) {
    let log = events(harness).await;
    let mut one = log.follow(0, None).await.expect("the log can be followed");
    let writers = (1..=4).map(|writer| {
        let log = Arc::clone(&log);
        tokio::spawn(async move { append_numbers(log.as_ref(), writer, 40).await })
    });
    let writers: Vec<_> = writers.collect();
    let first = take(&mut one, 160).await;
    within("the writers", join_all(writers)).await;
    let mut two = log.follow(0, None).await.expect("the log can be followed");
    assert_eq!(take(&mut two, 160).await, first);
    assert_contiguous(&first, 1);
}

/// A long history comes whole, larger than any page or buffer inside.
pub async fn a_long_history_comes_whole(harness: &dyn Harness) {
    let log = events(harness).await;
    for batch in 0..5 {
        let number = |number: u32| record("ev.t1.user.u1", &format!("{batch}-{number}"), None);
        append(log.as_ref(), (0..600).map(number).collect()).await;
    }
    let mut follower = log.follow(0, None).await.expect("the log can be followed");
    let records = take(&mut follower, 3_000).await;
    assert_contiguous(&records, 1);
    assert_silent(&mut follower).await;
}

/// So does one of records so large that a server or a client would not hold many of them at once.
pub async fn a_history_of_large_records_comes_whole(harness: &dyn Harness) {
    const RECORDS: usize = 40;
    let log = events(harness).await;
    for number in 0..RECORDS {
        let mut large = record("ev.t1.user.u1", &number.to_string(), None);
        large.payload = Bytes::from(vec![7; MAX_RECORD]);
        append(log.as_ref(), vec![large]).await;
    }
    let mut follower = log.follow(0, None).await.expect("the log can be followed");
    let records = take(&mut follower, RECORDS).await;
    assert_contiguous(&records, 1);
    assert!(records.iter().all(|record| record.payload.len() == MAX_RECORD));
    append(log.as_ref(), vec![record("ev.t1.user.u1", "live", None)]).await;
    assert_eq!(message_ids(&take(&mut follower, 1).await), ["live"]);
}

/// After a restart of our process, following from the last position seen goes on without gap or repeat.
pub async fn following_resumes_after_our_restart(harness: &dyn Harness) {
    let log = events(harness).await;
    append_numbers(log.as_ref(), 1, 20).await;
    let mut follower = log.follow(0, None).await.expect("the log can be followed");
    let mut seen = take(&mut follower, 12).await;
    drop(follower);
    let log = events(harness).await;
    let mut follower = log.follow(12, None).await.expect("the log can be followed");
    append_numbers(log.as_ref(), 2, 10).await;
    seen.extend(take(&mut follower, 18).await);
    assert_contiguous(&seen, 1);
    assert_silent(&mut follower).await;
}

/// A crash of the storage is bridged by the follower itself where the storage is apart from this process; else
/// following again from the last position does it. Neither leaves a gap or a repeat.
pub async fn following_survives_a_crash_of_the_storage(harness: &dyn Harness) {
    let mut log = events(harness).await;
    append_numbers(log.as_ref(), 1, 20).await;
    let mut follower = log.follow(0, None).await.expect("the log can be followed");
    let mut seen = take(&mut follower, 15).await;
    harness.restart().await;
    if !harness.survives_restart() {
        drop(follower);
        log = harness.open(Layout::default()).await.log(EVENTS);
        follower = log.follow(15, None).await.expect("the log can be followed");
    }
    for number in 0..10 {
        let appended = append_surely(
            log.as_ref(),
            &[record("ev.t2.user.u1", &format!("after-{number}"), None)],
        )
        .await;
        appended.expect("nothing stands against it");
    }
    seen.extend(take(&mut follower, 15).await);
    assert_contiguous(&seen, 1);
    assert_silent(&mut follower).await;
}
