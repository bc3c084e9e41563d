//! `EventLog` over a line.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::layout::Log;
use broker::{
    AppendError, Appended, EventLog, Filter, LogState, NewRecord, ReadError, Record, RecordStream, Subject,
};
use futures::{StreamExt, stream};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::super::memory::Ledger;
use super::super::network::{Fate, Line};
use super::away;

/// A log, from afar.
#[derive(Debug)]
pub(super) struct DistantLog {
    pub(super) log: Log,
    pub(super) inner: Arc<dyn EventLog>,
    pub(super) ledger: Option<Arc<Ledger>>,
    pub(super) line: Arc<Line>,
}

impl DistantLog {
    /// Sends an append off. It goes on its way whatever becomes of whoever sent it.
    fn send(&self, records: Vec<NewRecord>, after: Duration, twice: bool) -> Answer {
        let (tell, told) = oneshot::channel();
        let (inner, line) = (Arc::clone(&self.inner), Arc::clone(&self.line));
        let again = twice.then(|| line.network.latency() * 20);
        tokio::spawn(async move {
            sleep(after).await;
            let answer = store(&line, &*inner, records.clone()).await;
            // Nobody waits for it any more where the sender has died.
            tell.send(answer).ok();
            if let Some(later) = again {
                sleep(later).await;
                store(&line, &*inner, records).await.ok();
            }
        });
        told
    }

    /// What a replica knows that is a moment behind, where one is asked: the last sequence it has.
    fn horizon(&self) -> u64 {
        let Some(ledger) = &self.ledger else {
            return u64::MAX;
        };
        let behind = self.line.network.behind();
        behind.map_or(u64::MAX, |behind| ledger.end_of_replica(behind))
    }

    async fn ask<T>(
        &self,
        what: String,
        ask: impl AsyncFnOnce() -> Result<T, ReadError>,
        tell: impl FnOnce(&T) -> u64,
    ) -> Result<T, ReadError> {
        self.line.travel().await;
        let refused = self.line.network.call() != super::Call::Answered;
        let answer = if refused {
            Err(ReadError::Unavailable(away()))
        } else {
            ask().await
        };
        let told = answer.as_ref().ok().map(tell);
        self.line.note(format_args!("{} {what}: {told:?}", self.log));
        self.line.travel().await;
        answer
    }
}

type Answer = oneshot::Receiver<Result<Vec<Appended>, AppendError>>;

async fn store(
    line: &Line,
    log: &dyn EventLog,
    records: Vec<NewRecord>,
) -> Result<Vec<Appended>, AppendError> {
    let what = summary(&records);
    let answer = log.append(records).await;
    match &answer {
        Ok(places) => line.note(format_args!("stores {what}: {}", Places(places))),
        Err(error) => line.note(format_args!("stores {what}: {error}")),
    }
    answer
}

#[async_trait]
impl EventLog for DistantLog {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        self.line.stands().await;
        let (fate, twice) = self.line.network.append();
        let there = self.line.network.latency();
        self.line
            .note(format_args!("appends {}: {fate:?}", summary(&records)));
        let unknown = || AppendError::Unknown(away());
        let answer = match fate {
            Fate::Refused => Err(AppendError::Unavailable(away())),
            Fate::Busy => Err(AppendError::Busy),
            Fate::Lost => Err(unknown()),
            Fate::Unheard(after) => {
                drop(self.send(records, there + after, twice));
                Err(unknown())
            }
            Fate::Answered => match self.send(records, there, twice).await {
                Ok(answer) => answer,
                Err(_) => Err(unknown()),
            },
        };
        self.line.travel().await;
        answer
    }

    async fn read(
        &self,
        after: u64,
        filter: Option<&Filter>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let horizon = self.horizon();
        let text = filter.map_or("all", Filter::as_str);
        let read = async || match &self.ledger {
            Some(ledger) if horizon < u64::MAX => Ok(ledger.read(after, horizon, filter, limit)),
            _ => self.inner.read(after, filter, limit).await,
        };
        self.ask(format!("reads {text} after {after}"), read, |records| {
            records.len() as u64
        })
        .await
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Record>, ReadError> {
        let last = async || self.inner.last(subject).await;
        self.ask(format!("looks up {subject}"), last, |record| {
            record.as_ref().map_or(0, |record| record.sequence)
        })
        .await
    }

    async fn at(&self, sequence: u64) -> Result<Option<Record>, ReadError> {
        let at = async || self.inner.at(sequence).await;
        self.ask(format!("looks at {sequence}"), at, |record| {
            record.as_ref().map_or(0, |record| record.sequence)
        })
        .await
    }

    async fn follow(&self, after: u64, filter: Option<Filter>) -> Result<RecordStream, ReadError> {
        let follow = async || self.inner.follow(after, filter).await;
        let records = self.ask(format!("follows after {after}"), follow, |_| 0).await?;
        let line = Arc::clone(&self.line);
        let distant = stream::unfold(Some((records, line)), async |state| {
            let (mut records, line) = state?;
            let record = records.next().await?;
            line.travel().await;
            if line.network.breaks() {
                line.note(format_args!("is cut off from a stream"));
                return Some((Err(ReadError::Unavailable(away())), None));
            }
            Some((record, Some((records, line))))
        });
        Ok(Box::pin(distant))
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        let state = async || self.inner.state().await;
        self.ask("asks for the state".to_owned(), state, |state| state.last)
            .await
    }
}

/// An append in a few words: what each record is named and expects.
fn summary(records: &[NewRecord]) -> String {
    let word = |record: &NewRecord| match record.expect {
        Some(expected) => format!("{}@{expected}", record.message_id),
        None => record.message_id.clone(),
    };
    records.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Places in a few words.
struct Places<'a>(&'a [Appended]);

impl fmt::Display for Places<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.0 {
            write!(f, "{}{} ", place.sequence, if place.duplicate { "=" } else { "" })?;
        }
        Ok(())
    }
}
