//! Cases of the `DeadLetters`: jobs given up, listed, redriven, discarded.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::layout::Layout;
use crate::{DeadLetter, DeadLetters, Job, Settlement, WorkQueue};

use super::Harness;
use super::support::{assert_idle, enqueue, job, job_of, layout, lease_one, token};

const SOON: Duration = Duration::from_secs(8);
const MOMENT: Duration = Duration::from_millis(300);

/// Enqueues a job and gives it up with the payload `dead`.
async fn give_up(queue: &dyn WorkQueue, job: Job) {
    let id = job.id.to_string();
    enqueue(queue, job, None).await;
    let lease = lease_one(queue, &id, SOON).await;
    let dead = Settlement::Dead {
        payload: Bytes::from_static(b"dead"),
    };
    queue.settle(&lease, dead).await.expect("the lease is held");
}

async fn list(
    letters: &dyn DeadLetters,
    tenant: &str,
    lane: Option<&str>,
    after: u64,
    limit: usize,
) -> Vec<DeadLetter> {
    let lane = lane.map(token);
    letters
        .list(&token(tenant), lane.as_ref(), after, limit)
        .await
        .expect("the dead letters can be listed")
}

fn ids(letters: &[DeadLetter]) -> Vec<&str> {
    letters.iter().map(|letter| letter.job.id.as_str()).collect()
}

/// A job given up is a dead letter with its last payload, and no worker gets it.
pub async fn a_job_given_up_is_listed(harness: &dyn Harness) {
    let engine = harness.open(Layout::default()).await;
    let (queue, letters) = (engine.queue(), engine.dead_letters());
    give_up(queue.as_ref(), job("j1")).await;
    let found = list(letters.as_ref(), "t1", None, 0, 10).await;
    assert_eq!(ids(&found), ["j1"]);
    let expected = Job {
        payload: Bytes::from_static(b"dead"),
        ..job("j1")
    };
    assert_eq!(found[0].job, expected);
    let age = SystemTime::now()
        .duration_since(found[0].since)
        .unwrap_or_default();
    assert!(
        age < Duration::from_mins(1),
        "it says it was given up {age:?} ago"
    );
    assert_idle(queue.as_ref(), MOMENT).await;
}

/// A redriven dead letter is a job again, at once, with the payload given or its last one, and no dead letter any
/// more; it may be given up again.
pub async fn a_redriven_letter_is_a_job_again(harness: &dyn Harness) {
    let engine = harness.open(Layout::default()).await;
    let (queue, letters) = (engine.queue(), engine.dead_letters());
    let (tenant, lane) = (token("t1"), token("e1"));
    for (id, payload) in [("j1", Some(Bytes::from_static(b"anew"))), ("j2", None)] {
        give_up(queue.as_ref(), job(id)).await;
        assert_eq!(
            letters
                .redrive(&tenant, &lane, &token(id), payload.clone(), None)
                .await
                .ok(),
            Some(true)
        );
        assert_eq!(list(letters.as_ref(), "t1", None, 0, 10).await, []);
        assert_eq!(
            letters.redrive(&tenant, &lane, &token(id), None, None).await.ok(),
            Some(false)
        );
        let lease = lease_one(queue.as_ref(), id, SOON).await;
        assert_eq!(lease.job.payload, payload.unwrap_or(Bytes::from_static(b"dead")));
        assert_eq!(
            (lease.times, &lease.job.tenant, &lease.job.lane),
            (1, &tenant, &lane)
        );
        let dead = Settlement::Dead {
            payload: Bytes::from_static(b"dead again"),
        };
        queue.settle(&lease, dead).await.expect("the lease is held");
        let found = list(letters.as_ref(), "t1", None, 0, 10).await;
        assert_eq!(
            (ids(&found), found[0].job.payload.as_ref()),
            (vec![id], b"dead again".as_slice())
        );
        assert_eq!(
            letters.redrive(&tenant, &lane, &token(id), None, None).await.ok(),
            Some(true)
        );
        let lease = lease_one(queue.as_ref(), id, SOON).await;
        queue
            .settle(&lease, Settlement::Done)
            .await
            .expect("the lease is held");
    }
    assert_idle(queue.as_ref(), MOMENT).await;
}

/// A dead letter that is redriven for later is no dead letter any more, and no job before its time.
pub async fn a_redriven_letter_waits_for_its_time(harness: &dyn Harness) {
    let engine = harness.open(Layout::default()).await;
    let (queue, letters) = (engine.queue(), engine.dead_letters());
    let (tenant, lane, id) = (token("t1"), token("e1"), token("j1"));
    give_up(queue.as_ref(), job("j1")).await;
    let due = SystemTime::now() + Duration::from_secs(2);
    let redriven = letters.redrive(&tenant, &lane, &id, None, Some(due)).await;
    assert_eq!(redriven.ok(), Some(true));
    assert_eq!(list(letters.as_ref(), "t1", None, 0, 10).await, []);
    let lease = lease_one(queue.as_ref(), "j1", SOON).await;
    let early = due.duration_since(SystemTime::now()).unwrap_or_default();
    assert!(
        early <= Duration::from_millis(50),
        "it came {early:?} before its time"
    );
    queue
        .settle(&lease, Settlement::Done)
        .await
        .expect("the lease is held");
}

/// A discarded dead letter is gone for good.
pub async fn a_discarded_letter_is_gone(harness: &dyn Harness) {
    let engine = harness.open(Layout::default()).await;
    let (queue, letters) = (engine.queue(), engine.dead_letters());
    let (tenant, lane, id) = (token("t1"), token("e1"), token("j1"));
    give_up(queue.as_ref(), job("j1")).await;
    assert_eq!(letters.discard(&tenant, &lane, &id).await.ok(), Some(true));
    assert_eq!(letters.discard(&tenant, &lane, &id).await.ok(), Some(false));
    assert_eq!(
        letters.redrive(&tenant, &lane, &id, None, None).await.ok(),
        Some(false)
    );
    assert_eq!(list(letters.as_ref(), "t1", None, 0, 10).await, []);
    assert_idle(queue.as_ref(), MOMENT).await;
}

/// Redriving or discarding what is not there, is another lane's or another tenant's, changes nothing.
pub async fn an_unknown_letter_is_no_error(harness: &dyn Harness) {
    let engine = harness.open(Layout::default()).await;
    let (queue, letters) = (engine.queue(), engine.dead_letters());
    give_up(queue.as_ref(), job("j1")).await;
    for (tenant, lane, id) in [("t1", "e1", "j2"), ("t1", "e2", "j1"), ("t2", "e1", "j1")] {
        let (tenant, lane, id) = (token(tenant), token(lane), token(id));
        assert_eq!(
            letters.redrive(&tenant, &lane, &id, None, None).await.ok(),
            Some(false)
        );
        assert_eq!(letters.discard(&tenant, &lane, &id).await.ok(), Some(false));
    }
    assert_eq!(ids(&list(letters.as_ref(), "t1", None, 0, 10).await), ["j1"]);
    assert_idle(queue.as_ref(), MOMENT).await;
}

/// A tenant sees its own dead letters only, oldest first, page by page, of one lane where it asks for that.
pub async fn letters_are_listed_by_tenant_lane_and_page(harness: &dyn Harness) {
    let engine = harness.open(Layout::default()).await;
    let (queue, letters) = (engine.queue(), engine.dead_letters());
    let jobs = [
        ("t1", "e1", "a"),
        ("t1", "e2", "b"),
        ("t2", "e1", "c"),
        ("t1", "e1", "d"),
        ("t1", "e2", "e"),
    ];
    for (tenant, lane, id) in jobs {
        give_up(queue.as_ref(), job_of(tenant, lane, id)).await;
    }
    assert_eq!(
        ids(&list(letters.as_ref(), "t1", None, 0, 10).await),
        ["a", "b", "d", "e"]
    );
    assert_eq!(ids(&list(letters.as_ref(), "t2", None, 0, 10).await), ["c"]);
    assert_eq!(
        ids(&list(letters.as_ref(), "t3", None, 0, 10).await),
        Vec::<&str>::new()
    );
    assert_eq!(
        ids(&list(letters.as_ref(), "t1", Some("e1"), 0, 10).await),
        ["a", "d"]
    );
    assert_eq!(
        ids(&list(letters.as_ref(), "t1", Some("e3"), 0, 10).await),
        Vec::<&str>::new()
    );
    let first = list(letters.as_ref(), "t1", None, 0, 3).await;
    assert_eq!(ids(&first), ["a", "b", "d"]);
    assert!(first.is_sorted_by_key(|letter| letter.cursor));
    assert_eq!(
        ids(&list(letters.as_ref(), "t1", None, first[2].cursor, 3).await),
        ["e"]
    );
    assert_eq!(
        ids(&list(letters.as_ref(), "t1", Some("e2"), first[1].cursor, 3).await),
        ["e"]
    );
}

/// Dead letters survive a restart of our process.
pub async fn letters_survive_our_restart(harness: &dyn Harness) {
    let engine = harness.open(layout(5)).await;
    give_up(engine.queue().as_ref(), job("j1")).await;
    let before = list(engine.dead_letters().as_ref(), "t1", None, 0, 10).await;
    drop(engine);
    let engine = harness.open(layout(5)).await;
    assert_eq!(
        list(engine.dead_letters().as_ref(), "t1", None, 0, 10).await,
        before
    );
    let redriven = engine
        .dead_letters()
        .redrive(&token("t1"), &token("e1"), &token("j1"), None, None)
        .await;
    assert_eq!(redriven.ok(), Some(true));
    lease_one(engine.queue().as_ref(), "j1", SOON).await;
}
