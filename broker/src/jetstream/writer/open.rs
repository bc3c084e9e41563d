//! A batch while it is being filled: what it holds, and how much of that the server has.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::group::Group;
use super::task::{go_alone, is_several};
use super::{Request, Turn};
use crate::Appended;
use crate::jetstream::append::{Appender, BatchUnderWay};
use crate::jetstream::connection::PublishError;

/// So many records are sent together: each by itself would wake the client's connection and the server for it.
const TOGETHER: usize = 64;

/// A batch that takes appends. Its first records are sent at once, for the server to make room; then many together;
/// the last one commits it.
pub(super) struct Open {
    appender: Arc<Appender>,
    batch: BatchUnderWay,
    group: Group,
    /// The first record that is not sent: its append, and its place therein.
    next: (usize, usize),
    /// How many are sent.
    sent: usize,
    /// Why it came to nothing before its end.
    failed: Option<PublishError>,
}

impl Open {
    pub(super) fn new(appender: Arc<Appender>) -> Self {
        let batch = appender.begin();
        Self {
            appender,
            batch,
            group: Group::default(),
            next: (0, 0),
            sent: 0,
            failed: None,
        }
    }

    /// How many appends it has.
    pub(super) fn len(&self) -> usize {
        self.group.requests().len()
    }

    /// It takes no more.
    pub(super) fn is_full(&self) -> bool {
        self.group.is_full() || self.failed.is_some()
    }

    /// Takes from those who wait all that can join, oldest first, and sends what it can of them. Whose time is over
    /// is told, and nobody waits for the answer to an append whose caller has gone away.
    pub(super) async fn take(&mut self, waiting: &mut VecDeque<Request>) {
        let now = Instant::now();
        for request in std::mem::take(waiting) {
            if request.deadline <= now {
                drop(request.reply.send(Turn::Late));
            } else if !request.reply.is_closed() {
                waiting.push_back(request);
            }
        }
        if !self.is_full() {
            self.group.take(waiting);
            if self.sent == 0 || self.group.records() >= self.sent + TOGETHER {
                self.failed = self.send().await.err();
            }
        }
    }

    /// Sends all records but the last.
    async fn send(&mut self) -> Result<(), PublishError> {
        let requests = self.group.requests();
        let Some(deadline) = self.group.deadline() else {
            return Ok(());
        };
        while let Some(request) = requests.get(self.next.0) {
            let mut after = (self.next.0, self.next.1 + 1);
            if after.1 == request.records.len() {
                after = (self.next.0 + 1, 0);
            }
            if after.0 == requests.len() {
                break;
            }
            let record = &request.records[self.next.1];
            self.appender.add(&mut self.batch, record, deadline).await?;
            self.next = after;
            self.sent += 1;
        }
        Ok(())
    }

    /// Commits it and answers everyone in it.
    pub(super) async fn commit(mut self) {
        if let [request] = self.group.requests()
            && !is_several(request)
        {
            let alone = self.group.into_requests().into_iter();
            alone.for_each(|request| go_alone(request, false, None));
            return;
        }
        let outcome = self.send_last().await;
        let requests = self.group.into_requests();
        match outcome {
            Ok(appended) => {
                let mut places = appended.into_iter();
                for request in requests {
                    let own = places.by_ref().take(request.records.len()).collect();
                    drop(request.reply.send(Turn::Stored(own)));
                }
            }
            Err(error) => {
                tracing::debug!(%error, appends = requests.len(), "A batch was not stored as one; its appends go on by themselves.");
                let maybe_stored = matches!(error, PublishError::NoAnswer(_));
                for request in requests {
                    go_alone(request, maybe_stored, None);
                }
            }
        }
    }

    async fn send_last(&mut self) -> Result<Vec<Appended>, PublishError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.send().await?;
        let last = self
            .group
            .requests()
            .last()
            .and_then(|request| request.records.last());
        let (Some(last), Some(deadline)) = (last, self.group.deadline()) else {
            return Ok(Vec::new());
        };
        self.appender.commit(&mut self.batch, last, deadline).await
    }
}
