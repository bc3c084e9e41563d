//! `DeadLetters` over a line.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use broker::{DeadLetter, DeadLetters, QueueError, Token};
use bytes::Bytes;

use super::super::network::Line;

/// The dead letters, from afar.
#[derive(Debug)]
pub(super) struct DistantLetters {
    pub(super) inner: Arc<dyn DeadLetters>,
    pub(super) line: Arc<Line>,
}

#[async_trait]
impl DeadLetters for DistantLetters {
    async fn list(
        &self,
        tenant: &Token,
        lane: Option<&Token>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let mut letters = Vec::new();
        let list = async {
            letters = self.inner.list(tenant, lane, after, limit).await?;
            Ok(letters.len())
        };
        let what = format!("lists letters of {tenant} after {after}");
        self.line.carry(what, list, QueueError::Unavailable).await?;
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
        let redrive = self.inner.redrive(tenant, lane, job, payload, due);
        let what = format!("redrives {job}");
        self.line.carry(what, redrive, QueueError::Unavailable).await
    }

    async fn discard(&self, tenant: &Token, lane: &Token, job: &Token) -> Result<bool, QueueError> {
        let discard = self.inner.discard(tenant, lane, job);
        let what = format!("discards {job}");
        self.line.carry(what, discard, QueueError::Unavailable).await
    }
}
