//! The `WorkQueue` port on a stream with message schedules.
//!
//! A job in the queue is one message: on `job.<tenant>.<lane>.<job>` when it can be leased, on `later.…` while it
//! waits. Enqueueing is conditional on neither being there. A lease is a delivery of the one durable pull consumer;
//! what this process holds is kept in a table, since JetStream itself would take a late settlement from anybody. What is
//! settled is acknowledged to the consumer, and taken out of the stream with many others later (`finished`).

mod consumer;
mod finished;
mod leases;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_nats::HeaderMap;
use async_nats::header::{
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID, NATS_SCHEDULE, NATS_SCHEDULE_TARGET,
};
use async_nats::jetstream::consumer::{Consumer, pull};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::append::{codes, is_passing, mark_batch};
use super::connection::{Connection, PublishError};
use super::names::{Names, Space};
use crate::{Cause, Job, Lease, QueueError, Settlement, Token, WorkQueue};

pub(super) use consumer::{CONSUMER, consumer_drift, ensure_consumer};
use finished::Finished;
use leases::Held;

/// The port's limit of a payload.
pub(super) const MAX_PAYLOAD: usize = 64 * 1024;
/// Jobs of one atomic batch.
const BATCH: usize = 500;
/// Publishes under way when jobs are enqueued one by one.
const PUBLISHES: usize = 64;

/// The queue of the installation.
#[derive(Debug)]
pub(super) struct JobQueue {
    pub(super) connection: Arc<Connection>,
    pub(super) space: Space,
    stream: String,
    dead_letters: String,
    consumer: Consumer<pull::Config>,
    lease: Duration,
    held: Mutex<HashMap<String, Held>>,
    finished: Arc<Finished>,
}

/// One message to put into the queue, or beside it.
struct Entry {
    stream: String,
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
}

impl JobQueue {
    pub(super) fn new(
        connection: Arc<Connection>,
        names: &Names,
        consumer: Consumer<pull::Config>,
        lease: Duration,
    ) -> Self {
        Self {
            finished: Arc::new(Finished::new(Arc::clone(&connection), names)),
            connection,
            space: names.queue_space(),
            stream: names.deliveries(),
            dead_letters: names.dead_letters(),
            consumer,
            lease,
            held: Mutex::new(HashMap::new()),
        }
    }

    fn entry(&self, job: Job, due: Option<SystemTime>, id: &str) -> Entry {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        let ready = self.space.wire(&place("job", &job.tenant, &job.lane, &job.id));
        let subject = match due.filter(|due| *due > SystemTime::now()).map(rfc3339) {
            None => ready,
            Some(due) => {
                headers.insert(NATS_SCHEDULE, format!("@at {due}").as_str());
                headers.insert(NATS_SCHEDULE_TARGET, ready.as_str());
                self.space.wire(&place("later", &job.tenant, &job.lane, &job.id))
            }
        };
        Entry {
            stream: self.stream.clone(),
            subject,
            headers,
            payload: job.payload,
        }
    }

    /// An entry that is stored only where its job is neither ready, nor leased, nor waiting.
    fn new_entry(&self, job: Job, due: Option<SystemTime>) -> Entry {
        let anywhere = self.space.wire(&place("*", &job.tenant, &job.lane, &job.id));
        let id = job.id.to_string();
        let mut entry = self.entry(job, due, &id);
        entry.headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
        entry
            .headers
            .insert("Nats-Expected-Last-Subject-Sequence-Subject", anywhere.as_str());
        entry
    }

    /// Stores all or none; `false` where one is in the queue already.
    async fn publish_batch(&self, entries: &[Entry]) -> Result<bool, PublishError> {
        let deadline = self.deadline();
        let batch = self.connection.unique();
        let Some((last, earlier)) = entries.split_last() else {
            return Ok(true);
        };
        for (index, entry) in earlier.iter().enumerate() {
            let mut headers = entry.headers.clone();
            mark_batch(&mut headers, &batch, index);
            self.connection
                .send(entry.subject.clone(), headers, entry.payload.clone(), deadline)
                .await?;
        }
        let mut headers = last.headers.clone();
        mark_batch(&mut headers, &batch, earlier.len());
        headers.insert("Nats-Batch-Commit", "1");
        let stored = self
            .connection
            .publish(
                &last.stream,
                last.subject.clone(),
                headers,
                last.payload.clone(),
                deadline,
            )
            .await;
        match stored {
            Ok(_) => Ok(true),
            Err(PublishError::Refused(_) | PublishError::NoAnswer(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Stores one entry; that it is in the queue already, or was lately, is as good.
    async fn publish(&self, entry: &Entry) -> Result<(), QueueError> {
        let deadline = self.deadline();
        let mut pause = Duration::from_millis(5);
        loop {
            let (subject, headers) = (entry.subject.clone(), entry.headers.clone());
            let cause: Cause = match self
                .connection
                .publish(&entry.stream, subject, headers, entry.payload.clone(), deadline)
                .await
            {
                Ok(_) => return Ok(()),
                Err(PublishError::Refused(refusal)) if refusal.err_code == codes::WRONG_LAST_SEQUENCE => {
                    return Ok(());
                }
                Err(PublishError::Refused(refusal)) if !is_passing(&refusal) => {
                    return Err(QueueError::Unavailable(refusal.into()));
                }
                Err(error) => error.into(),
            };
            if tokio::time::Instant::now() + pause >= deadline {
                return Err(QueueError::Unavailable(cause));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// Puts a job back that was a dead letter, under an id of its own and whatever else is in the queue.
    pub(super) async fn put_back(
        &self,
        job: Job,
        due: Option<SystemTime>,
        id: &str,
    ) -> Result<(), QueueError> {
        let entry = self.entry(job, due, id);
        self.publish(&entry).await
    }

    fn deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + self.connection.timeouts.append
    }
}

#[async_trait]
impl WorkQueue for JobQueue {
    async fn enqueue(&self, jobs: Vec<(Job, Option<SystemTime>)>) -> Result<(), QueueError> {
        for (job, _) in &jobs {
            check_size(&job.payload)?;
        }
        let entries: Vec<Entry> = jobs
            .into_iter()
            .map(|(job, due)| self.new_entry(job, due))
            .collect();
        for chunk in entries.chunks(BATCH) {
            let together = chunk.len() > 1
                && self
                    .publish_batch(chunk)
                    .await
                    .map_err(|error| QueueError::Unavailable(error.into()))?;
            if !together {
                let each: Vec<_> = chunk.iter().map(|entry| self.publish(entry)).collect();
                futures::stream::iter(each)
                    .buffered(PUBLISHES)
                    .try_collect::<()>()
                    .await?;
            }
        }
        Ok(())
    }

    async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Lease>, QueueError> {
        let now = Instant::now();
        self.table().retain(|_, held| held.until > now);
        self.finished.sweep();
        let mut leases = Vec::new();
        if max == 0 {
            return Ok(leases);
        }
        let at_once = |batch| pull::BatchConfig {
            batch,
            no_wait: true,
            ..Default::default()
        };
        let mut pulled = self.pull(at_once(max), &mut leases).await;
        // The server takes no expiry shorter than a millisecond.
        if pulled.is_ok() && leases.is_empty() && wait >= Duration::from_millis(1) {
            let first = pull::BatchConfig {
                batch: 1,
                expires: Some(wait),
                ..Default::default()
            };
            pulled = self.pull(first, &mut leases).await;
            if !leases.is_empty() && max > 1 {
                pulled = self.pull(at_once(max - 1), &mut leases).await;
            }
        }
        match pulled {
            // What is in hand must reach the caller, whatever happened to the rest.
            Err(error) if leases.is_empty() => Err(error),
            _ => Ok(leases),
        }
    }

    async fn extend(&self, lease: &Lease) -> Result<SystemTime, QueueError> {
        self.held(lease)?;
        let (from, expires) = (Instant::now(), SystemTime::now() + self.lease);
        self.tell(&lease.token, b"+WPI").await?;
        match self.table().get_mut(&lease.token.0) {
            Some(held) => held.until = from + self.lease,
            None => return Err(QueueError::LeaseLost(lease.job.id.clone())),
        }
        Ok(expires)
    }

    async fn settle(&self, lease: &Lease, settlement: Settlement) -> Result<(), QueueError> {
        if let Settlement::Again { payload, .. } | Settlement::Dead { payload } = &settlement {
            check_size(payload)?;
        }
        let held = self.held(lease)?;
        // The token names this very delivery, so that a repeated settlement is recognised.
        let id = format!("settled:{}", lease.token.0);
        let job = |payload| Job {
            payload,
            ..lease.job.clone()
        };
        let next = match settlement {
            Settlement::Done => None,
            Settlement::Again { due, payload } => Some(self.entry(job(payload), Some(due), &id)),
            Settlement::Dead { payload } => {
                let mut headers = HeaderMap::new();
                headers.insert(NATS_MESSAGE_ID, id.as_str());
                let Job { id, tenant, lane, .. } = &lease.job;
                Some(Entry {
                    stream: self.dead_letters.clone(),
                    subject: self.space.wire(&place("dead", tenant, lane, id)),
                    headers,
                    payload,
                })
            }
        };
        if let Some(next) = next {
            self.publish(&next).await?;
        }
        self.remove(lease, held).await?;
        self.table().remove(&lease.token.0);
        Ok(())
    }

    async fn hasten(&self, tenant: &Token, lane: &Token, job: &Token) -> Result<bool, QueueError> {
        let waits = self.space.wire(&place("later", tenant, lane, job));
        let found = self.connection.last_on(&self.stream, &waits).await;
        let Some(message) = found.map_err(QueueError::Unavailable)? else {
            return Ok(false);
        };
        let ready = Job {
            id: job.clone(),
            tenant: tenant.clone(),
            lane: lane.clone(),
            payload: message.payload,
        };
        // The id names the message that waited: hastening it again makes no second job.
        let id = format!("hastened:{job}:{}", message.sequence);
        self.put_back(ready, None, &id).await?;
        let deleted = self.connection.delete(&self.stream, message.sequence).await;
        deleted.map(|_| true).map_err(QueueError::Unavailable)
    }
}

/// The subject of a job in one of its states: `job`, `later`, `dead`, or `*` for any.
pub(super) fn place(state: &str, tenant: &Token, lane: &Token, job: &Token) -> String {
    format!("{state}.{tenant}.{lane}.{job}")
}

/// A time in RFC 3339; one after the year 9999 becomes its end.
fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .unwrap_or(jiff::Timestamp::MAX)
        .to_string()
}

pub(super) fn check_size(payload: &Bytes) -> Result<(), QueueError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(QueueError::TooLarge {
            bytes: payload.len(),
            limit: MAX_PAYLOAD,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_are_written_as_the_server_reads_them() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(rfc3339(time), "1970-01-01T00:00:01.5Z");
        let never = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 50);
        assert!(rfc3339(never).starts_with("9999-12-30"), "{}", rfc3339(never));
    }
}
