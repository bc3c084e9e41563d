//! Cases of appends that are repeated, or whose outcome nobody heard.

use std::time::Duration;

use futures::future::join_all;

use crate::{AppendError, Appended, NewRecord};

use super::Harness;
use super::support::{
    EVENTS, append, append_surely, assert_conflict, assert_contiguous, events, message_ids, read_all, record,
    subject, within,
};

fn places(sequences: &[u64], duplicate: bool) -> Vec<Appended> {
    let place = |&sequence| Appended { sequence, duplicate };
    sequences.iter().map(place).collect()
}

/// A record repeated under its message id keeps its place and is stored once.
pub async fn a_repeated_record_keeps_its_place(harness: &dyn Harness) {
    let log = events(harness).await;
    append(log.as_ref(), vec![record("ev.t1.user.u1", "other", None)]).await;
    let first = log.append(vec![record("ev.t1.user.u2", "mine", None)]).await;
    assert_eq!(first.expect("nothing stands against it"), places(&[2], false));
    append(log.as_ref(), vec![record("ev.t1.user.u1", "later", None)]).await;
    let again = log.append(vec![record("ev.t1.user.u2", "mine", None)]).await;
    assert_eq!(again.expect("a repetition succeeds"), places(&[2], true));
    assert_eq!(
        message_ids(&read_all(log.as_ref()).await),
        ["other", "mine", "later"]
    );
}

/// A conditional append repeated as a whole succeeds, though its own records have overtaken its expectations.
pub async fn a_repeated_conditional_append_succeeds(harness: &dyn Harness) {
    let log = events(harness).await;
    let single = vec![record("ev.t1.user.u1", "a", Some(0))];
    let several = vec![
        record("ev.t1.user.u2", "b", Some(0)),
        record("uq.t1.email.h", "c", Some(0)),
        record("ev.t1.user.u2", "d", None),
    ];
    assert_eq!(
        log.append(single.clone()).await.expect("it is the first"),
        places(&[1], false)
    );
    assert_eq!(
        log.append(several.clone()).await.expect("it is the first"),
        places(&[2, 3, 4], false)
    );
    assert_eq!(
        log.append(single).await.expect("a repetition succeeds"),
        places(&[1], true)
    );
    assert_eq!(
        log.append(several).await.expect("a repetition succeeds"),
        places(&[2, 3, 4], true)
    );
    assert_eq!(read_all(log.as_ref()).await.len(), 4);
}

/// It succeeds even when later records of others stand on its subjects by now.
pub async fn a_repeated_append_succeeds_though_overtaken_by_others(harness: &dyn Harness) {
    let log = events(harness).await;
    let single = vec![record("ev.t1.user.u1", "a", Some(0))];
    let several = vec![
        record("ev.t1.user.u2", "b", Some(0)),
        record("uq.t1.email.h", "c", Some(0)),
    ];
    append(log.as_ref(), single.clone()).await;
    append(log.as_ref(), several.clone()).await;
    append(log.as_ref(), vec![record("ev.t1.user.u1", "x", Some(1))]).await;
    append(log.as_ref(), vec![record("ev.t1.user.u2", "y", Some(2))]).await;
    assert_eq!(
        log.append(single).await.expect("a repetition succeeds"),
        places(&[1], true)
    );
    assert_eq!(
        log.append(several).await.expect("a repetition succeeds"),
        places(&[2, 3], true)
    );
    assert_eq!(
        message_ids(&read_all(log.as_ref()).await),
        ["a", "b", "c", "x", "y"]
    );
}

/// Without expectations, what is stored keeps its place and only the rest is appended, in order.
pub async fn an_append_known_in_part_stores_the_rest(harness: &dyn Harness) {
    let log = events(harness).await;
    let numbered = |id: &str| record("ev.t1.user.u1", id, None);
    append(log.as_ref(), vec![numbered("a"), numbered("b")]).await;
    let outcome = log
        .append(vec![numbered("c"), numbered("a"), numbered("d"), numbered("b")])
        .await;
    let [c, a, d, b] = outcome.expect("nothing stands against it")[..] else {
        panic!("an append answers for each record");
    };
    assert_eq!([c, d], places(&[3, 4], false)[..]);
    assert_eq!([a, b], places(&[1, 2], true)[..]);
    assert_eq!(message_ids(&read_all(log.as_ref()).await), ["a", "b", "c", "d"]);
}

/// With an expectation, an append of which only some is stored is a conflict, wherever the known record stands and
/// whether its own expectation holds, and the rest of it is not stored.
pub async fn a_conditional_append_known_in_part_conflicts(harness: &dyn Harness) {
    let log = events(harness).await;
    let known = record("ev.t1.user.u1", "known", Some(0));
    append(log.as_ref(), vec![known.clone()]).await;
    let anyhow = NewRecord {
        expect: None,
        ..known.clone()
    };
    let new = |id: &str| record(&format!("ev.t1.user.{id}"), id, Some(0));
    for partly in [
        vec![known.clone(), new("a")],
        vec![new("b"), known.clone()],
        vec![anyhow.clone(), new("c")],
        vec![new("d"), anyhow, record("ev.t1.user.d", "e", None)],
    ] {
        assert_conflict(log.append(partly).await, "ev.t1.user.u1");
    }
    assert_eq!(message_ids(&read_all(log.as_ref()).await), ["known"]);
}

/// After a lost acknowledgement the identical append answers where the record stands, it is stored once, and
/// another writer with the same expectation meets a conflict.
pub async fn a_lost_acknowledgement_is_made_up_for(harness: &dyn Harness) {
    let log = events(harness).await;
    append(log.as_ref(), vec![record("ev.t1.user.u1", "before", Some(0))]).await;
    let mine = vec![record("ev.t1.user.u1", "mine", Some(1))];
    let heard = harness.append_unacknowledged(EVENTS, mine.clone()).await;
    assert_not_refused(heard, &[2]);
    let again = append_surely(log.as_ref(), &mine)
        .await
        .expect("the repetition succeeds");
    assert_eq!(again, places(&[2], true));
    assert_conflict(
        log.append(vec![record("ev.t1.user.u1", "other", Some(1))]).await,
        "ev.t1.user.u1",
    );
    assert_eq!(message_ids(&read_all(log.as_ref()).await), ["before", "mine"]);
}

/// The same for an append of several records.
pub async fn a_lost_acknowledgement_of_several_records_is_made_up_for(harness: &dyn Harness) {
    let log = events(harness).await;
    let mine = vec![
        record("ev.t1.user.u1", "a", Some(0)),
        record("uq.t1.email.h", "b", Some(0)),
        record("ev.t1.user.u2", "c", None),
    ];
    let heard = harness.append_unacknowledged(EVENTS, mine.clone()).await;
    assert_not_refused(heard, &[1, 2, 3]);
    let again = append_surely(log.as_ref(), &mine)
        .await
        .expect("the repetition succeeds");
    assert_eq!(again, places(&[1, 2, 3], true));
    assert_conflict(
        log.append(vec![record("uq.t1.email.h", "other", Some(0))]).await,
        "uq.t1.email.h",
    );
    assert_eq!(message_ids(&read_all(log.as_ref()).await), ["a", "b", "c"]);
}

/// A caller whose acknowledgement was lost hears the truth or that it is unknown, never that nothing was stored.
fn assert_not_refused(heard: Option<Result<Vec<Appended>, AppendError>>, stored: &[u64]) {
    match heard {
        None | Some(Err(AppendError::Unknown(_))) => {}
        Some(Ok(appended)) => {
            let sequences: Vec<u64> = appended.iter().map(|place| place.sequence).collect();
            assert_eq!(sequences, stored);
        }
        Some(Err(refused)) => panic!("the records were stored, but the caller heard: {refused:?}"),
    }
}

/// Appends whose futures are dropped at any moment may be stored or not, are never stored twice, and do not harm the
/// log.
pub async fn dropped_appends_do_no_harm(harness: &dyn Harness) {
    let log = events(harness).await;
    let one = |number: u64| -> Vec<NewRecord> {
        vec![record(
            &format!("ev.t1.user.u{number}"),
            &format!("id-{number}"),
            Some(0),
        )]
    };
    for round in 0..4 {
        let dropped = (0..20_u64).map(|number| {
            let patience = Duration::from_micros(number * 100);
            tokio::time::timeout(patience, log.append(one(round * 20 + number)))
        });
        within("appends that are dropped", join_all(dropped)).await;
    }
    for number in 0..80 {
        append_surely(log.as_ref(), &one(number))
            .await
            .expect("the repetition succeeds");
    }
    let records = read_all(log.as_ref()).await;
    assert_eq!(records.len(), 80);
    assert_contiguous(&records, 1);
    for number in 0..80 {
        let found = log
            .last(&subject(&format!("ev.t1.user.u{number}")))
            .await
            .expect("the log can be read");
        assert_eq!(found.expect("it is stored").message_id, format!("id-{number}"));
    }
}
