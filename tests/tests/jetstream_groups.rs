//! Group commit on JetStream: many appends of one process share a batch, and none of them suffers for another.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use broker::jetstream::{JetStream, Settings};
use broker::layout::{Layout, Log};
use broker::{AppendError, Appended, Engine, EventLog, NewRecord, Subject, Token};
use futures::future::join_all;
use tests::nats::{JetStreamHarness, NatsServer};
use tests::proxy::Fault;
use tokio::task::JoinHandle;

const EVENTS: Log = Log::Events(0);
const MESSAGES: Log = Log::Messages(0);
const PATIENCE: Duration = Duration::from_secs(30);

/// Many more than go by themselves.
const MANY: usize = 300;

fn record(subject: &str, id: &str, expect: Option<u64>) -> NewRecord {
    NewRecord {
        subject: Subject::new(subject).unwrap(),
        message_id: format!("t:{id}"),
        expect,
        payload: bytes::Bytes::from(id.to_owned()),
    }
}

async fn engine(server: &NatsServer) -> JetStream {
    let settings = Settings::new(server.url(), Token::new("test").unwrap(), Layout::default());
    JetStream::connect(settings).await.unwrap()
}

type Outcome = Result<Vec<Appended>, AppendError>;

fn append_all(log: &Arc<dyn EventLog>, appends: Vec<Vec<NewRecord>>) -> Vec<JoinHandle<Outcome>> {
    let start = |records| {
        let log = Arc::clone(log);
        tokio::spawn(async move { log.append(records).await })
    };
    appends.into_iter().map(start).collect()
}

async fn outcomes(appending: Vec<JoinHandle<Outcome>>) -> Vec<Outcome> {
    let all = tokio::time::timeout(PATIENCE, join_all(appending)).await.unwrap();
    all.into_iter().map(Result::unwrap).collect()
}

/// Every record once, in the place that was answered, with what it was appended with.
async fn stand_where_answered(log: &Arc<dyn EventLog>, appends: &[Vec<NewRecord>], outcomes: &[Outcome]) {
    let stored = log.read(0, None, usize::MAX).await.unwrap();
    let ids: HashSet<&str> = stored.iter().map(|record| record.message_id.as_str()).collect();
    assert_eq!(ids.len(), stored.len(), "a record is stored twice");
    for (records, outcome) in appends.iter().zip(outcomes) {
        let Ok(places) = outcome else { continue };
        assert_eq!(places.len(), records.len());
        for (record, place) in records.iter().zip(places) {
            let index = usize::try_from(place.sequence).unwrap() - 1;
            let found = &stored[index];
            assert_eq!(
                (&found.subject, &found.payload),
                (&record.subject, &record.payload)
            );
        }
        let contiguous = places
            .windows(2)
            .all(|pair| pair[1].sequence == pair[0].sequence + 1);
        assert!(contiguous, "an append was torn: {places:?}");
    }
}

#[tokio::test]
async fn the_stale_one_of_many_conflicts_and_no_other() {
    let server = NatsServer::start().await.unwrap();
    let engine = engine(&server).await;
    let log = engine.log(EVENTS);
    log.append(vec![record("ev.t.user.u150", "first", Some(0))])
        .await
        .unwrap();
    let appends: Vec<Vec<NewRecord>> = (0..MANY)
        .map(|n| {
            let subject = format!("ev.t.user.u{n}");
            match n % 3 {
                0 => vec![record(&subject, &format!("a{n}"), Some(0))],
                1 => vec![record(&subject, &format!("a{n}"), None)],
                _ => vec![
                    record(&format!("uq.t.email.h{n}"), &format!("c{n}"), Some(0)),
                    record(&subject, &format!("a{n}"), Some(0)),
                ],
            }
        })
        .collect();
    let outcomes = outcomes(append_all(&log, appends.clone())).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Err(AppendError::Conflict { subject }) if n == 150 => {
                assert_eq!(subject.as_str(), "ev.t.user.u150");
            }
            outcome => assert!(n != 150 && outcome.is_ok(), "{n}: {outcome:?}"),
        }
    }
    stand_where_answered(&log, &appends, &outcomes).await;
}

#[tokio::test]
async fn many_appends_go_as_few_batches() {
    let server = NatsServer::start().await.unwrap();
    let engine = engine(&server).await;
    // Different handles of one log meet in its writer.
    let appends = (0..MANY).map(|n| {
        let log = engine.log(MESSAGES);
        async move { log.append(vec![record("msg.t.paid", &n.to_string(), None)]).await }
    });
    for outcome in join_all(appends).await {
        outcome.unwrap();
    }
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let stream = context.get_stream("TEST_MESSAGES-0").await.unwrap();
    let mut batches = HashSet::new();
    for sequence in 1..=MANY as u64 {
        let message = stream.get_raw_message(sequence).await.unwrap();
        batches.extend(message.headers.get("Nats-Batch-Id").map(ToString::to_string));
    }
    assert!((1..=30).contains(&batches.len()), "{} batches", batches.len());
}

#[tokio::test]
async fn a_group_whose_acknowledgement_is_lost_is_stored_once() {
    let harness = JetStreamHarness::start().await.unwrap();
    let engine = harness.open_engine(Layout::default()).await.unwrap();
    let direct = harness.direct_log(EVENTS).await.unwrap();
    let log = engine.log(EVENTS);
    let appends: Vec<Vec<NewRecord>> = (0..MANY)
        .map(|n| {
            let expect = (n % 2 == 0).then_some(0);
            vec![record(&format!("ev.t.user.u{n}"), &format!("a{n}"), expect)]
        })
        .collect();
    harness.proxy().set(Fault::LoseAnswers);
    let appending = append_all(&log, appends.clone());
    // More than go by themselves: a batch is in the log whose acknowledgement nobody got.
    tokio::time::timeout(PATIENCE, async {
        while direct.state().await.unwrap().last < MANY as u64 / 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    harness.proxy().cut_and_heal();
    let outcomes = outcomes(appending).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(direct.state().await.unwrap().last, MANY as u64);
    stand_where_answered(&direct, &appends, &outcomes).await;
}

#[tokio::test]
async fn callers_that_go_away_disturb_nobody() {
    let server = NatsServer::start().await.unwrap();
    let engine = engine(&server).await;
    let log = engine.log(EVENTS);
    for round in 0..5 {
        let appends: Vec<Vec<NewRecord>> = (0..MANY)
            .map(|n| {
                vec![record(
                    &format!("ev.t.user.r{round}u{n}"),
                    &format!("r{round}a{n}"),
                    Some(0),
                )]
            })
            .collect();
        let mut kept = Vec::new();
        for (n, task) in append_all(&log, appends.clone()).into_iter().enumerate() {
            if n % 3 == round % 3 {
                tokio::task::yield_now().await;
                task.abort();
            } else {
                kept.push(task);
            }
        }
        let outcomes = outcomes(kept).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        // What was dropped has an unknown outcome: the same again is stored or found stored.
        let again = join_all(appends.iter().map(|records| log.append(records.clone()))).await;
        assert!(again.iter().all(Result::is_ok), "{again:?}");
        stand_where_answered(&log, &appends, &again).await;
    }
}

#[tokio::test]
async fn writers_that_race_on_one_subject_in_company_never_overwrite_each_other() {
    let server = NatsServer::start().await.unwrap();
    let engine = engine(&server).await;
    let log = engine.log(EVENTS);
    let writer = |number: usize| {
        let log = Arc::clone(&log);
        async move {
            let (mut won, mut last) = (0, 0);
            while won < 3 {
                let id = format!("w{number}-{won}-{last}");
                match log
                    .append(vec![record("ev.t.user.shared", &id, Some(last))])
                    .await
                {
                    Ok(places) => {
                        last = places[0].sequence;
                        won += 1;
                    }
                    Err(AppendError::Conflict { .. }) => {
                        let shared = Subject::new("ev.t.user.shared").unwrap();
                        last = log
                            .last(&shared)
                            .await
                            .unwrap()
                            .map_or(0, |record| record.sequence);
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
    };
    let busy = (0..MANY).map(|n| {
        log.append(vec![record(
            &format!("ev.t.user.u{n}"),
            &format!("a{n}"),
            Some(0),
        )])
    });
    let (_, others) = tokio::join!(join_all((0..20).map(writer)), join_all(busy));
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    let stored = log.read(0, None, usize::MAX).await.unwrap();
    assert_eq!(stored.len(), MANY + 60);
}

#[tokio::test]
async fn a_server_that_is_silent_fails_all_that_wait_in_bounded_time() {
    let harness = JetStreamHarness::start().await.unwrap();
    harness.open_engine(Layout::default()).await.unwrap();
    let mut settings = harness.settings(Layout::default()).unwrap();
    settings.timeouts.append = Duration::from_secs(1);
    settings.timeouts.request = Duration::from_secs(1);
    let engine = JetStream::connect(settings).await.unwrap();
    let log = engine.log(EVENTS);
    harness.proxy().set(Fault::HalfOpen);
    let appends: Vec<Vec<NewRecord>> = (0..MANY)
        .map(|n| vec![record(&format!("ev.t.user.u{n}"), &format!("a{n}"), Some(0))])
        .collect();
    let started = std::time::Instant::now();
    for outcome in outcomes(append_all(&log, appends.clone())).await {
        assert!(
            matches!(
                outcome,
                Err(AppendError::Unknown(_) | AppendError::Unavailable(_))
            ),
            "{outcome:?}"
        );
    }
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "{:?}",
        started.elapsed()
    );
    harness.proxy().cut_and_heal();
    let direct = harness.direct_log(EVENTS).await.unwrap();
    let again = outcomes(append_all(&direct, appends.clone())).await;
    assert!(again.iter().all(Result::is_ok), "{again:?}");
    stand_where_answered(&direct, &appends, &again).await;
}
