//! `DeadLetters` over jobs in memory.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use broker::{DeadLetter, DeadLetters, QueueError, Token};
use bytes::Bytes;

use super::Gate;
use super::jobs::Jobs;
use super::queue::check_payload;

/// The dead letters of an open engine.
#[derive(Debug)]
pub(super) struct MemoryLetters {
    pub(super) jobs: Arc<Jobs>,
    pub(super) gate: Arc<Gate>,
}

impl MemoryLetters {
    fn jobs(&self) -> Result<&Jobs, QueueError> {
        self.gate.pass().map_err(QueueError::Unavailable)?;
        Ok(&self.jobs)
    }
}

#[async_trait]
impl DeadLetters for MemoryLetters {
    async fn list(
        &self,
        tenant: &Token,
        lane: Option<&Token>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let letters = self.jobs()?.letters().into_iter();
        let wanted = letters.filter(|letter| {
            letter.cursor > after
                && letter.job.tenant == *tenant
                && lane.is_none_or(|lane| letter.job.lane == *lane)
        });
        Ok(wanted.take(limit).collect())
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
            check_payload(payload)?;
        }
        Ok(self.jobs()?.redrive((tenant, lane, job), payload, due))
    }

    async fn discard(&self, tenant: &Token, lane: &Token, job: &Token) -> Result<bool, QueueError> {
        Ok(self.jobs()?.discard(tenant, lane, job))
    }
}
