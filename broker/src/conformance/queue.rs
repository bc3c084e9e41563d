//! Cases of the `WorkQueue`: leases, due times, settlements, restarts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::future::join_all;

use crate::{Job, QueueError, Settlement, WorkQueue};

use super::Harness;
use super::support::{assert_idle, enqueue, job, job_of, layout, lease_one, queue, within};

/// Long enough for any adapter to hand out a job that is due.
pub(super) const SOON: Duration = Duration::from_secs(8);
/// Long enough to see that a job does not come.
pub(super) const MOMENT: Duration = Duration::from_millis(300);

pub(super) fn from_now(duration: Duration) -> SystemTime {
    SystemTime::now() + duration
}

/// A job comes as it was put in, is held by one worker, and is gone when it is done.
pub async fn a_job_comes_once_and_is_done(harness: &dyn Harness) {
    let queue = queue(harness, 30).await;
    let job = job_of("t1", "e1", "j1");
    enqueue(queue.as_ref(), job.clone(), None).await;
    let lease = lease_one(queue.as_ref(), "j1", SOON).await;
    assert_eq!((&lease.job, lease.times), (&job, 1));
    let left = lease
        .expires
        .duration_since(SystemTime::now())
        .expect("a new lease has not expired");
    assert!(
        left > Duration::from_secs(20) && left < Duration::from_secs(40),
        "the lease ends in {left:?}"
    );
    assert_idle(queue.as_ref(), MOMENT).await;
    queue
        .settle(&lease, Settlement::Done)
        .await
        .expect("the lease is held");
    assert_idle(queue.as_ref(), MOMENT).await;
}

/// Enqueueing an id again while it waits, is leased, or is just done changes nothing.
pub async fn an_id_is_enqueued_once(harness: &dyn Harness) {
    let queue = queue(harness, 30).await;
    let mut again = job("j1");
    again.payload = Bytes::from_static(b"another");
    enqueue(queue.as_ref(), job("j1"), None).await;
    enqueue(queue.as_ref(), again.clone(), None).await;
    let lease = lease_one(queue.as_ref(), "j1", SOON).await;
    assert_eq!(lease.job, job("j1"));
    enqueue(queue.as_ref(), again.clone(), None).await;
    assert_idle(queue.as_ref(), MOMENT).await;
    queue
        .settle(&lease, Settlement::Done)
        .await
        .expect("the lease is held");
    enqueue(queue.as_ref(), again, None).await;
    assert_idle(queue.as_ref(), MOMENT).await;
}

/// A lease nobody settles ends, and the job comes to the next worker, who sees that it is the second time.
pub async fn an_expired_lease_comes_back(harness: &dyn Harness) {
    let queue = queue(harness, 1).await;
    enqueue(queue.as_ref(), job("j1"), None).await;
    let first = lease_one(queue.as_ref(), "j1", SOON).await;
    let second = lease_one(queue.as_ref(), "j1", SOON).await;
    assert!(
        SystemTime::now() >= first.expires,
        "the job came back before the lease had ended"
    );
    assert_eq!((first.times, second.times), (1, 2));
    assert_ne!(first.token, second.token);
    queue
        .settle(&second, Settlement::Done)
        .await
        .expect("the lease is held");
}

/// Once somebody else holds the job, the old lease can neither settle nor extend it, and changes nothing.
pub async fn a_lost_lease_changes_nothing(harness: &dyn Harness) {
    let queue = queue(harness, 2).await;
    enqueue(queue.as_ref(), job("j1"), None).await;
    let first = lease_one(queue.as_ref(), "j1", SOON).await;
    let second = lease_one(queue.as_ref(), "j1", SOON).await;
    for settlement in [
        Settlement::Done,
        Settlement::Again {
            due: SystemTime::now(),
            payload: Bytes::from_static(b"late"),
        },
        Settlement::Dead {
            payload: Bytes::from_static(b"late"),
        },
    ] {
        let outcome = queue.settle(&first, settlement).await;
        assert!(
            matches!(&outcome, Err(QueueError::LeaseLost(id)) if id.as_str() == "j1"),
            "{outcome:?}"
        );
    }
    assert!(matches!(
        queue.extend(&first).await,
        Err(QueueError::LeaseLost(_))
    ));
    queue
        .settle(&second, Settlement::Done)
        .await
        .expect("the second lease is held");
    assert_idle(queue.as_ref(), Duration::from_secs(3)).await;
}

/// A lease that was settled is over.
pub async fn a_settled_lease_is_over(harness: &dyn Harness) {
    let queue = queue(harness, 30).await;
    enqueue(queue.as_ref(), job("j1"), None).await;
    let lease = lease_one(queue.as_ref(), "j1", SOON).await;
    queue
        .settle(&lease, Settlement::Done)
        .await
        .expect("the lease is held");
    assert!(matches!(
        queue.settle(&lease, Settlement::Done).await,
        Err(QueueError::LeaseLost(_))
    ));
    assert!(matches!(
        queue.extend(&lease).await,
        Err(QueueError::LeaseLost(_))
    ));
}

/// A worker that extends its lease keeps the job beyond the first end.
pub async fn an_extended_lease_keeps_the_job(harness: &dyn Harness) {
    let queue = queue(harness, 2).await;
    enqueue(queue.as_ref(), job("j1"), None).await;
    let lease = lease_one(queue.as_ref(), "j1", SOON).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        let until = queue.extend(&lease).await.expect("the lease is held");
        assert!(until > SystemTime::now(), "an extended lease has ended already");
        assert_idle(queue.as_ref(), Duration::from_millis(500)).await;
    }
    queue
        .settle(&lease, Settlement::Done)
        .await
        .expect("the lease is held");
}

/// Of many workers, each job is held by one at a time, and all jobs are done exactly once.
pub async fn many_workers_share_many_jobs(harness: &dyn Harness) {
    const JOBS: usize = 2_000;
    let queue = queue(harness, 30).await;
    let all: Vec<String> = (0..JOBS).map(|number| format!("j{number}")).collect();
    for ids in all.chunks(500) {
        let jobs = ids
            .iter()
            .map(|id| (job_of("t1", &format!("e{}", id.len()), id), None))
            .collect();
        within("an enqueue", queue.enqueue(jobs))
            .await
            .expect("the queue takes the jobs");
    }
    let workers = (0..4).map(|_| tokio::spawn(work(Arc::clone(&queue))));
    let mut done: HashMap<String, u32> = HashMap::new();
    for ids in within("the workers", join_all(workers)).await {
        for id in ids.expect("a worker does not panic") {
            *done.entry(id).or_default() += 1;
        }
    }
    assert_eq!(
        done.keys().cloned().collect::<HashSet<_>>(),
        all.into_iter().collect()
    );
    assert!(done.values().all(|&times| times == 1), "a job was held twice");
}

/// Settles jobs until there are no more; answers their ids.
async fn work(queue: Arc<dyn WorkQueue>) -> Vec<String> {
    let mut done = Vec::new();
    loop {
        let leases = queue
            .lease(64, Duration::from_millis(500))
            .await
            .expect("the queue can be asked");
        if leases.is_empty() {
            return done;
        }
        assert!(leases.len() <= 64, "more jobs were handed out than asked for");
        let settled = leases.iter().map(|lease| queue.settle(lease, Settlement::Done));
        for outcome in join_all(settled).await {
            outcome.expect("the lease is held");
        }
        done.extend(leases.into_iter().map(|lease| lease.job.id.to_string()));
    }
}

/// Jobs that wait, are due later, or are leased survive a restart of our process.
pub async fn jobs_survive_our_restart(harness: &dyn Harness) {
    let first = queue(harness, 1).await;
    enqueue(first.as_ref(), job("leased"), None).await;
    let held = lease_one(first.as_ref(), "leased", SOON).await;
    enqueue(first.as_ref(), job("again"), None).await;
    let again = first.lease(1, SOON).await.expect("the queue can be asked");
    let later = Settlement::Again {
        due: from_now(Duration::from_secs(2)),
        payload: Bytes::from_static(b"kept"),
    };
    let again = again.iter().find(|lease| lease.job.id.as_str() == "again");
    first
        .settle(again.expect("it was due"), later)
        .await
        .expect("the lease is held");
    let jobs = vec![
        (job("waiting"), None),
        (job("due"), Some(from_now(Duration::from_secs(2)))),
    ];
    first.enqueue(jobs).await.expect("the queue takes the jobs");
    drop(first);

    let second = queue(harness, 5).await;
    let came = collect(second.as_ref(), 4).await;
    assert_eq!(came["again"].payload, Bytes::from_static(b"kept"));
    assert_eq!(came["leased"], held.job);
    assert_eq!((&came["waiting"], &came["due"]), (&job("waiting"), &job("due")));
}

/// Jobs survive a crash of the storage.
pub async fn jobs_survive_a_crash_of_the_storage(harness: &dyn Harness) {
    let mut engine = harness.open(layout(5)).await;
    let jobs = vec![
        (job("waiting"), None),
        (job("due"), Some(from_now(Duration::from_secs(2)))),
    ];
    engine
        .queue()
        .enqueue(jobs)
        .await
        .expect("the queue takes the jobs");
    harness.restart().await;
    if !harness.survives_restart() {
        engine = harness.open(layout(5)).await;
    }
    let came = collect(engine.queue().as_ref(), 2).await;
    assert_eq!((&came["waiting"], &came["due"]), (&job("waiting"), &job("due")));
}

/// Leases and settles until so many jobs are done; bears a storage that is just coming back.
async fn collect(queue: &dyn WorkQueue, count: usize) -> HashMap<String, Job> {
    let mut came = HashMap::new();
    within("the jobs", async {
        while came.len() < count {
            match queue.lease(10, Duration::from_secs(1)).await {
                Ok(leases) => {
                    for lease in leases {
                        if queue.settle(&lease, Settlement::Done).await.is_ok() {
                            came.insert(lease.job.id.to_string(), lease.job);
                        }
                    }
                }
                Err(QueueError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(other) => panic!("leasing failed: {other:?}"),
            }
        }
    })
    .await;
    came
}

/// A payload of the limit is kept; one over it is refused, wherever it is given, and nothing is changed.
pub async fn an_oversized_payload_is_refused(harness: &dyn Harness) {
    const LIMIT: usize = 64 << 10;
    let queue = queue(harness, 30).await;
    let sized = |id: &str, bytes: usize| {
        let mut job = job(id);
        job.payload = Bytes::from(vec![0xfe; bytes]);
        (job, None)
    };
    let refused = |outcome: Result<(), QueueError>| match outcome {
        Err(QueueError::TooLarge { bytes, limit }) => assert_eq!((bytes, limit), (LIMIT + 1, LIMIT)),
        other => panic!("too large a payload was not refused: {other:?}"),
    };
    refused(queue.enqueue(vec![sized("j1", 1), sized("j2", LIMIT + 1)]).await);
    assert_idle(queue.as_ref(), MOMENT).await;
    queue
        .enqueue(vec![sized("j3", LIMIT)])
        .await
        .expect("the queue takes the job");
    let lease = lease_one(queue.as_ref(), "j3", SOON).await;
    assert_eq!(lease.job, sized("j3", LIMIT).0);
    let large = Bytes::from(vec![0; LIMIT + 1]);
    refused(
        queue
            .settle(
                &lease,
                Settlement::Dead {
                    payload: large.clone(),
                },
            )
            .await,
    );
    let due = SystemTime::now();
    refused(
        queue
            .settle(&lease, Settlement::Again { due, payload: large })
            .await,
    );
    queue
        .settle(&lease, Settlement::Done)
        .await
        .expect("the lease is held");
}
