//! `KeyValue` on SQLite: one table for all buckets; a key past its time is absent, whether swept or not.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::sqlite::{SqliteConnection, SqlitePool};

use crate::layout::Bucket;
use crate::{Cause, Entry, Expect, KeyValue, KvError, Subject};

use super::units;
use super::writer::{Task, Writer};

/// The largest value: 1 MiB.
const MAX_VALUE: usize = 1 << 20;

/// A bucket in the file.
#[derive(Debug)]
pub(super) struct EmbeddedBucket {
    pub(super) bucket: Bucket,
    pub(super) readers: SqlitePool,
    pub(super) writer: Writer,
}

#[async_trait]
impl KeyValue for EmbeddedBucket {
    async fn get(&self, key: &Subject) -> Result<Option<Entry>, KvError> {
        let row: Option<EntryColumns> = sqlx::query_as(
            "SELECT key, value, revision FROM entries
             WHERE bucket = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?)",
        )
        .bind(self.bucket.name())
        .bind(key.as_str())
        .bind(units::now())
        .fetch_optional(&self.readers)
        .await
        .map_err(unavailable)?;
        row.map(entry).transpose()
    }

    async fn put(
        &self,
        key: &Subject,
        value: Bytes,
        expect: Expect,
        time_to_live: Option<Duration>,
    ) -> Result<u64, KvError> {
        let bytes = value.len();
        if bytes > MAX_VALUE {
            return Err(KvError::TooLarge {
                bytes,
                limit: MAX_VALUE,
            });
        }
        let put = Put {
            bucket: self.bucket,
            key: key.clone(),
            value,
            expect,
            time_to_live: time_to_live.map(whole_seconds),
        };
        let revision = self.writer.run(put).await.map_err(unavailable)?;
        revision.ok_or_else(|| KvError::Conflict(key.clone()))
    }

    async fn delete(&self, key: &Subject, expect: Expect) -> Result<(), KvError> {
        let delete = Delete {
            bucket: self.bucket,
            key: key.clone(),
            expect,
        };
        if self.writer.run(delete).await.map_err(unavailable)? {
            Ok(())
        } else {
            Err(KvError::Conflict(key.clone()))
        }
    }

    async fn scan(&self, prefix: Option<&Subject>) -> Result<Vec<Entry>, KvError> {
        // `~` comes after all that keys hold.
        let (lowest, highest) = match prefix {
            Some(prefix) => (format!("{prefix}."), format!("{prefix}.~")),
            None => (String::new(), "~".to_owned()),
        };
        let rows: Vec<EntryColumns> = sqlx::query_as(
            "SELECT key, value, revision FROM entries
             WHERE bucket = ? AND key >= ? AND key < ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY key",
        )
        .bind(self.bucket.name())
        .bind(lowest)
        .bind(highest)
        .bind(units::now())
        .fetch_all(&self.readers)
        .await
        .map_err(unavailable)?;
        rows.into_iter().map(entry).collect()
    }
}

/// Key, value and revision.
type EntryColumns = (String, Vec<u8>, i64);

fn entry((key, value, revision): EntryColumns) -> Result<Entry, KvError> {
    Ok(Entry {
        key: Subject::new(key).map_err(unavailable)?,
        value: Bytes::from(value),
        revision: units::unsigned(revision),
    })
}

fn unavailable(cause: impl Into<Cause>) -> KvError {
    KvError::Unavailable(cause.into())
}

/// At least one second, rounded up to whole ones, in microseconds.
fn whole_seconds(time_to_live: Duration) -> i64 {
    let partly = u64::from(time_to_live.subsec_nanos() > 0);
    units::span(Duration::from_secs(
        time_to_live.as_secs().saturating_add(partly).max(1),
    ))
}

/// The condition of an expectation: whether any is made, and the revision it wants, 0 for none.
fn condition(expect: Expect) -> (bool, i64) {
    match expect {
        Expect::Anything => (false, 0),
        Expect::Absent => (true, 0),
        Expect::Revision(revision) => (true, units::signed(revision)),
    }
}

/// Writes a value; answers its revision, none where the expectation failed.
#[derive(Debug)]
struct Put {
    bucket: Bucket,
    key: Subject,
    value: Bytes,
    expect: Expect,
    /// In microseconds.
    time_to_live: Option<i64>,
}

#[async_trait]
impl Task for Put {
    type Answer = Option<u64>;

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<Option<u64>, sqlx::Error> {
        let now = units::now();
        let (conditional, revision) = condition(self.expect);
        let revision: Option<i64> = sqlx::query_scalar(
            "INSERT OR REPLACE INTO entries (bucket, key, value, expires_at)
             SELECT ?1, ?2, ?3, ?4
             WHERE NOT ?5 OR ?6 = coalesce(
                 (SELECT revision FROM entries
                  WHERE bucket = ?1 AND key = ?2 AND (expires_at IS NULL OR expires_at > ?7)), 0)
             RETURNING revision",
        )
        .bind(self.bucket.name())
        .bind(self.key.as_str())
        .bind(self.value.as_ref())
        .bind(self.time_to_live.map(|span| now.saturating_add(span)))
        .bind(conditional)
        .bind(revision)
        .bind(now)
        .fetch_optional(connection)
        .await?;
        Ok(revision.map(units::unsigned))
    }

    fn size(&self) -> usize {
        self.value.len()
    }
}

/// Removes a key; answers whether the expectation held.
#[derive(Debug)]
struct Delete {
    bucket: Bucket,
    key: Subject,
    expect: Expect,
}

#[async_trait]
impl Task for Delete {
    type Answer = bool;

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT revision FROM entries
             WHERE bucket = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?)",
        )
        .bind(self.bucket.name())
        .bind(self.key.as_str())
        .bind(units::now())
        .fetch_optional(&mut *connection)
        .await?;
        let (conditional, revision) = condition(self.expect);
        if conditional && revision != found.unwrap_or(0) {
            return Ok(false);
        }
        if let Some(found) = found {
            sqlx::query("DELETE FROM entries WHERE revision = ?")
                .bind(found)
                .execute(connection)
                .await?;
        }
        Ok(true)
    }
}

/// Removes keys past their time, a bounded number at once; answers how many.
#[derive(Debug)]
pub(super) struct RemoveExpired;

#[async_trait]
impl Task for RemoveExpired {
    type Answer = u64;

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
        let removed = sqlx::query(
            "DELETE FROM entries WHERE revision IN (SELECT revision FROM entries WHERE expires_at <= ? LIMIT 1000)",
        )
        .bind(units::now())
        .execute(connection)
        .await?;
        Ok(removed.rows_affected())
    }
}
