//! The `DeadLetters` port: one message per letter, under a subject that names it.

use std::sync::Arc;
use std::time::SystemTime;

use async_nats::jetstream::message::StreamMessage;
use async_trait::async_trait;
use bytes::Bytes;

use super::connection::{Connection, stored_at};
use super::log::fetch;
use super::names::{Names, Space};
use super::queue::{JobQueue, check_size, place};
use crate::{DeadLetter, DeadLetters, Job, QueueError, Token};

/// The dead letters of the installation.
#[derive(Debug)]
pub(super) struct Letters {
    connection: Arc<Connection>,
    queue: Arc<JobQueue>,
    stream: String,
    space: Space,
}

impl Letters {
    pub(super) fn new(connection: Arc<Connection>, queue: Arc<JobQueue>, names: &Names) -> Self {
        Self {
            connection,
            queue,
            stream: names.dead_letters(),
            space: names.queue_space(),
        }
    }

    async fn find(
        &self,
        tenant: &Token,
        lane: &Token,
        job: &Token,
    ) -> Result<Option<StreamMessage>, QueueError> {
        let subject = self.space.wire(&place("dead", tenant, lane, job));
        self.connection
            .last_on(&self.stream, &subject)
            .await
            .map_err(QueueError::Unavailable)
    }

    /// Removes the letter; `false` where it is gone already.
    async fn remove(&self, sequence: u64) -> Result<bool, QueueError> {
        self.connection
            .delete(&self.stream, sequence)
            .await
            .map_err(QueueError::Unavailable)
    }

    fn letter(&self, message: StreamMessage) -> Option<DeadLetter> {
        let subject = self.space.subject(&message.subject)?;
        let mut tokens = subject
            .as_str()
            .split('.')
            .skip(1)
            .map(|token| Token::new(token).ok());
        let (tenant, lane, id) = (tokens.next()??, tokens.next()??, tokens.next()??);
        let (since, cursor) = (stored_at(&message), message.sequence);
        Some(DeadLetter {
            job: Job {
                id,
                tenant,
                lane,
                payload: message.payload,
            },
            since,
            cursor,
        })
    }
}

#[async_trait]
impl DeadLetters for Letters {
    async fn list(
        &self,
        tenant: &Token,
        lane: Option<&Token>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let lane = lane.map_or("*", Token::as_str);
        let filter = self.space.wire(&format!("dead.{tenant}.{lane}.*"));
        let mut letters = Vec::new();
        let mut after = after;
        while letters.len() < limit {
            let page = fetch(
                &self.connection,
                &self.stream,
                after,
                Some(&filter),
                limit - letters.len(),
            )
            .await;
            let page = page.map_err(QueueError::Unavailable)?;
            after = page.messages.last().map_or(after, |message| message.sequence);
            letters.extend(
                page.messages
                    .into_iter()
                    .filter_map(|message| self.letter(message)),
            );
            if page.last {
                break;
            }
        }
        Ok(letters)
    }

    async fn redrive(
        &self,
        tenant: &Token,
        lane: &Token,
        job: &Token,
        payload: Option<Bytes>,
        due: Option<SystemTime>,
    ) -> Result<bool, QueueError> {
        if let Some(payload) = &payload {
            check_size(payload)?;
        }
        let Some(message) = self.find(tenant, lane, job).await? else {
            return Ok(false);
        };
        let sequence = message.sequence;
        let payload = payload.unwrap_or(message.payload);
        let again = Job {
            id: job.clone(),
            tenant: tenant.clone(),
            lane: lane.clone(),
            payload,
        };
        // The id names the letter: a repeated redrive of it is one job, a redrive of a later letter another.
        self.queue
            .put_back(again, due, &format!("redriven:{job}:{sequence}"))
            .await?;
        self.remove(sequence).await?;
        Ok(true)
    }

    async fn discard(&self, tenant: &Token, lane: &Token, job: &Token) -> Result<bool, QueueError> {
        match self.find(tenant, lane, job).await? {
            Some(message) => self.remove(message.sequence).await,
            None => Ok(false),
        }
    }
}
