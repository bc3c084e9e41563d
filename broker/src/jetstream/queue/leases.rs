//! Leases: deliveries of the consumer, and the table of those this process holds.
//!
//! The server's own clock for a lease runs a little longer than ours, so that ours always ends first: after that,
//! nothing is settled or extended any more.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use async_nats::StatusCode;
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull;
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::timeout_at;

use super::JobQueue;
use super::finished::Entry;
use crate::{Cause, Job, Lease, LeaseToken, QueueError, Token};

/// A lease of this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) until: Instant,
    /// The job's message in the stream.
    pub(super) entry: Entry,
}

impl JobQueue {
    /// Asks the consumer for jobs; those that came are added to `leases`, even where this fails.
    pub(super) async fn pull(
        &self,
        request: pull::BatchConfig,
        leases: &mut Vec<Lease>,
    ) -> Result<(), QueueError> {
        let unavailable = |cause: Cause| QueueError::Unavailable(cause);
        let wanted = request.batch;
        let allowance = request.expires.unwrap_or_default() + self.connection.timeouts.request;
        let until = tokio::time::Instant::now() + allowance;
        let mut connects = self.connection.connects();
        connects.mark_unchanged();
        let inbox = async_nats::Subject::from(self.connection.client.new_inbox());
        let subscribed = timeout_at(until, self.connection.client.subscribe(inbox.clone())).await;
        let subscribed = subscribed.map_err(|elapsed| unavailable(elapsed.into()))?;
        let mut messages = subscribed.map_err(|error| unavailable(error.into()))?;
        let asked = timeout_at(until, self.consumer.request_batch(request, inbox)).await;
        let asked = asked.map_err(|elapsed| unavailable(elapsed.into()))?;
        asked.map_err(|error| unavailable(error.into()))?;
        for _ in 0..wanted {
            let next = tokio::select! {
                biased;
                next = timeout_at(until, messages.next()) => next,
                // The server forgets a request together with the connection it came over.
                Ok(()) = connects.changed() => return Err(unavailable("the connection to NATS was lost".into())),
            };
            let message = match next {
                Ok(Some(message)) => message,
                Ok(None) => return Err(unavailable("the connection to NATS was closed".into())),
                Err(elapsed) => return Err(unavailable(elapsed.into())),
            };
            match message.status.unwrap_or(StatusCode::OK) {
                StatusCode::OK => leases.extend(self.hold(message).await),
                StatusCode::NOT_FOUND | StatusCode::TIMEOUT => return Ok(()),
                status => {
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
        let entry = Entry {
            sequence: info.stream_sequence,
            stored: info.published.unix_timestamp_nanos(),
        };
        if self.finished.knows(entry) {
            tracing::debug!(job = %job.id, "a job that is settled was delivered once more; acknowledging it again");
            // If this fails, it comes again and is acknowledged then.
            message.ack().await.ok();
            return None;
        }
        let token = token.to_string();
        let times = u32::try_from(info.delivered).unwrap_or(u32::MAX);
        self.table().insert(
            token.clone(),
            Held {
                until: Instant::now() + self.lease,
                entry,
            },
        );
        Some(Lease {
            job,
            times,
            expires: SystemTime::now() + self.lease,
            token: LeaseToken(token),
        })
    }

    pub(super) fn table(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease in the table, if this process still holds it.
    pub(super) fn held(&self, lease: &Lease) -> Result<Held, QueueError> {
        let held = self.table().get(&lease.token.0).copied();
        held.filter(|held| held.until > Instant::now())
            .ok_or_else(|| QueueError::LeaseLost(lease.job.id.clone()))
    }

    /// Tells the consumer about a delivery and waits until it has taken note.
    pub(super) async fn tell(&self, token: &LeaseToken, word: &'static [u8]) -> Result<(), QueueError> {
        let client = &self.connection.client;
        let asking = self
            .connection
            .repeat(|| client.request(token.0.clone(), Bytes::from_static(word)));
        let answered = tokio::time::timeout(self.connection.timeouts.attempt, asking).await;
        let answered = answered.map_err(|elapsed| QueueError::Unavailable(elapsed.into()))?;
        answered
            .map(drop)
            .map_err(|error| QueueError::Unavailable(error.into()))
    }

    /// Ends what the consumer knows of a lease: its message is delivered no more.
    ///
    /// A consumer that was killed may have forgotten the delivery, and then answers nothing: the message is
    /// deleted instead, since who holds the lease may do so.
    pub(super) async fn remove(&self, lease: &Lease, held: Held) -> Result<(), QueueError> {
        let Err(error) = self.tell(&lease.token, b"+ACK").await else {
            self.finished.note(held.entry);
            return Ok(());
        };
        tracing::debug!(job = %lease.job.id, %error, "an acknowledgement was not answered; deleting the message");
        let deleted = self.connection.delete(&self.stream, held.entry.sequence).await;
        deleted.map(drop).map_err(QueueError::Unavailable)
    }
}
