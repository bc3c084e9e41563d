//! Cases of `EventLog::append`: order, expectations, atomicity, refusals.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use crate::layout::{Layout, Log, Waiting};
use crate::{AppendError, EventLog, MAX_APPEND, MAX_RECORD, NewRecord};

use super::Harness;
use super::support::{
    EVENTS, append, assert_conflict, assert_contiguous, events, message_ids, read_all, record, subject,
    within,
};

/// Every stored record takes the next sequence, from 1, and readers see them in that order.
pub async fn sequences_are_contiguous_from_one(harness: &dyn Harness) {
    let log = events(harness).await;
    let mut ids = Vec::new();
    for number in 1..=200_u64 {
        let id = format!("t1:{number}");
        let appended = log
            .append(vec![record(&format!("ev.t1.user.u{}", number % 7), &id, None)])
            .await;
        let appended = appended.expect("nothing stands against it");
        assert_eq!(
            (appended.len(), appended[0].sequence, appended[0].duplicate),
            (1, number, false)
        );
        ids.push(id);
    }
    let records = read_all(log.as_ref()).await;
    assert_contiguous(&records, 1);
    assert_eq!(message_ids(&records), ids);
}

/// The expectation 0 holds on a subject without a record, whatever else the log holds, and only there.
pub async fn expecting_an_empty_subject(harness: &dyn Harness) {
    let log = events(harness).await;
    assert_eq!(
        append(log.as_ref(), vec![record("ev.t1.user.u1", "a", Some(0))]).await,
        1
    );
    assert_eq!(
        append(log.as_ref(), vec![record("ev.t1.user.u2", "b", Some(0))]).await,
        2
    );
    assert_conflict(
        log.append(vec![record("ev.t1.user.u1", "c", Some(0))]).await,
        "ev.t1.user.u1",
    );
    assert_eq!(
        append(log.as_ref(), vec![record("ev.t1.user.u1", "d", Some(1))]).await,
        3
    );
}

/// A stale expectation is a conflict that names its subject, and nothing is stored.
pub async fn a_stale_expectation_conflicts(harness: &dyn Harness) {
    let log = events(harness).await;
    append(log.as_ref(), vec![record("ev.t1.user.u1", "a", Some(0))]).await;
    append(log.as_ref(), vec![record("ev.t1.user.u1", "b", Some(1))]).await;
    for stale in [0, 1, 3, 99] {
        let id = format!("stale-{stale}");
        assert_conflict(
            log.append(vec![record("ev.t1.user.u1", &id, Some(stale))]).await,
            "ev.t1.user.u1",
        );
    }
    // A sequence that is the log's last, but of another subject, is stale as well.
    append(log.as_ref(), vec![record("ev.t1.user.u2", "c", Some(0))]).await;
    assert_conflict(
        log.append(vec![record("ev.t1.user.u1", "d", Some(3))]).await,
        "ev.t1.user.u1",
    );
    assert_eq!(message_ids(&read_all(log.as_ref()).await), ["a", "b", "c"]);
    assert_eq!(
        append(log.as_ref(), vec![record("ev.t1.user.u1", "e", Some(2))]).await,
        4
    );
}

/// A record without an expectation is stored whatever is the last on its subject.
pub async fn no_expectation_always_holds(harness: &dyn Harness) {
    let log = events(harness).await;
    for number in 1..=5 {
        let sequence = append(
            log.as_ref(),
            vec![record("ev.t1.user.u1", &format!("n{number}"), None)],
        )
        .await;
        assert_eq!(sequence, number);
    }
}

/// Of many writers with the same expectation exactly one wins, in every round; the others get a conflict.
pub async fn one_of_many_racing_writers_wins(harness: &dyn Harness) {
    const WRITERS: usize = 12;
    let log = events(harness).await;
    for last in 0..15 {
        let attempts = (0..WRITERS).map(|writer| {
            let log = Arc::clone(&log);
            let append = vec![record("ev.t1.user.u1", &format!("r{last}-w{writer}"), Some(last))];
            tokio::spawn(async move { log.append(append).await })
        });
        let mut won = Vec::new();
        for outcome in within("a race", join_all(attempts)).await {
            match outcome.expect("a writer does not panic") {
                Ok(appended) => won.push(appended[0].sequence),
                conflict => assert_conflict(conflict, "ev.t1.user.u1"),
            }
        }
        assert_eq!(
            won,
            [last + 1],
            "one writer should have won, with the next sequence"
        );
    }
    assert_contiguous(&read_all(log.as_ref()).await, 1);
}

/// Writers that load again after a conflict all succeed in the end, and every record follows the one its writer saw.
pub async fn racing_writers_succeed_by_loading_again(harness: &dyn Harness) {
    const WRITERS: u64 = 6;
    const EACH: u64 = 8;
    let log = events(harness).await;
    let writers = (0..WRITERS).map(|writer| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            for number in 0..EACH {
                append_by_loading(log.as_ref(), &format!("w{writer}-{number}")).await;
            }
        })
    });
    for writer in within("the writers", join_all(writers)).await {
        writer.expect("a writer does not panic");
    }
    let records = read_all(log.as_ref()).await;
    assert_eq!(u64::try_from(records.len()), Ok(WRITERS * EACH));
    for (seen, record) in (0_u64..).zip(&records) {
        assert_eq!(record.sequence, seen + 1);
        assert_eq!(
            record.payload,
            seen.to_string(),
            "a record was stored on top of one its writer had not seen"
        );
    }
}

/// Appends one record, whose payload is the sequence it saw.
async fn append_by_loading(log: &dyn EventLog, id: &str) {
    for attempt in 0..10_000 {
        let last = log
            .last(&subject("ev.t1.user.u1"))
            .await
            .expect("the log can be read");
        let seen = last.map_or(0, |record| record.sequence);
        let mut append = record("ev.t1.user.u1", &format!("{id}-{attempt}"), Some(seen));
        append.payload = Bytes::from(seen.to_string());
        match log.append(vec![append]).await {
            Ok(_) => return,
            conflict => assert_conflict(conflict, "ev.t1.user.u1"),
        }
    }
    panic!("{id} never won");
}

/// Writers on subjects of their own never disturb each other, and no sequence is left out or given twice.
pub async fn writers_on_many_subjects_do_not_conflict(harness: &dyn Harness) {
    const WRITERS: u64 = 16;
    const EACH: u64 = 20;
    let log = events(harness).await;
    let writers = (0..WRITERS).map(|writer| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let mut last = 0;
            for number in 0..EACH {
                let text = format!("ev.t1.user.u{writer}");
                let next = append(
                    log.as_ref(),
                    vec![record(&text, &format!("w{writer}-{number}"), Some(last))],
                )
                .await;
                assert!(next > last, "an acknowledged sequence went backwards");
                last = next;
            }
        })
    });
    for writer in within("the writers", join_all(writers)).await {
        writer.expect("a writer does not panic");
    }
    let records = read_all(log.as_ref()).await;
    assert_eq!(u64::try_from(records.len()), Ok(WRITERS * EACH));
    assert_contiguous(&records, 1);
}

/// The records of one append stand side by side and in order, whatever others append meanwhile.
pub async fn records_of_one_append_stay_together(harness: &dyn Harness) {
    let log = events(harness).await;
    let noise = {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            for number in 0..60 {
                append(
                    log.as_ref(),
                    vec![record("ev.t1.noise.n", &format!("noise-{number}"), None)],
                )
                .await;
            }
        })
    };
    for number in 0..15 {
        let part = |part: u32| {
            record(
                &format!("ev.t1.user.u{number}-{part}"),
                &format!("{number}-{part}"),
                Some(0),
            )
        };
        let appended = log
            .append((0..5).map(part).collect())
            .await
            .expect("nothing stands against it");
        let first = appended[0].sequence;
        let got: Vec<u64> = appended.iter().map(|place| place.sequence).collect();
        assert_eq!(got, (first..first + 5).collect::<Vec<_>>());
        let stored = log.read(first - 1, None, 5).await.expect("the log can be read");
        assert_eq!(
            message_ids(&stored),
            (0..5).map(|part| format!("{number}-{part}")).collect::<Vec<_>>()
        );
    }
    within("the other writer", noise)
        .await
        .expect("the other writer does not panic");
    let records = read_all(log.as_ref()).await;
    assert_eq!(records.len(), 60 + 15 * 5);
    assert_contiguous(&records, 1);
}

/// One failed expectation, wherever it stands, keeps every record of the append out.
pub async fn one_failed_expectation_stores_nothing(harness: &dyn Harness) {
    let log = events(harness).await;
    append(log.as_ref(), vec![record("ev.t1.user.taken", "taken", Some(0))]).await;
    for failing in 0..4 {
        let append: Vec<NewRecord> = (0..4)
            .map(|number| match number {
                _ if number == failing => record("ev.t1.user.taken", &format!("{failing}-x"), Some(0)),
                _ => record(
                    &format!("ev.t1.user.u{number}"),
                    &format!("{failing}-{number}"),
                    Some(0),
                ),
            })
            .collect();
        assert_conflict(log.append(append).await, "ev.t1.user.taken");
        assert_eq!(message_ids(&read_all(log.as_ref()).await), ["taken"]);
    }
    // Nor are the message ids of a refused append remembered.
    let again = vec![
        record("ev.t1.user.u1", "0-1", Some(0)),
        record("ev.t1.user.u2", "0-2", Some(0)),
    ];
    assert_eq!(append(log.as_ref(), again).await, 3);
}

/// A subject may come more than once in an append; its expectation is on the first.
pub async fn a_subject_may_come_twice_in_an_append(harness: &dyn Harness) {
    let log = events(harness).await;
    let twice = vec![
        record("ev.t1.user.u1", "a", Some(0)),
        record("ev.t1.user.u2", "b", Some(0)),
        record("ev.t1.user.u1", "c", None),
    ];
    assert_eq!(append(log.as_ref(), twice).await, 3);
    let last = log
        .last(&subject("ev.t1.user.u1"))
        .await
        .expect("the log can be read")
        .expect("it was appended");
    assert_eq!((last.sequence, last.message_id.as_str()), (3, "c"));
    assert_conflict(
        log.append(vec![record("ev.t1.user.u1", "d", Some(1))]).await,
        "ev.t1.user.u1",
    );
}

/// The largest append allowed is stored as a whole.
pub async fn the_largest_append_is_stored_whole(harness: &dyn Harness) {
    let log = events(harness).await;
    let number = |number: usize| record(&format!("ev.t1.user.u{number}"), &format!("{number}"), Some(0));
    let appended = within("an append", log.append((0..MAX_APPEND).map(number).collect())).await;
    assert_eq!(appended.expect("nothing stands against it").len(), MAX_APPEND);
    let records = read_all(log.as_ref()).await;
    assert_eq!(records.len(), MAX_APPEND);
    assert_contiguous(&records, 1);
}

/// An append that breaks a rule is refused as malformed, and nothing of it is stored.
pub async fn malformed_appends_are_refused(harness: &dyn Harness) {
    let log = events(harness).await;
    let good = |id: &str| record("ev.t1.user.u1", id, None);
    let too_many = (0..=MAX_APPEND)
        .map(|number| good(&format!("{number}")))
        .collect();
    let late_expectation = vec![good("a"), record("ev.t1.user.u1", "b", Some(0))];
    let same_id = vec![good("a"), record("ev.t1.user.u2", "a", None)];
    let foreign = vec![good("a"), record("msg.t1.invoice-paid", "b", None)];
    let mut appends = vec![Vec::new(), too_many, late_expectation, same_id, foreign];
    let long = "x".repeat(257);
    for id in ["", "a b", "a\nb", "a\u{7f}", "ä", long.as_str()] {
        appends.push(vec![good("a"), good(id)]);
    }
    for append in appends {
        let ids: Vec<_> = append
            .iter()
            .take(3)
            .map(|record| record.message_id.clone())
            .collect();
        let outcome = log.append(append).await;
        assert!(
            matches!(outcome, Err(AppendError::Malformed(_))),
            "{ids:?} was not refused: {outcome:?}"
        );
    }
    assert_eq!(read_all(log.as_ref()).await, []);
    append(
        log.as_ref(),
        vec![record("ev.t1.user.u1", &"x".repeat(256), Some(0))],
    )
    .await;
}

/// Records of the size that every engine takes are stored and come back, one alone and several together.
pub async fn the_largest_record_of_every_engine_is_stored(harness: &dyn Harness) {
    let log = events(harness).await;
    let large = |id: &str| {
        let mut large = record(&format!("ev.t1.user.{id}"), &id.repeat(256), Some(0));
        large.payload = Bytes::from(vec![7; MAX_RECORD]);
        large
    };
    append(log.as_ref(), vec![large("a")]).await;
    append(log.as_ref(), vec![large("b"), large("c")]).await;
    let sizes: Vec<_> = read_all(log.as_ref())
        .await
        .iter()
        .map(|record| record.payload.len())
        .collect();
    assert_eq!(sizes, [MAX_RECORD; 3]);
}

/// A record too large for the log is refused with its size, and nothing of the append is stored.
pub async fn an_oversized_record_is_refused(harness: &dyn Harness) {
    const BYTES: usize = 10 << 20;
    let log = events(harness).await;
    let mut large = record("ev.t1.user.u2", "large", Some(0));
    large.payload = Bytes::from(vec![7; BYTES]);
    for append in [
        vec![large.clone()],
        vec![record("ev.t1.user.u1", "small", Some(0)), large],
    ] {
        match log.append(append).await {
            Err(AppendError::TooLarge { bytes, limit }) => assert!(bytes >= BYTES && limit < BYTES),
            other => panic!("too large a record was not refused: {other:?}"),
        }
    }
    assert_eq!(read_all(log.as_ref()).await, []);
    assert_eq!(
        append(log.as_ref(), vec![record("ev.t1.user.u1", "small", Some(0))]).await,
        1
    );
}

/// What finds no room in the process is refused as busy and not stored; the rest is stored, and there is room again.
pub async fn what_finds_no_room_is_refused_and_not_stored(harness: &dyn Harness) {
    let bounds = [(8, usize::MAX), (usize::MAX, 8_000)].map(|(records, bytes)| Waiting { records, bytes });
    for (round, waiting) in bounds.into_iter().enumerate() {
        let layout = Layout {
            waiting,
            ..Layout::default()
        };
        let log = harness.open(layout).await.log(EVENTS);
        let before = read_all(log.as_ref()).await.len();
        let appends = (0..300).map(|number| {
            let id = format!("{round}:{number}");
            let mut record = record(&format!("ev.t1.user.u{number}"), &id, None);
            record.payload = Bytes::from(vec![7; 1_000]);
            let log = Arc::clone(&log);
            async move { (id, log.append(vec![record]).await) }
        });
        let mut stored = Vec::new();
        let mut refused = 0;
        for (id, outcome) in within("the appends", join_all(appends)).await {
            match outcome {
                Ok(_) => stored.push(id),
                Err(AppendError::Busy) => refused += 1,
                Err(other) => panic!("an append under pressure: {other:?}"),
            }
        }
        assert!(refused > 0 && !stored.is_empty(), "{refused} of 300 were refused");
        let records = read_all(log.as_ref()).await.split_off(before);
        let mut found = message_ids(&records);
        found.sort_unstable();
        stored.sort_unstable();
        assert_eq!(found, stored, "what is stored is not what was acknowledged");
        // More than the bound at once goes in when nothing else waits.
        let large = (0..20).map(|number| record("ev.t1.user.all", &format!("{round}:all:{number}"), None));
        append(log.as_ref(), large.collect()).await;
    }
}

/// A stale append fails alone, whoever waits beside it: its neighbours are stored by the same call.
pub async fn a_stale_append_among_many_fails_alone(harness: &dyn Harness) {
    const STALE: [usize; 3] = [0, 77, 199];
    let log = events(harness).await;
    for stale in STALE {
        append(
            log.as_ref(),
            vec![record(
                &format!("ev.t1.user.u{stale}"),
                &format!("first{stale}"),
                Some(0),
            )],
        )
        .await;
    }
    let appends = (0..200).map(|number| {
        let record = record(&format!("ev.t1.user.u{number}"), &format!("{number}"), Some(0));
        let log = Arc::clone(&log);
        async move { log.append(vec![record]).await }
    });
    let outcomes = within("the appends", join_all(appends)).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        if STALE.contains(&number) {
            assert_conflict(outcome, &format!("ev.t1.user.u{number}"));
        } else {
            assert!(
                outcome.is_ok(),
                "{number} failed with a stale neighbour: {outcome:?}"
            );
        }
    }
    assert_eq!(read_all(log.as_ref()).await.len(), 200);
}

/// Logs have sequences, subjects and message ids of their own.
pub async fn logs_are_apart(harness: &dyn Harness) {
    let engine = harness.open(Layout::default()).await;
    let (events, messages, attempts) = (
        engine.log(EVENTS),
        engine.log(Log::Messages(0)),
        engine.log(Log::Attempts),
    );
    assert_eq!(
        append(events.as_ref(), vec![record("ev.t1.user.u1", "same", None)]).await,
        1
    );
    assert_eq!(
        append(messages.as_ref(), vec![record("msg.t1.paid", "same", None)]).await,
        1
    );
    assert_eq!(
        append(attempts.as_ref(), vec![record("att.t1.e1", "same", None)]).await,
        1
    );
    assert_eq!(
        append(events.as_ref(), vec![record("uq.t1.email.h", "claim", Some(0))]).await,
        2
    );
    for (log, count) in [(events, 2), (messages, 1), (attempts, 1)] {
        assert_eq!(read_all(log.as_ref()).await.len(), count);
    }
}
