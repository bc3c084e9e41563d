//! Cases of the `WorkQueue` about time: due times, and waiting for a job.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::Settlement;

use super::Harness;
use super::queue::{MOMENT, SOON, from_now};
use super::support::{assert_idle, enqueue, job, lease_one, queue, within};

/// The same for a job that waits for its time, and for one enqueued twice in one call.
pub async fn an_id_that_waits_is_enqueued_once(harness: &dyn Harness) {
    let queue = queue(harness, 30).await;
    let due = from_now(Duration::from_secs(2));
    enqueue(queue.as_ref(), job("j1"), Some(due)).await;
    enqueue(queue.as_ref(), job("j1"), None).await;
    queue
        .enqueue(vec![(job("j2"), None), (job("j2"), None)])
        .await
        .expect("the queue takes the jobs");
    let now = lease_one(queue.as_ref(), "j2", SOON).await;
    queue
        .settle(&now, Settlement::Done)
        .await
        .expect("the lease is held");
    let later = lease_one(queue.as_ref(), "j1", SOON).await;
    assert!(SystemTime::now() >= due, "the job came before its time");
    queue
        .settle(&later, Settlement::Done)
        .await
        .expect("the lease is held");
    assert_idle(queue.as_ref(), MOMENT).await;
}

/// A job settled with `Again` comes when it is due, not before, with its new payload, counted anew.
pub async fn a_job_comes_again_when_due(harness: &dyn Harness) {
    let queue = queue(harness, 30).await;
    enqueue(queue.as_ref(), job("j1"), None).await;
    let lease = lease_one(queue.as_ref(), "j1", SOON).await;
    let due = from_now(Duration::from_secs(2));
    let again = Settlement::Again {
        due,
        payload: Bytes::from_static(b"second attempt"),
    };
    queue.settle(&lease, again).await.expect("the lease is held");
    assert_idle(queue.as_ref(), MOMENT).await;
    let lease = lease_one(queue.as_ref(), "j1", SOON).await;
    assert!(SystemTime::now() >= due, "the job came before its time");
    assert_eq!(
        (lease.job.payload.as_ref(), lease.times),
        (b"second attempt".as_slice(), 1)
    );
    assert_eq!(
        (lease.job.tenant, lease.job.lane),
        (job("j1").tenant, job("j1").lane)
    );
}

/// A job may come again as often as it likes, at once where its time has passed.
pub async fn a_job_comes_again_at_once(harness: &dyn Harness) {
    let queue = queue(harness, 30).await;
    enqueue(queue.as_ref(), job("j1"), None).await;
    for round in 0..5_u8 {
        let lease = lease_one(queue.as_ref(), "j1", SOON).await;
        assert_eq!(lease.times, 1);
        if round > 0 {
            assert_eq!(lease.job.payload.as_ref(), [round - 1]);
        }
        let again = Settlement::Again {
            due: SystemTime::now() - Duration::from_mins(1),
            payload: Bytes::copy_from_slice(&[round]),
        };
        queue.settle(&lease, again).await.expect("the lease is held");
    }
    let lease = lease_one(queue.as_ref(), "j1", SOON).await;
    queue
        .settle(&lease, Settlement::Done)
        .await
        .expect("the lease is held");
    assert_idle(queue.as_ref(), MOMENT).await;
}

/// A job that waits for its time comes at once when it is hastened, as it was, and once only.
pub async fn a_job_that_waits_can_be_hastened(harness: &dyn Harness) {
    let queue = queue(harness, 30).await;
    let waiting = job("j1");
    enqueue(
        queue.as_ref(),
        waiting.clone(),
        Some(from_now(Duration::from_hours(1))),
    )
    .await;
    let hasten = async || queue.hasten(&waiting.tenant, &waiting.lane, &waiting.id).await;
    assert!(hasten().await.expect("the queue answers"));
    let lease = lease_one(queue.as_ref(), "j1", SOON).await;
    assert_eq!(lease.job, waiting);
    assert!(
        !hasten().await.expect("the queue answers"),
        "a leased job was hastened"
    );
    let again = Settlement::Again {
        due: from_now(Duration::from_hours(1)),
        payload: Bytes::from_static(b"again"),
    };
    queue.settle(&lease, again).await.expect("the lease is held");
    assert_idle(queue.as_ref(), MOMENT).await;
    assert!(hasten().await.expect("the queue answers"));
    let lease = lease_one(queue.as_ref(), "j1", SOON).await;
    assert_eq!(lease.job.payload.as_ref(), b"again");
    queue
        .settle(&lease, Settlement::Done)
        .await
        .expect("the lease is held");
    assert!(
        !hasten().await.expect("the queue answers"),
        "a job that is gone was hastened"
    );
    assert_idle(queue.as_ref(), MOMENT).await;
}

/// A job enqueued for later comes then; one whose time has passed comes at once.
pub async fn due_times_are_kept(harness: &dyn Harness) {
    let queue = queue(harness, 30).await;
    let due = from_now(Duration::from_secs(2));
    let jobs = vec![
        (job("later"), Some(due)),
        (job("much-later"), Some(from_now(Duration::from_hours(24)))),
        (
            job("past"),
            Some(from_now(Duration::ZERO) - Duration::from_hours(1)),
        ),
    ];
    queue.enqueue(jobs).await.expect("the queue takes the jobs");
    lease_one(queue.as_ref(), "past", SOON).await;
    assert_idle(queue.as_ref(), MOMENT).await;
    lease_one(queue.as_ref(), "later", SOON).await;
    assert!(SystemTime::now() >= due, "the job came before its time");
    assert_idle(queue.as_ref(), MOMENT).await;
}

/// Whoever waits gets a job as soon as it arrives, and nothing when the time is over.
pub async fn waiting_ends_with_a_job_or_empty(harness: &dyn Harness) {
    let queue = queue(harness, 30).await;
    let begun = Instant::now();
    assert_idle(queue.as_ref(), Duration::from_secs(1)).await;
    let waited = begun.elapsed();
    assert!(
        waited >= Duration::from_millis(900),
        "an idle queue answered after {waited:?}"
    );
    assert!(
        waited < Duration::from_secs(4),
        "an idle queue answered after {waited:?} only"
    );

    let waiting = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { lease_one(queue.as_ref(), "j1", Duration::from_secs(15)).await }
    });
    assert_idle(queue.as_ref(), Duration::ZERO).await;
    let enqueued = Instant::now();
    enqueue(queue.as_ref(), job("j1"), None).await;
    within("the one who waits", waiting)
        .await
        .expect("it does not panic");
    assert!(
        enqueued.elapsed() < Duration::from_secs(5),
        "the job was handed out late"
    );
}
