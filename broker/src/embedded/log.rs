//! `EventLog` on SQLite: appends go to the writer; readers and followers page through the table.
//!
//! A follower reads history in pages and then waits for the writer to say that the log has grown. It holds no
//! transaction in between, so a slow one never keeps the write-ahead log from being truncated.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{TryStreamExt, stream};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{FromRow, Row};
use tokio::sync::watch;

use crate::backlog::Backlog;
use crate::layout::Log;
use crate::{
    AppendError, Appended, EventLog, Filter, LogState, MAX_RECORD, NewRecord, ReadError, Record,
    RecordStream, Subject,
};

use super::append::check_form;
use super::writer::Writer;
use super::{failures, units};

/// A page of a follower: at most so many records, and about so many bytes.
const PAGE: usize = 512;
const PAGE_BYTES: usize = 1 << 20;

/// What a log needs to work; none for one outside of the layout.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) number: i64,
    pub(super) readers: SqlitePool,
    pub(super) writer: Writer,
    /// The last durable sequence; its sender is gone once the engine is closed.
    pub(super) head: watch::Receiver<u64>,
    /// What waits to be appended.
    pub(super) backlog: Backlog,
}

/// A log in the file.
#[derive(Debug)]
pub(super) struct EmbeddedLog {
    log: Log,
    parts: Option<Arc<Parts>>,
}

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the log {0} is not part of the layout this engine was opened with")]
    Unknown(Log),
    #[error("the engine is closed")]
    Closed,
}

impl EmbeddedLog {
    pub(super) fn new(log: Log, parts: Option<Arc<Parts>>) -> Self {
        Self { log, parts }
    }

    fn parts(&self) -> Result<&Arc<Parts>, Refusal> {
        self.parts.as_ref().ok_or(Refusal::Unknown(self.log))
    }

    fn readable(&self) -> Result<&Arc<Parts>, ReadError> {
        self.parts()
            .map_err(|refusal| ReadError::Unavailable(Box::new(refusal)))
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        let parts = self
            .parts()
            .map_err(|refusal| AppendError::Unavailable(Box::new(refusal)))?;
        check_form(&records, self.log.subject_roots(), MAX_RECORD)?;
        let room = parts.backlog.enter(&records)?;
        parts.writer.append(parts.number, records, room).await
    }

    async fn read(
        &self,
        after: u64,
        filter: Option<&Filter>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let parts = self.readable()?;
        let page = Page {
            after,
            until: u64::MAX,
            limit,
            bytes: usize::MAX,
        };
        parts.page(filter, page).await
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Record>, ReadError> {
        let parts = self.readable()?;
        let sql = "SELECT place, subject, message_id, stored_at, payload FROM records
                   WHERE log = ? AND subject = ? ORDER BY place DESC LIMIT 1";
        let row: Option<StoredRecord> = sqlx::query_as(sql)
            .bind(parts.number)
            .bind(subject.as_str())
            .fetch_optional(&parts.readers)
            .await
            .map_err(unavailable)?;
        row.map(StoredRecord::into_record).transpose()
    }

    async fn at(&self, sequence: u64) -> Result<Option<Record>, ReadError> {
        let parts = self.readable()?;
        let sql = "SELECT place, subject, message_id, stored_at, payload FROM records WHERE place = ?";
        let row: Option<StoredRecord> = sqlx::query_as(sql)
            .bind(units::place(parts.number, sequence))
            .fetch_optional(&parts.readers)
            .await
            .map_err(|error| unreadable(sequence, error))?;
        row.map(StoredRecord::into_record).transpose()
    }

    async fn follow(&self, after: u64, filter: Option<Filter>) -> Result<RecordStream, ReadError> {
        let parts = Arc::clone(self.readable()?);
        let follower = Follower {
            head: parts.head.clone(),
            parts,
            filter,
            seen: after,
            page: VecDeque::new(),
        };
        Ok(Box::pin(stream::try_unfold(follower, Follower::next)))
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        let parts = self.readable()?;
        let sql = "SELECT created, removed, coalesce((SELECT sequence FROM floors WHERE log = number), 0),
                          (SELECT max(place) FROM records WHERE place BETWEEN ? AND ?) FROM logs WHERE number = ?";
        let (created, removed, floor, newest): (i64, i64, i64, Option<i64>) = sqlx::query_as(sql)
            .bind(units::place(parts.number, 0))
            .bind(units::place(parts.number, u64::MAX))
            .bind(parts.number)
            .fetch_one(&parts.readers)
            .await
            .map_err(unavailable)?;
        let last = newest.map_or(removed, |place| units::signed(units::sequence(place)));
        let last = units::unsigned(last.max(floor));
        Ok(LogState {
            created: units::time(created),
            first: newest.map_or(last, |_| units::unsigned(removed)) + 1,
            last,
            // Counting them would take reading all of them.
            missing: 0,
        })
    }
}

/// Which records to read: after one sequence up to another, so many, and about so many bytes.
#[derive(Clone, Copy)]
struct Page {
    after: u64,
    until: u64,
    limit: usize,
    bytes: usize,
}

impl Parts {
    async fn page(&self, filter: Option<&Filter>, page: Page) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        if page.limit == 0 || page.after >= page.until {
            return Ok(records);
        }
        // A literal subject has an index; a wildcard is a range of subjects, narrowed down below. The plus sign
        // keeps that range from being answered by the index, which would have to sort all of it.
        let literal = filter.and_then(Filter::literal);
        let sql = if literal.is_some() {
            "SELECT place, subject, message_id, stored_at, payload FROM records
             WHERE place > ? AND place <= ? AND log = ? AND subject = ? AND subject <= ? ORDER BY place"
        } else {
            "SELECT place, subject, message_id, stored_at, payload FROM records
             WHERE place > ? AND place <= ? AND +log = ? AND +subject >= ? AND +subject < ? ORDER BY place"
        };
        let (lowest, highest) = match (filter, &literal) {
            (_, Some(literal)) => (literal.as_str().to_owned(), literal.as_str().to_owned()),
            (Some(filter), None) => prefix_range(filter),
            (None, None) => (String::new(), "~".to_owned()),
        };
        let mut rows = sqlx::query_as::<_, StoredRecord>(sql)
            .bind(units::place(self.number, page.after))
            .bind(units::place(self.number, page.until))
            .bind(self.number)
            .bind(lowest)
            .bind(highest)
            .fetch(&self.readers);
        let mut bytes = 0;
        while let Some(row) = rows.try_next().await.map_err(unavailable)? {
            let record = row.into_record()?;
            if filter.is_some_and(|filter| !filter.matches(&record.subject)) {
                continue;
            }
            bytes += record.payload.len();
            records.push(record);
            if records.len() >= page.limit || bytes >= page.bytes {
                break;
            }
        }
        Ok(records)
    }
}

/// The range of texts that begin with the tokens before the first wildcard; `~` comes after all that tokens hold.
fn prefix_range(filter: &Filter) -> (String, String) {
    let prefix = filter.as_str().split(['*', '>']).next().unwrap_or_default();
    (prefix.to_owned(), format!("{prefix}~"))
}

struct Follower {
    parts: Arc<Parts>,
    head: watch::Receiver<u64>,
    filter: Option<Filter>,
    /// Everything up to here has been handed out, or is not selected.
    seen: u64,
    page: VecDeque<Record>,
}

impl Follower {
    async fn next(mut self) -> Result<Option<(Record, Self)>, ReadError> {
        loop {
            if let Some(record) = self.page.pop_front() {
                return Ok(Some((record, self)));
            }
            let until = *self.head.borrow_and_update();
            if self.seen < until {
                self.read_page(until).await?;
            } else if self.head.changed().await.is_err() {
                return Err(ReadError::Unavailable(Box::new(Refusal::Closed)));
            }
        }
    }

    async fn read_page(&mut self, until: u64) -> Result<(), ReadError> {
        let page = Page {
            after: self.seen,
            until,
            limit: PAGE,
            bytes: PAGE_BYTES,
        };
        let records = self.parts.page(self.filter.as_ref(), page).await?;
        let bytes: usize = records.iter().map(|record| record.payload.len()).sum();
        let whole = records.len() < PAGE && bytes < PAGE_BYTES;
        self.seen = records
            .last()
            .filter(|_| !whole)
            .map_or(until, |record| record.sequence);
        self.page = records.into();
        Ok(())
    }
}

struct StoredRecord {
    place: i64,
    subject: String,
    message_id: String,
    stored_at: i64,
    payload: Vec<u8>,
}

impl<'r> FromRow<'r, SqliteRow> for StoredRecord {
    fn from_row(row: &'r SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            place: row.try_get(0)?,
            subject: row.try_get(1)?,
            message_id: row.try_get(2)?,
            stored_at: row.try_get(3)?,
            payload: row.try_get(4)?,
        })
    }
}

impl StoredRecord {
    fn into_record(self) -> Result<Record, ReadError> {
        let sequence = units::sequence(self.place);
        let subject = Subject::new(self.subject).map_err(|cause| ReadError::Damaged {
            sequence,
            cause: Box::new(cause),
        })?;
        Ok(Record {
            sequence,
            subject,
            message_id: self.message_id,
            stored_at: units::time(self.stored_at),
            payload: Bytes::from(self.payload),
        })
    }
}

fn unavailable(error: sqlx::Error) -> ReadError {
    ReadError::Unavailable(Box::new(error))
}

/// Of a record that was asked for: the file around it may be damaged.
fn unreadable(sequence: u64, error: sqlx::Error) -> ReadError {
    if failures::is_damage(&error) {
        return ReadError::Damaged {
            sequence,
            cause: Box::new(error),
        };
    }
    unavailable(error)
}
