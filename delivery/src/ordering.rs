//! Ordered delivery: within a key of an endpoint that asks for it, no message is sent before the one before it has
//! ended.
//!
//! **Where the truth lies.** In one record for each key ([`record`]), in the bucket of deliveries, changed by
//! compare-and-set and by nothing else. It says which message of the key is the last that has a place, and up to which
//! one they have ended. Messages are numbered by their sequences in the log; a job carries its number and the number of
//! the one before it in its key. It may be sent when that one has ended: at any moment there is one such job in a key,
//! whatever processes there are.
//!
//! **Places** are given by the matcher, before it makes the deliveries and moves its cursor. A matcher that is killed in
//! between gives them again; the record keeps those that a cursor may not have passed, so each message has its place
//! again. Of two matchers the slower finds the places that the other gave.
//!
//! **Turns.** A worker asks the record before each try. A job whose turn it is not lies down: it goes back to the queue
//! with a due time far off, and its id is put where whoever ends the message before it looks. That one, having moved the
//! record, wakes it. Both write first and look second (the job: id, settlement, look at the record; the other: record,
//! look for the id), so one of them sees the other. Should a process die in the middle, the job wakes by itself when its
//! due time comes: waking is for speed, the record alone decides.
//!
//! **Ends.** The attempt is recorded, then the record moves, then the next is woken, then the job is settled. Killed
//! before the record moves, the job comes again and is sent again, still as the only one whose turn it is. Killed after
//! it, the job comes again and finds in the record how it ended: the next is woken (again), and the job is settled as it
//! was to be, without another try. The record remembers the last few ends only; a job that comes later than that is sent
//! once more, under its one `webhook-id`, in no order.
//!
//! **A dead letter** moves the record where the endpoint says `skip`. With `block` and `park` the record stays, and says
//! that it is stuck: those behind wait, or become dead letters too, each waking the one behind it. A redrive brings the
//! same jobs again, whose turns are as before, so they arrive in order; a discard moves the record on.
//!
//! **Memory.** Nothing is kept here but in the bucket. A record of a key with nothing under way expires after a while:
//! the next message of that key is then its first.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker::layout::Bucket;
use broker::{Engine, Expect, KeyValue, KvError, QueueError, Subject, Token, WorkQueue};
use domain::endpoint::policy::OrderingKey;
use domain::{EndpointId, Message, TenantId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::work::{Work, subject, token};

mod record;

use record::Record;
pub(crate) use record::{End, Step, Turn};

/// How long a key is remembered of which nothing is under way: longer than leases last, so that a job that comes again
/// after a crash finds how it ended.
const IDLE: Duration = Duration::from_mins(15);
/// How long it is remembered who waits behind a message; longer than who lies down sleeps.
const WAITS: Duration = Duration::from_hours(3);
/// How long a job that lies down sleeps if nobody wakes it: a part of its age, so that one that has waited for long
/// costs little.
const SLEEP_SHORTEST: Duration = Duration::from_secs(5);
const SLEEP_LONGEST: Duration = Duration::from_hours(1);

/// What a job says of its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The key, hashed.
    pub(crate) key: String,
    /// Its place in it.
    #[serde(flatten)]
    pub(crate) step: Step,
}

/// Why nothing can be said of an order now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("the record of an order cannot be read or changed")]
    Bucket(#[from] KvError),
    #[error("a job cannot be woken")]
    Queue(#[from] QueueError),
    #[error("the record of an order is not one of this program")]
    Malformed(#[from] serde_json::Error),
}

/// The orders of an installation.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    bucket: Arc<dyn KeyValue>,
    queue: Arc<dyn WorkQueue>,
}

/// The key of a message for an endpoint that orders by this, hashed; none where it has no order.
pub(crate) fn key_of(by: &OrderingKey, message: &Message) -> Option<String> {
    let value = match by {
        OrderingKey::Always(_) => None,
        OrderingKey::At(pointer) => {
            let data: serde_json::Value = serde_json::from_slice(&message.data).ok()?;
            Some(pointer.find(&data).filter(|found| !found.is_null())?.to_string())
        }
    };
    let mut hash = Sha256::new();
    hash.update(String::from(by.clone()));
    hash.update([0]);
    hash.update(value.unwrap_or_default());
    Some(hex::encode(&hash.finalize()[..16]))
}

impl Orders {
    pub(crate) fn new(engine: &dyn Engine) -> Self {
        Self {
            bucket: engine.bucket(Bucket::Deliveries),
            queue: engine.queue(),
        }
    }

    /// Gives messages of one key their places, in their order; none for one of before those that are known. `cursor`:
    /// up to where the matcher has finished.
    pub(crate) async fn place(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        key: &str,
        numbers: &[u64],
        cursor: u64,
    ) -> Result<Vec<Option<Step>>, OrderError> {
        self.change(tenant, endpoint, key, |record| {
            numbers
                .iter()
                .map(|number| record.place(*number, cursor))
                .collect()
        })
        .await
    }

    /// What a job is to do now.
    pub(crate) async fn turn(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        order: &Order,
        run: u32,
    ) -> Result<Turn, OrderError> {
        let name = record_name(tenant, endpoint, &order.key);
        Ok(match self.bucket.get(&name).await? {
            Some(entry) => serde_json::from_slice::<Record>(&entry.value)?.turn(order.step, run),
            // Nothing of the key is under way, as far as anybody remembers.
            None => Turn::Now,
        })
    }

    /// Notes who waits behind the message before. The caller puts the job to sleep, and then asks for its turn again.
    pub(crate) async fn lie_down(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        order: &Order,
        job: &Token,
    ) -> Result<(), OrderError> {
        let name = waits_name(tenant, endpoint, &order.key, order.step.before);
        let value = job.as_str().to_owned().into();
        self.bucket
            .put(&name, value, Expect::Anything, Some(WAITS))
            .await?;
        Ok(())
    }

    /// A job whose turn it was has ended: the record moves, and who waits behind it is woken.
    pub(crate) async fn end(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        order: &Order,
        run: u32,
        end: End,
    ) -> Result<(), OrderError> {
        let moved = |record: &mut Record| {
            record.end(order.step, run, end);
            record.done()
        };
        let done = self.change(tenant, endpoint, &order.key, moved).await?;
        if end != End::Blocks {
            self.wake(tenant, endpoint, &order.key, order.step.number).await?;
        }
        if done > order.step.number {
            self.wake(tenant, endpoint, &order.key, done).await?;
        }
        Ok(())
    }

    /// A dead letter was given up.
    pub(crate) async fn give_up(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        order: &Order,
    ) -> Result<(), OrderError> {
        let moved = |record: &mut Record| {
            record.give_up(order.step);
            record.done()
        };
        let done = self.change(tenant, endpoint, &order.key, moved).await?;
        self.wake(tenant, endpoint, &order.key, done).await
    }

    /// A message arrived by a job that knows of no order, as one that was asked for again: should it be the one that
    /// holds the others up, they go on.
    pub(crate) async fn arrived(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        key: &str,
        number: u64,
    ) -> Result<(), OrderError> {
        let name = record_name(tenant, endpoint, key);
        if self.bucket.get(&name).await?.is_none() {
            return Ok(());
        }
        let moved = |record: &mut Record| record.arrived(number).then(|| record.done());
        if let Some(done) = self.change(tenant, endpoint, key, moved).await? {
            self.wake(tenant, endpoint, key, done).await?;
        }
        Ok(())
    }

    /// Wakes the job that lies behind a message, if one does.
    pub(crate) async fn wake(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        key: &str,
        behind: u64,
    ) -> Result<(), OrderError> {
        let name = waits_name(tenant, endpoint, key, behind);
        let Some(entry) = self.bucket.get(&name).await? else {
            return Ok(());
        };
        let job = std::str::from_utf8(&entry.value)
            .ok()
            .and_then(|job| Token::new(job).ok());
        if let Some(job) = job {
            let (tenant, lane) = (token(tenant.as_str()), token(endpoint.as_str()));
            self.queue.hasten(&tenant, &lane, &job).await?;
        }
        match self.bucket.delete(&name, Expect::Revision(entry.revision)).await {
            // It has lain down anew meanwhile, and looks for itself.
            Ok(()) | Err(KvError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes a key's record by compare-and-set. Where nothing changes nothing is written.
    async fn change<T>(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        key: &str,
        change: impl Fn(&mut Record) -> T,
    ) -> Result<T, OrderError> {
        let name = record_name(tenant, endpoint, key);
        loop {
            let found = self.bucket.get(&name).await?;
            let (before, expect) = match &found {
                Some(entry) => (
                    serde_json::from_slice(&entry.value)?,
                    Expect::Revision(entry.revision),
                ),
                None => (Record::default(), Expect::Absent),
            };
            let mut record: Record = before.clone();
            let answer = change(&mut record);
            if record == before {
                return Ok(answer);
            }
            let value = serde_json::to_vec(&record)?.into();
            let expires = record.is_idle().then_some(IDLE);
            match self.bucket.put(&name, value, expect, expires).await {
                Ok(_) => return Ok(answer),
                Err(KvError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// How long a job sleeps that lies down.
pub(crate) fn sleep(work: &Work) -> Duration {
    let published = work.message.published_at.map(SystemTime::from);
    let age = published.and_then(|published| SystemTime::now().duration_since(published).ok());
    (age.unwrap_or_default() / 4).clamp(SLEEP_SHORTEST, SLEEP_LONGEST)
}

fn record_name(tenant: &TenantId, endpoint: &EndpointId, key: &str) -> Subject {
    subject(format!("order.{tenant}.{endpoint}.{key}"))
}

fn waits_name(tenant: &TenantId, endpoint: &EndpointId, key: &str, behind: u64) -> Subject {
    subject(format!("waits.{tenant}.{endpoint}.{key}.{behind}"))
}
