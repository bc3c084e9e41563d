//! The `EventLog` port on one stream: reading and state; appending is in `append`, following in `follow`.

use std::sync::Arc;
use std::time::SystemTime;

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::DirectGetErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use jetstream_extra::batch_fetch::{BatchFetchError, BatchFetchErrorKind, BatchFetchExt};

use super::append::Appender;
use super::connection::{Connection, message_id};
use super::follow::follow;
use super::names::{Names, Space};
use super::writer::Writer;
use crate::backlog::Backlog;
use crate::layout::Log;
use crate::{
    AppendError, Appended, Cause, EventLog, Filter, LogState, NewRecord, ReadError, Record, RecordStream,
    Subject,
};

/// The most records of one batch get (ADR-31).
const PAGE: usize = 1_000;

/// One log of the installation. All handles of a log are this one, so that their appends meet in its writer.
#[derive(Debug)]
pub(super) struct StreamLog {
    connection: Arc<Connection>,
    stream: String,
    space: Space,
    writer: Writer,
}

impl StreamLog {
    pub(super) fn new(connection: Arc<Connection>, names: &Names, log: Log, backlog: Backlog) -> Self {
        let stream = names.stream(log);
        let space = names.log_space(log);
        let appender = Appender::new(Arc::clone(&connection), log, stream.clone(), space.clone());
        Self {
            connection,
            stream,
            space,
            writer: Writer::new(Arc::new(appender), backlog),
        }
    }
}

#[async_trait]
impl EventLog for StreamLog {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        self.writer.append(records).await
    }

    async fn read(
        &self,
        after: u64,
        filter: Option<&Filter>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let wire = filter.map(|filter| self.space.wire(filter.as_str()));
        let mut records = Vec::new();
        let mut after = after;
        while records.len() < limit {
            let wanted = (limit - records.len()).min(PAGE);
            let page = fetch(&self.connection, &self.stream, after, wire.as_deref(), wanted).await;
            let page = page.map_err(ReadError::Unavailable)?;
            for message in page.messages {
                after = message.sequence;
                records.push(record(&self.space, message)?);
            }
            if page.last {
                break;
            }
        }
        Ok(records)
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Record>, ReadError> {
        let wire = self.space.wire(subject.as_str());
        let found = self.connection.last_kept_on(&self.stream, wire.as_str()).await;
        found
            .map_err(ReadError::Unavailable)?
            .map(|message| record(&self.space, message))
            .transpose()
    }

    async fn at(&self, sequence: u64) -> Result<Option<Record>, ReadError> {
        // Before the first record; the server refuses to look for it.
        if sequence == 0 {
            return Ok(None);
        }
        let found = self.connection.message_at(&self.stream, sequence).await;
        found
            .map_err(ReadError::Unavailable)?
            .map(|message| record(&self.space, message))
            .transpose()
    }

    async fn follow(&self, after: u64, filter: Option<Filter>) -> Result<RecordStream, ReadError> {
        let wire = filter.map(|filter| self.space.wire(filter.as_str()));
        follow(
            Arc::clone(&self.connection),
            self.stream.clone(),
            self.space.clone(),
            wire,
            after,
        )
        .await
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        let stream = self
            .connection
            .repeat(|| self.connection.context.get_stream(&self.stream))
            .await;
        let stream = stream.map_err(|error| ReadError::Unavailable(error.into()))?;
        let info = stream.cached_info();
        let last = info.state.last_sequence;
        let first = if info.state.messages == 0 {
            last + 1
        } else {
            info.state.first_sequence
        };
        let kept = (last + 1).saturating_sub(first);
        Ok(LogState {
            created: info.created.into(),
            first,
            last,
            missing: kept.saturating_sub(info.state.messages),
        })
    }
}

/// Messages of one batch get.
pub(super) struct Page {
    /// In order of sequence.
    pub(super) messages: Vec<StreamMessage>,
    /// Nothing more was there.
    pub(super) last: bool,
}

/// Up to `limit` messages after a sequence by one batch get; fewer where the server's own limit of bytes is met.
///
/// The batch get takes a message without payload for the end of the batch. So where the end is not certain from
/// what the server counted as pending, the next message is asked for alone.
pub(super) async fn fetch(
    connection: &Connection,
    stream: &str,
    after: u64,
    wire_filter: Option<&str>,
    limit: usize,
) -> Result<Page, Cause> {
    let wanted = limit.min(PAGE);
    let batch = connection
        .repeat(|| fetch_batch(connection, stream, after, wire_filter, wanted))
        .await;
    let mut messages = match batch {
        Ok(messages) => messages,
        Err(error) if error.kind() == BatchFetchErrorKind::NoMessages => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let mut last = messages.last().is_some_and(nothing_pending);
    if messages.len() < wanted && !last {
        let after = messages.last().map_or(after, |message| message.sequence);
        let next = next_message(connection, stream, after, wire_filter.unwrap_or(">")).await?;
        last = next.is_none();
        messages.extend(next);
    }
    Ok(Page { messages, last })
}

async fn fetch_batch(
    connection: &Connection,
    stream: &str,
    after: u64,
    wire_filter: Option<&str>,
    wanted: usize,
) -> Result<Vec<StreamMessage>, BatchFetchError> {
    let mut request = connection.context.get_batch(stream, wanted);
    if let Some(filter) = wire_filter {
        request = request.subject(filter);
    }
    request
        .sequence(after.saturating_add(1))
        .send()
        .await?
        .try_collect()
        .await
}

fn nothing_pending(message: &StreamMessage) -> bool {
    message
        .headers
        .get("Nats-Num-Pending")
        .is_some_and(|pending| pending.as_str() == "0")
}

async fn next_message(
    connection: &Connection,
    stream: &str,
    after: u64,
    wire_filter: &str,
) -> Result<Option<StreamMessage>, Cause> {
    let stream = connection.context.get_stream_no_info(stream).await?;
    let next = || stream.direct_get_next_for_subject(wire_filter, Some(after.saturating_add(1)));
    match connection.repeat(next).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A record of a message read from the stream.
pub(super) fn record(space: &Space, message: StreamMessage) -> Result<Record, ReadError> {
    let parts = Parts {
        sequence: message.sequence,
        subject: &message.subject,
        headers: Some(&message.headers),
        stored_at: message.time.into(),
    };
    parts.into_record(space, message.payload)
}

/// What a stored message consists of, however it was read.
pub(super) struct Parts<'a> {
    pub(super) sequence: u64,
    pub(super) subject: &'a str,
    pub(super) headers: Option<&'a HeaderMap>,
    pub(super) stored_at: SystemTime,
}

impl Parts<'_> {
    pub(super) fn into_record(self, space: &Space, payload: Bytes) -> Result<Record, ReadError> {
        let damaged = |what: &str| ReadError::Damaged {
            sequence: self.sequence,
            cause: format!("{what}: {}", self.subject).into(),
        };
        let subject = space
            .subject(self.subject)
            .ok_or_else(|| damaged("its subject is not of this log"))?;
        let id = self
            .headers
            .and_then(message_id)
            .ok_or_else(|| damaged("it has no message id"))?;
        Ok(Record {
            sequence: self.sequence,
            subject,
            message_id: id.to_owned(),
            stored_at: self.stored_at,
            payload,
        })
    }
}
