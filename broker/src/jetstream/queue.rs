//! The `WorkQueue` port on a work-queue stream with message schedules.
//!
//! A job in the queue is one message: on `job.<tenant>.<lane>.<job>` when it can be leased, on `later.…` while it
//! waits. Enqueueing is conditional on neither being there. A lease is a delivery of the one durable pull consumer;
//! what this process holds is kept in a table, since JetStream itself would take a late settlement from anybody.
//! The server's own clock for a lease runs a little longer than ours, so that ours always ends first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_nats::HeaderMap;
use async_nats::header::{
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID, NATS_SCHEDULE, NATS_SCHEDULE_TARGET,
};
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{Consumer, pull};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Settings;
use super::append::{codes, is_passing, mark_batch};
use super::connection::{AskError, Connection, PublishError};
use super::names::{Names, Space};
use super::streams::{Drift, not_usable};
use crate::{Cause, Job, Lease, LeaseToken, OpenError, QueueError, Settlement, Token, WorkQueue};

/// The durable consumer all workers share.
pub(super) const CONSUMER: &str = "workers";
/// The port's limit of a payload.
pub(super) const MAX_PAYLOAD: usize = 64 * 1024;
/// Jobs of one atomic batch.
const BATCH: usize = 500;
/// Publishes under way when jobs are enqueued one by one.
const PUBLISHES: usize = 64;
/// Room in the consumer for jobs in workers' hands.
const MAX_PENDING: u64 = 1_000_000;

/// The queue of the installation.
#[derive(Debug)]
pub(super) struct JobQueue {
    pub(super) connection: Arc<Connection>,
    pub(super) space: Space,
    stream: String,
    consumer: Consumer<pull::Config>,
    lease: Duration,
    held: Mutex<HashMap<String, Held>>,
}

/// A lease of this process.
#[derive(Debug, Clone, Copy)]
struct Held {
    until: Instant,
    /// The job's message in the stream.
    sequence: u64,
}

/// One message to put into the queue.
struct Entry {
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
}

/// How much longer than ours the server's clock of a lease runs: it starts earlier, by the way to us.
fn grace(lease: Duration) -> Duration {
    (lease / 4).clamp(Duration::from_millis(250), Duration::from_secs(2))
}

/// The consumer as it must be.
fn consumer_plan(settings: &Settings, names: &Names) -> Map<String, Value> {
    let lease = settings.layout.lease;
    let wait = u64::try_from((lease + grace(lease)).as_nanos()).unwrap_or(u64::MAX);
    let config = json!({
        "durable_name": CONSUMER,
        "filter_subject": names.queue_space().wire("job.>"),
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": wait,
        "max_deliver": -1,
        "max_ack_pending": MAX_PENDING,
        "replay_policy": "instant",
    });
    let Value::Object(config) = config else {
        unreachable!("an object literal is an object")
    };
    config
}

#[derive(Deserialize)]
struct Info {
    config: Map<String, Value>,
}

/// Makes the consumer, or checks that it is there; with the right to manage, a changed lease time is taken over.
pub(super) async fn ensure_consumer(
    settings: &Settings,
    connection: &Connection,
    names: &Names,
) -> Result<Consumer<pull::Config>, OpenError> {
    let stream = names.deliveries();
    let what = format!("the consumer {CONSUMER} of the stream {stream}");
    let drift = consumer_drift(settings, connection, names).await;
    let drift = drift.map_err(|error| not_usable(settings, &what, error))?;
    match (drift.as_deref(), settings.manage) {
        (Some([]), _) => {}
        (_, true) => {
            let mut config = consumer_plan(settings, names);
            config.insert("name".to_owned(), json!(CONSUMER));
            let body = json!({ "stream_name": stream, "config": config, "action": "" });
            let made = connection
                .ask::<Info>(&format!("CONSUMER.CREATE.{stream}.{CONSUMER}"), &body)
                .await;
            made.map_err(|error| not_usable(settings, &what, error))?;
        }
        (Some(drift), false) => {
            let details: Vec<&str> = drift.iter().map(|drift| drift.detail.as_str()).collect();
            return Err(unfit(settings, &what, &details.join("; ")));
        }
        (None, false) => {
            return Err(unfit(
                settings,
                &what,
                "it is missing and this account may not create it",
            ));
        }
    }
    let consumer = connection
        .context
        .get_consumer_from_stream(CONSUMER, stream.as_str())
        .await;
    consumer.map_err(|error| unfit(settings, &what, &error.to_string()))
}

fn unfit(settings: &Settings, what: &str, advice: &str) -> OpenError {
    OpenError::Unfit {
        what: format!("{what} on {}", settings.address()),
        advice: advice.to_owned(),
    }
}

/// Where the consumer differs from the plan; `None` where there is none.
pub(super) async fn consumer_drift(
    settings: &Settings,
    connection: &Connection,
    names: &Names,
) -> Result<Option<Vec<Drift>>, AskError> {
    let asked = connection
        .ask::<Info>(
            &format!("CONSUMER.INFO.{}.{CONSUMER}", names.deliveries()),
            &json!({}),
        )
        .await;
    let actual = match asked {
        Ok(info) => info.config,
        Err(AskError::Refused(refusal)) if refusal.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let plan = consumer_plan(settings, names);
    let drift = plan.iter().filter_map(|(field, wanted)| {
        let found = actual.get(field).cloned().unwrap_or(Value::Null);
        (found != *wanted).then(|| Drift::new(field, wanted, &found))
    });
    Ok(Some(drift.collect()))
}

impl JobQueue {
    pub(super) fn new(
        connection: Arc<Connection>,
        names: &Names,
        consumer: Consumer<pull::Config>,
        lease: Duration,
    ) -> Self {
        Self {
            connection,
            space: names.queue_space(),
            stream: names.deliveries(),
            consumer,
            lease,
            held: Mutex::new(HashMap::new()),
        }
    }

    fn entry(&self, job: Job, due: Option<SystemTime>, id: &str) -> Entry {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        let ready = self.space.wire(&place("job", &job.tenant, &job.lane, &job.id));
        let subject = match due.filter(|due| *due > SystemTime::now()).and_then(rfc3339) {
            None => ready,
            Some(due) => {
                headers.insert(NATS_SCHEDULE, format!("@at {due}").as_str());
                headers.insert(NATS_SCHEDULE_TARGET, ready.as_str());
                self.space.wire(&place("later", &job.tenant, &job.lane, &job.id))
            }
        };
        Entry {
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
            .publish(last.subject.clone(), headers, last.payload.clone(), deadline)
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
                .publish(subject, headers, entry.payload.clone(), deadline)
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
    pub(super) async fn put_back(&self, job: Job, id: &str) -> Result<(), QueueError> {
        let entry = self.entry(job, None, id);
        self.publish(&entry).await
    }

    fn deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + self.connection.timeouts.append
    }

    async fn pull(&self, request: pull::BatchConfig, leases: &mut Vec<Lease>) -> Result<(), QueueError> {
        let unavailable = |cause: Cause| QueueError::Unavailable(cause);
        let allowance = request.expires.unwrap_or_default() + self.connection.timeouts.request;
        let wanted = request.batch;
        let until = tokio::time::Instant::now() + allowance;
        let inbox = async_nats::Subject::from(self.connection.client.new_inbox());
        let subscribed = self.connection.client.subscribe(inbox.clone()).await;
        let mut messages = subscribed.map_err(|error| unavailable(error.into()))?;
        let asked = tokio::time::timeout_at(until, self.consumer.request_batch(request, inbox)).await;
        asked
            .map_err(|error| unavailable(error.into()))?
            .map_err(|error| unavailable(error.into()))?;
        for _ in 0..wanted {
            let message = match tokio::time::timeout_at(until, messages.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(unavailable("the connection to NATS was closed".into())),
                Err(elapsed) => return Err(unavailable(elapsed.into())),
            };
            match message.status {
                None | Some(async_nats::StatusCode::OK) => leases.extend(self.hold(message).await),
                Some(async_nats::StatusCode::NOT_FOUND | async_nats::StatusCode::TIMEOUT) => return Ok(()),
                Some(status) => {
                    return Err(unavailable(
                        format!("the queue's consumer answers {status}").into(),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Takes note of a delivery; one that is no job of this crate is dropped from the queue.
    async fn hold(&self, message: async_nats::Message) -> Option<Lease> {
        let message = Message {
            message,
            context: self.connection.context.clone(),
        };
        let job = self.space.subject(&message.subject).and_then(|subject| {
            let mut tokens = subject
                .as_str()
                .split('.')
                .skip(1)
                .map(|token| Token::new(token).ok());
            let (tenant, lane, id) = (tokens.next()??, tokens.next()??, tokens.next()??);
            Some(Job {
                id,
                tenant,
                lane,
                payload: message.payload.clone(),
            })
        });
        let (Some(job), Some(token), Ok(info)) = (job, message.reply.as_ref(), message.info()) else {
            tracing::error!(subject = %message.subject, "a message that is no job lies in the queue; removing it");
            // If this fails, it comes again and is removed then.
            message.ack().await.ok();
            return None;
        };
        let token = token.to_string();
        let times = u32::try_from(info.delivered).unwrap_or(u32::MAX);
        self.table().insert(
            token.clone(),
            Held {
                until: Instant::now() + self.lease,
                sequence: info.stream_sequence,
            },
        );
        Some(Lease {
            job,
            times,
            expires: SystemTime::now() + self.lease,
            token: LeaseToken(token),
        })
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease in the table, if this process still holds it.
    fn held(&self, lease: &Lease) -> Result<Held, QueueError> {
        let held = self.table().get(&lease.token.0).copied();
        held.filter(|held| held.until > Instant::now()).ok_or_else(|| QueueError::LeaseLost(lease.job.id.clone()))
    }

    /// Tells the consumer about a delivery and waits until it has taken note.
    async fn tell(&self, token: &LeaseToken, word: &'static [u8]) -> Result<(), QueueError> {
        let asking = self.connection.client.request(token.0.clone(), Bytes::from_static(word));
        let answered = tokio::time::timeout(self.connection.timeouts.attempt, asking).await;
        let answered = answered.map_err(|elapsed| QueueError::Unavailable(elapsed.into()))?;
        answered.map(drop).map_err(|error| QueueError::Unavailable(error.into()))
    }

    /// Takes the message of a lease out of the queue.
    ///
    /// A consumer that was killed may have forgotten the delivery, and then answers nothing: the message is
    /// deleted instead, since who holds the lease may do so.
    async fn remove(&self, lease: &Lease, held: Held) -> Result<(), QueueError> {
        let Err(error) = self.tell(&lease.token, b"+ACK").await else { return Ok(()) };
        tracing::debug!(job = %lease.job.id, %error, "an acknowledgement was not answered; deleting the message");
        let deleted = self.connection.delete(&self.stream, held.sequence).await;
        deleted.map(drop).map_err(QueueError::Unavailable)
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
}

/// The subject of a job in one of its states: `job`, `later`, `dead`, or `*` for any.
pub(super) fn place(state: &str, tenant: &Token, lane: &Token, job: &Token) -> String {
    format!("{state}.{tenant}.{lane}.{job}")
}

/// A time in RFC 3339; `None` for one that no calendar holds.
fn rfc3339(time: SystemTime) -> Option<String> {
    jiff::Timestamp::try_from(time).ok().map(|time| time.to_string())
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
    fn the_servers_lease_outlives_ours_by_a_little() {
        assert_eq!(grace(Duration::from_secs(30)), Duration::from_secs(2));
        assert_eq!(grace(Duration::from_millis(400)), Duration::from_millis(250));
    }

    #[test]
    fn due_times_are_written_as_the_server_reads_them() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(rfc3339(time).as_deref(), Some("1970-01-01T00:00:01.5Z"));
    }
}
