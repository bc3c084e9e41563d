//! The queue on JetStream: what is settled leaves the stream, and comes back from no crash.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::jetstream::{JetStream, Settings};
use broker::layout::Layout;
use broker::{Engine, Job, Lease, QueueError, Settlement, Token, WorkQueue};
use tests::nats::NatsServer;

const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any sweep waits.
const MOMENT: Duration = Duration::from_millis(600);
const JOBS: usize = 60;

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

async fn engine(server: &NatsServer, lease: Duration) -> JetStream {
    let layout = Layout {
        lease,
        ..Layout::default()
    };
    let settings = Settings::new(server.url(), token("test"), layout);
    JetStream::connect(settings).await.unwrap()
}

/// That many jobs in the queue, leased.
async fn leased(queue: &Arc<dyn WorkQueue>, jobs: usize) -> Vec<Lease> {
    let job = |number| Job {
        id: token(&format!("j{number}")),
        tenant: token("t"),
        lane: token("e"),
        payload: bytes::Bytes::from_static(b"x"),
    };
    queue
        .enqueue((0..jobs).map(|number| (job(number), None)).collect())
        .await
        .unwrap();
    let mut leases = Vec::new();
    while leases.len() < jobs {
        leases.extend(queue.lease(jobs, Duration::from_secs(5)).await.unwrap());
    }
    leases
}

/// How many messages the stream of jobs has.
async fn messages(server: &NatsServer) -> u64 {
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let mut stream = context.get_stream("TEST_DELIVERIES").await.unwrap();
    stream.info().await.unwrap().state.messages
}

#[tokio::test]
async fn what_is_settled_is_taken_out_and_what_is_open_stays() {
    let server = NatsServer::start().await.unwrap();
    let engine = engine(&server, PATIENCE).await;
    let queue = engine.queue();
    let mut leases = leased(&queue, JOBS).await;
    leases.sort_by_key(|lease| {
        lease
            .job
            .id
            .to_string()
            .trim_start_matches('j')
            .parse::<usize>()
            .unwrap()
    });
    let open = leases.remove(JOBS / 2);
    for lease in &leases {
        queue.settle(lease, Settlement::Done).await.unwrap();
    }
    // All before the open one goes, what came after it waits for that.
    let begun = Instant::now();
    while messages(&server).await != (JOBS - JOBS / 2) as u64 {
        assert!(begun.elapsed() < PATIENCE, "{} are left", messages(&server).await);
        assert_eq!(queue.lease(JOBS, MOMENT).await.unwrap(), []);
    }
    queue.settle(&open, Settlement::Done).await.unwrap();
    let begun = Instant::now();
    while messages(&server).await > 0 {
        assert!(begun.elapsed() < PATIENCE, "{} are left", messages(&server).await);
        assert_eq!(queue.lease(JOBS, MOMENT).await.unwrap(), []);
    }
}

/// The server forgets the last settlements when it is killed; who made them does not.
#[tokio::test]
async fn what_a_process_has_settled_it_is_not_given_again_after_a_kill_of_the_server() {
    let mut server = NatsServer::start().await.unwrap();
    let engine = engine(&server, Duration::from_secs(2)).await;
    let queue = engine.queue();
    let leases = leased(&queue, JOBS).await;
    let settled = leases.iter().map(|lease| queue.settle(lease, Settlement::Done));
    for settled in futures::future::join_all(settled).await {
        settled.unwrap();
    }
    server.restart().await.unwrap();
    // What the server takes for being in hand comes when that lease is over.
    let begun = Instant::now();
    loop {
        match queue.lease(JOBS, MOMENT).await {
            Ok(again) => assert_eq!(again, []),
            Err(QueueError::Unavailable(_)) => continue,
            Err(error) => panic!("{error}"),
        }
        let left = messages(&server).await;
        if left == 0 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{left} are left");
    }
}
