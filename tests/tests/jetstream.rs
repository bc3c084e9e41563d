//! What only the JetStream engine can get wrong: lost acknowledgements, cut connections, dying servers.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use broker::jetstream::{JetStream, Settings};
use broker::layout::{Bucket, Layout, Log};
use broker::{
    AppendError, Appended, Engine, EventLog, Expect, Job, KvError, NewRecord, QueueError, Settlement,
    Subject, Token,
};
use futures::StreamExt;
use tests::nats::{JetStreamHarness, NatsServer, operator};
use tests::proxy::Fault;
use tokio::task::JoinHandle;

const EVENTS: Log = Log::Events(0);
const PATIENCE: Duration = Duration::from_secs(30);

fn record(subject: &str, id: &str, expect: Option<u64>) -> NewRecord {
    NewRecord {
        subject: Subject::new(subject).unwrap(),
        message_id: format!("t:{id}"),
        expect,
        payload: bytes::Bytes::from(id.to_owned()),
    }
}

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

fn settings(server: &NatsServer) -> Settings {
    Settings::new(server.url(), token("test"), Layout::default())
}

/// Heals the connection and waits for the append.
async fn finish(
    harness: &JetStreamHarness,
    appending: JoinHandle<Result<Vec<Appended>, AppendError>>,
) -> Result<Vec<Appended>, AppendError> {
    harness.proxy().cut_and_heal();
    tokio::time::timeout(PATIENCE, appending).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_lost_acknowledgement_of_a_plain_append_is_recognised() {
    let harness = JetStreamHarness::start().await.unwrap();
    let engine = harness.open_engine(Layout::default()).await.unwrap();
    for (count, expect) in [(1, Some(0)), (2, None)] {
        let records = vec![record(
            &format!("ev.t.user.u{count}"),
            &format!("c{count}"),
            expect,
        )];
        let appending = harness.append_into_silence(EVENTS, records).await.unwrap();
        let appended = finish(&harness, appending).await.unwrap();
        assert_eq!(
            appended,
            [Appended {
                sequence: count,
                duplicate: true
            }]
        );
        assert_eq!(engine.log(EVENTS).state().await.unwrap().last, count);
    }
}

#[tokio::test]
async fn a_lost_acknowledgement_of_a_batch_is_recognised() {
    let harness = JetStreamHarness::start().await.unwrap();
    let engine = harness.open_engine(Layout::default()).await.unwrap();
    for expect in [Some(0), None] {
        let before = engine.log(EVENTS).state().await.unwrap().last;
        let name = expect.map_or("free", |_| "bound");
        let records: Vec<NewRecord> = (0..3)
            .map(|n| record(&format!("ev.t.user.{name}{n}"), &format!("{name}{n}"), expect))
            .collect();
        let appending = harness.append_into_silence(EVENTS, records).await.unwrap();
        let appended = finish(&harness, appending).await.unwrap();
        let places: Vec<u64> = appended.iter().map(|place| place.sequence).collect();
        assert_eq!(places, [before + 1, before + 2, before + 3]);
        assert!(appended.iter().all(|place| place.duplicate));
        assert_eq!(engine.log(EVENTS).state().await.unwrap().last, before + 3);
    }
}

#[tokio::test]
async fn an_append_overtaken_on_its_subject_is_still_recognised() {
    let harness = JetStreamHarness::start().await.unwrap();
    harness.open_engine(Layout::default()).await.unwrap();
    let mine = vec![
        record("ev.t.user.u", "mine", Some(0)),
        record("ev.t.user.v", "mine2", None),
    ];
    let appending = harness.append_into_silence(EVENTS, mine).await.unwrap();
    let direct = harness.direct_log(EVENTS).await.unwrap();
    direct
        .append(vec![record("ev.t.user.u", "other", Some(1))])
        .await
        .unwrap();
    let appended = finish(&harness, appending).await.unwrap();
    assert_eq!(
        appended,
        [1, 2].map(|sequence| Appended {
            sequence,
            duplicate: true
        })
    );
}

/// A refusal tells nothing of the try before it, which went unanswered and was stored.
#[tokio::test]
async fn a_refusal_after_silence_is_not_taken_for_nothing_stored() {
    for expect in [Some(0), None] {
        let harness = JetStreamHarness::start().await.unwrap();
        harness.open_engine(Layout::default()).await.unwrap();
        let mine = vec![record("ev.t.user.u", "mine", expect)];
        let appending = harness.append_into_silence(EVENTS, mine).await.unwrap();
        let client = async_nats::connect(harness.server().lock().await.url())
            .await
            .unwrap();
        let context = async_nats::jetstream::new(client);
        let stream = context.get_stream("TEST_EVENTS-0").await.unwrap();
        let mut config = stream.cached_info().config.clone();
        config.sealed = true;
        context.update_stream(config).await.unwrap();
        match (expect, finish(&harness, appending).await) {
            (Some(_), Ok(appended)) => assert_eq!((appended[0].sequence, appended[0].duplicate), (1, true)),
            (None, Err(AppendError::Unknown(_))) => {}
            (_, other) => panic!("it is stored, but the caller hears {other:?}"),
        }
    }
}

#[tokio::test]
async fn silence_from_the_server_ends_in_unknown_and_the_same_append_then_succeeds() {
    let harness = JetStreamHarness::start().await.unwrap();
    let mut settings = harness.settings(Layout::default()).unwrap();
    harness.open_engine(Layout::default()).await.unwrap();
    settings.timeouts.append = Duration::from_secs(1);
    settings.timeouts.request = Duration::from_secs(1);
    let engine = JetStream::connect(settings).await.unwrap();
    let records = vec![
        record("ev.t.user.u", "c", Some(0)),
        record("ev.t.user.v", "d", Some(0)),
    ];
    harness.proxy().set(Fault::HalfOpen);
    let started = Instant::now();
    let outcome = engine.log(EVENTS).append(records.clone()).await;
    assert!(matches!(outcome, Err(AppendError::Unknown(_))), "{outcome:?}");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        started.elapsed()
    );
    harness.proxy().cut_and_heal();
    let appended = until_ok(&engine, records).await;
    assert_eq!(
        appended.iter().map(|place| place.sequence).collect::<Vec<_>>(),
        [1, 2]
    );
}

/// As one of several servers that stands still while the others go on: its connections stay open, new ones are answered.
#[tokio::test]
async fn a_server_that_says_nothing_more_is_left_while_there_is_work_to_do() {
    let harness = JetStreamHarness::start().await.unwrap();
    let engine = harness.open_engine(Layout::default()).await.unwrap();
    let log = engine.log(EVENTS);
    harness.proxy().strand();
    let stranded = Instant::now();
    // Asked all the time, as a service asks: what is sent puts the client's own pings off.
    let (mut asked, mut answered) = (0, false);
    while !answered {
        assert!(stranded.elapsed() < PATIENCE, "{asked} appends were not answered");
        asked += 1;
        let append = [record("ev.t.user.u", &asked.to_string(), None)].to_vec();
        let appending = log.append(append);
        answered = matches!(
            tokio::time::timeout(Duration::from_millis(300), appending).await,
            Ok(Ok(_))
        );
    }
    assert!(asked > 5, "the connection was not stranded");
}

#[tokio::test]
async fn a_killed_server_gives_unavailable_or_unknown_in_bounded_time_and_loses_nothing_acknowledged() {
    let mut server = NatsServer::start().await.unwrap();
    let mut settings = settings(&server);
    settings.timeouts.append = Duration::from_secs(2);
    settings.timeouts.request = Duration::from_secs(1);
    let engine = JetStream::connect(settings).await.unwrap();
    let log = engine.log(EVENTS);
    let writers: Vec<_> = (0..8)
        .map(|writer| tokio::spawn(write_until_refused(Arc::clone(&log), writer)))
        .collect();
    let stored = tokio::time::timeout(PATIENCE, async {
        while log.state().await.unwrap().last < 50 {
            tokio::task::yield_now().await;
        }
    });
    stored.await.unwrap();
    server.kill().await.unwrap();
    let mut acknowledged = HashSet::new();
    for writer in writers {
        let outcome = tokio::time::timeout(PATIENCE, writer).await.unwrap().unwrap();
        assert!(
            outcome.waited < Duration::from_secs(5),
            "a writer hung for {:?}",
            outcome.waited
        );
        assert!(
            matches!(
                outcome.error,
                AppendError::Unknown(_) | AppendError::Unavailable(_)
            ),
            "{:?}",
            outcome.error
        );
        acknowledged.extend(outcome.acknowledged);
    }
    let refused = log.append(vec![record("ev.t.user.late", "late", Some(0))]).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    server.restart().await.unwrap();
    until_ok(&engine, vec![record("ev.t.user.late", "late", Some(0))]).await;
    let last = log.state().await.unwrap().last;
    let stored: HashSet<String> = log
        .read(0, None, usize::MAX)
        .await
        .unwrap()
        .into_iter()
        .map(|record| record.message_id)
        .collect();
    assert_eq!(stored.len() as u64, last, "an id is stored twice");
    assert!(acknowledged.is_subset(&stored));
}

struct Writing {
    acknowledged: Vec<String>,
    error: AppendError,
    waited: Duration,
}

async fn write_until_refused(log: Arc<dyn EventLog>, writer: usize) -> Writing {
    let mut acknowledged = Vec::new();
    let mut last = 0;
    for number in 0.. {
        let record = record(
            &format!("ev.t.user.w{writer}"),
            &format!("w{writer}-{number}"),
            Some(last),
        );
        let id = record.message_id.clone();
        let started = Instant::now();
        match log.append(vec![record]).await {
            Ok(appended) => {
                acknowledged.push(id);
                last = appended[0].sequence;
            }
            Err(error) => {
                return Writing {
                    acknowledged,
                    error,
                    waited: started.elapsed(),
                };
            }
        }
    }
    unreachable!("the numbers do not end")
}

async fn until_ok(engine: &JetStream, records: Vec<NewRecord>) -> Vec<Appended> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match engine.log(EVENTS).append(records.clone()).await {
            Ok(appended) => return appended,
            Err(AppendError::Unknown(_) | AppendError::Unavailable(_)) if Instant::now() < deadline => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_log_that_is_gone_is_not_an_empty_one() {
    let server = NatsServer::start().await.unwrap();
    let engine = JetStream::connect(settings(&server)).await.unwrap();
    let log = engine.log(Log::Messages(0));
    assert_eq!(log.read(0, None, 10).await.unwrap(), []);
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    context.delete_stream("TEST_MESSAGES-0").await.unwrap();
    assert!(log.read(0, None, 10).await.is_err());
    assert!(log.last(&Subject::new("msg.t.paid").unwrap()).await.is_err());
    assert!(log.follow(0, None).await.is_err());
}

/// A log made anew under a follower's feet is told, not waited for until it is as long as the old one.
#[tokio::test]
async fn a_follower_tells_of_a_log_that_was_made_anew() {
    let mut server = NatsServer::start().await.unwrap();
    let engine = JetStream::connect(settings(&server)).await.unwrap();
    let log = engine.log(EVENTS);
    for n in 0..3 {
        log.append(vec![record("ev.t.user.u", &n.to_string(), None)])
            .await
            .unwrap();
    }
    let mut follower = log.follow(0, None).await.unwrap();
    for _ in 0..3 {
        tokio::time::timeout(PATIENCE, follower.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
    server.kill().await.unwrap();
    std::fs::remove_dir_all(server.store()).unwrap();
    server.restart().await.unwrap();
    let anew = JetStream::connect(settings(&server)).await.unwrap();
    let told = tokio::time::timeout(PATIENCE, follower.next()).await.unwrap();
    assert!(matches!(told, Some(Err(_))), "{told:?}");
    anew.close().await;
}

#[tokio::test]
async fn following_survives_cuts_silence_and_a_killed_server() {
    let harness = JetStreamHarness::start().await.unwrap();
    let engine = harness.open_engine(Layout::default()).await.unwrap();
    let mut followed = engine.log(EVENTS).follow(0, None).await.unwrap();
    let mut written = 0;
    for fault in [
        Fault::None,
        Fault::Refuse,
        Fault::HalfOpen,
        Fault::LoseAnswers,
        Fault::None,
    ] {
        harness.proxy().set(fault);
        let direct = harness.direct_log(EVENTS).await.unwrap();
        for _ in 0..100 {
            written += 1;
            direct
                .append(vec![record("ev.t.user.u", &written.to_string(), None)])
                .await
                .unwrap();
        }
        harness.proxy().cut_and_heal();
        if written == 300 {
            harness.server().lock().await.restart().await.unwrap();
        }
        for expected in written - 99..=written {
            let next = tokio::time::timeout(PATIENCE, followed.next())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            assert_eq!(
                (next.sequence, next.message_id),
                (expected, format!("t:{expected}"))
            );
        }
    }
}

#[tokio::test]
async fn a_job_keeps_its_lease_and_its_due_time_across_a_killed_server() {
    let mut server = NatsServer::start().await.unwrap();
    let engine = JetStream::connect(settings(&server)).await.unwrap();
    let queue = engine.queue();
    let job = |id: &str| Job {
        id: token(id),
        tenant: token("t"),
        lane: token("e"),
        payload: id.to_owned().into(),
    };
    let later = SystemTime::now() + Duration::from_secs(3);
    queue
        .enqueue(vec![(job("now"), None), (job("later"), Some(later))])
        .await
        .unwrap();
    let [lease] = queue
        .lease(10, Duration::from_secs(5))
        .await
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!(lease.job, job("now"));
    server.restart().await.unwrap();
    let settled = tokio::time::timeout(PATIENCE, async {
        while let Err(QueueError::Unavailable(_)) = queue.settle(&lease, Settlement::Done).await {}
    });
    settled.await.unwrap();
    assert!(matches!(
        queue.settle(&lease, Settlement::Done).await,
        Err(QueueError::LeaseLost(_))
    ));
    let [lease] = queue
        .lease(10, Duration::from_secs(10))
        .await
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!(lease.job, job("later"));
    assert!(SystemTime::now() >= later);
}

#[tokio::test]
async fn many_appends_share_the_connection() {
    let server = NatsServer::start().await.unwrap();
    let engine = JetStream::connect(settings(&server)).await.unwrap();
    let log = engine.log(EVENTS);
    let appends = (0..200).map(|number| {
        let log = Arc::clone(&log);
        let subject = format!("ev.t.user.u{number}");
        async move {
            let single = vec![record(&subject, &format!("s{number}"), Some(0))];
            let first = log.append(single).await.unwrap()[0].sequence;
            let pair = vec![
                record(&subject, &format!("a{number}"), Some(first)),
                record(&subject, &format!("b{number}"), None),
            ];
            log.append(pair).await.unwrap()
        }
    });
    let appended: Vec<_> = futures::future::join_all(appends).await;
    assert!(
        appended
            .iter()
            .all(|pair| pair[1].sequence == pair[0].sequence + 1)
    );
    assert_eq!(log.state().await.unwrap().last, 600);
}

#[tokio::test]
async fn a_cut_connection_leaves_the_bucket_readable_afterwards() {
    let harness = JetStreamHarness::start().await.unwrap();
    let engine = harness.open_engine(Layout::default()).await.unwrap();
    let bucket = engine.bucket(Bucket::Receipts);
    let key = Subject::new("t.key").unwrap();
    bucket
        .put(&key, "one".into(), Expect::Absent, None)
        .await
        .unwrap();
    harness.proxy().cut_and_heal();
    let entry = bucket.get(&key).await.unwrap().unwrap();
    assert_eq!(entry.value, "one");
}

#[tokio::test]
async fn what_another_stream_takes_is_not_acknowledged() {
    const MESSAGES: &str = "TEST_MESSAGES-0";
    let server = NatsServer::start().await.unwrap();
    let engine = JetStream::connect(settings(&server)).await.unwrap();
    let log = engine.log(Log::Messages(0));
    let message = |id: &str| record("msg.t.a", id, None);
    log.append(vec![message("1")]).await.unwrap();
    let subjects = operator::divert(&server.url(), MESSAGES, Some("OTHER"))
        .await
        .unwrap();
    for records in [vec![message("2")], vec![message("3"), message("4")]] {
        let refused = log.append(records).await;
        assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    }
    operator::delete(&server.url(), "OTHER").await.unwrap();
    operator::reconfigure(&server.url(), MESSAGES, |config| config.subjects = subjects)
        .await
        .unwrap();
    let appended = log.append(vec![message("2")]).await.unwrap();
    assert_eq!(
        appended.first().map(|stored| stored.sequence),
        Some(2),
        "its log goes on where it was"
    );
}

#[tokio::test]
async fn what_another_stream_takes_is_neither_queued_nor_kept() {
    let server = NatsServer::start().await.unwrap();
    let mut settings = settings(&server);
    settings.timeouts.append = Duration::from_secs(2);
    let engine = JetStream::connect(settings).await.unwrap();
    for (stream, other) in [("TEST_DELIVERIES", "OTHER-1"), ("KV_test_cursors", "OTHER-2")] {
        operator::divert(&server.url(), stream, Some(other))
            .await
            .unwrap();
    }
    let job = |id: &str| Job {
        id: token(id),
        tenant: token("t"),
        lane: token("e"),
        payload: id.to_owned().into(),
    };
    for jobs in [vec![job("1")], vec![job("2"), job("3")]] {
        let refused = engine
            .queue()
            .enqueue(jobs.into_iter().map(|job| (job, None)).collect())
            .await;
        assert!(matches!(refused, Err(QueueError::Unavailable(_))), "{refused:?}");
    }
    let key = Subject::new("key").unwrap();
    let refused = engine
        .bucket(Bucket::Cursors)
        .put(&key, "one".into(), Expect::Absent, None)
        .await;
    assert!(matches!(refused, Err(KvError::Unavailable(_))), "{refused:?}");
}
