//! What the cases have in common: short names for records and jobs, and deadlines, so that a case which would wait
//! for ever fails instead.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;

use crate::layout::{Layout, Log};
use crate::{
    AppendError, Appended, EventLog, Filter, Job, NewRecord, Record, RecordStream, Subject, Token, WorkQueue,
};

use super::Harness;

/// The log most cases use.
pub(super) const EVENTS: Log = Log::Events(0);
/// How long anything may take that has no time of its own.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn events(harness: &dyn Harness) -> Arc<dyn EventLog> {
    harness.open(Layout::default()).await.log(EVENTS)
}

/// A queue whose leases last so many seconds.
pub(super) async fn queue(harness: &dyn Harness, lease_seconds: u64) -> Arc<dyn WorkQueue> {
    harness.open(layout(lease_seconds)).await.queue()
}

/// A layout whose leases last so many seconds.
pub(super) fn layout(lease_seconds: u64) -> Layout {
    Layout {
        lease: Duration::from_secs(lease_seconds),
        ..Layout::default()
    }
}

pub(super) fn subject(text: &str) -> Subject {
    Subject::new(text).expect("a case's subject is valid")
}

pub(super) fn filter(text: &str) -> Filter {
    Filter::new(text).expect("a case's filter is valid")
}

pub(super) fn token(text: impl Into<String>) -> Token {
    Token::new(text).expect("a case's token is valid")
}

/// A record whose payload is its message id.
pub(super) fn record(subject_text: &str, message_id: &str, expect: Option<u64>) -> NewRecord {
    NewRecord {
        subject: subject(subject_text),
        message_id: message_id.to_owned(),
        expect,
        payload: Bytes::copy_from_slice(message_id.as_bytes()),
    }
}

/// Appends records that nothing stands against; answers the last sequence.
pub(super) async fn append(log: &dyn EventLog, records: Vec<NewRecord>) -> u64 {
    let appended = within("an append", log.append(records))
        .await
        .expect("nothing stands against the append");
    appended
        .last()
        .expect("an append answers for each record")
        .sequence
}

/// Repeats an identical append, as callers do, until the log has said what became of it.
pub(super) async fn append_surely(
    log: &dyn EventLog,
    records: &[NewRecord],
) -> Result<Vec<Appended>, AppendError> {
    within("an append to a log that comes back", async {
        loop {
            match log.append(records.to_vec()).await {
                Err(AppendError::Unavailable(_) | AppendError::Unknown(_)) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                outcome => return outcome,
            }
        }
    })
    .await
}

/// The next so many records of a follower.
pub(super) async fn take(follower: &mut RecordStream, count: usize) -> Vec<Record> {
    let mut records = Vec::with_capacity(count);
    while records.len() < count {
        let next = within("a record to follow", follower.next()).await;
        records.push(next.expect("a follower never ends").expect("a follower goes on"));
    }
    records
}

/// Fails the case if the follower has another record within a short time.
pub(super) async fn assert_silent(follower: &mut RecordStream) {
    let next = tokio::time::timeout(Duration::from_millis(200), follower.next()).await;
    assert!(next.is_err(), "an unexpected record came: {next:?}");
}

pub(super) fn sequences(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.sequence).collect()
}

pub(super) fn message_ids(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.message_id.as_str()).collect()
}

pub(super) fn assert_contiguous(records: &[Record], first: u64) {
    for (expected, record) in (first..).zip(records) {
        assert_eq!(
            record.sequence, expected,
            "sequences have a gap, a repeat or a wrong order"
        );
    }
}

/// Everything in a log, at most 100,000 records.
pub(super) async fn read_all(log: &dyn EventLog) -> Vec<Record> {
    within("a read", log.read(0, None, 100_000))
        .await
        .expect("the log can be read")
}

/// A job of tenant `t1` in lane `e1`, whose payload is its id.
pub(super) fn job(id: &str) -> Job {
    job_of("t1", "e1", id)
}

pub(super) fn job_of(tenant: &str, lane: &str, id: &str) -> Job {
    Job {
        id: token(id),
        tenant: token(tenant),
        lane: token(lane),
        payload: Bytes::copy_from_slice(id.as_bytes()),
    }
}

pub(super) async fn enqueue(queue: &dyn WorkQueue, job: Job, due: Option<SystemTime>) {
    within("an enqueue", queue.enqueue(vec![(job, due)]))
        .await
        .expect("the queue takes the job");
}

/// The one job that is due now or within the time given; the case fails if there is none, or another.
pub(super) async fn lease_one(queue: &dyn WorkQueue, id: &str, wait: Duration) -> crate::Lease {
    let mut leases = within("a lease", queue.lease(10, wait))
        .await
        .expect("the queue can be asked");
    assert_eq!(leases.len(), 1, "one job should have been due: {leases:?}");
    let lease = leases.remove(0);
    assert_eq!(lease.job.id.as_str(), id);
    lease
}

/// Fails the case if a job is due now or within the time given.
pub(super) async fn assert_idle(queue: &dyn WorkQueue, wait: Duration) {
    let leases = within("a lease", queue.lease(10, wait))
        .await
        .expect("the queue can be asked");
    assert!(leases.is_empty(), "no job should have been due: {leases:?}");
}

/// The future's output, unless it takes too long for any adapter.
pub(super) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let output = tokio::time::timeout(PATIENCE, future).await;
    output.unwrap_or_else(|_| panic!("{what} took longer than {PATIENCE:?}"))
}

/// Fails the case unless it is a conflict on the subject.
pub(super) fn assert_conflict(outcome: Result<impl Debug, AppendError>, on: &str) {
    match outcome {
        Err(AppendError::Conflict { subject }) => {
            assert_eq!(subject.as_str(), on, "the conflict names another subject");
        }
        other => panic!("a conflict on {on} was due, not {other:?}"),
    }
}
