//! Reading the archive, a bounded page at a time.

use std::time::{Duration, UNIX_EPOCH};

use broker::layout::Shard;
use broker::{MAX_APPEND, Record, Subject};

use super::RestoreError;
use crate::engine::Database;
use crate::models::archive::ARCHIVE;
use crate::sql::{Statement, Value};
use crate::table::{Column, Row};

/// A page holds at most this many bytes of payloads, or one record.
const PAGE_BYTES: u64 = 4 << 20;

/// The archive of one log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Archive<'d> {
    pub(super) database: &'d Database,
    pub(super) shard: Shard,
}

impl Archive<'_> {
    /// The last sequence; an archive that is empty, or lacks a record before that, is an error.
    pub(super) async fn end(self) -> Result<u64, RestoreError> {
        let first =
            Statement::new("SELECT min(sequence) FROM event_archive WHERE shard = $1").with(self.shard);
        // The first record that none follows: the last one, where none is missing.
        let unfollowed = Statement::new(
            "SELECT a.sequence FROM event_archive a WHERE a.shard = $1 AND NOT EXISTS
                 (SELECT 1 FROM event_archive b WHERE b.shard = $1 AND b.sequence = a.sequence + 1)
             ORDER BY a.sequence LIMIT 2",
        )
        .with(self.shard);
        let first = self.numbers(first, 1).await?;
        match first.first().and_then(|row| row.first()) {
            None => return Err(RestoreError::Empty),
            Some(1) => {}
            Some(_) => return Err(RestoreError::Gap { missing: 1 }),
        }
        match self.numbers(unfollowed, 1).await?.as_slice() {
            [] => Err(RestoreError::Empty),
            [end] => Ok(end.first().copied().unwrap_or_default()),
            [before, ..] => Err(RestoreError::Gap {
                missing: before.first().copied().unwrap_or_default() + 1,
            }),
        }
    }

    /// The records after one, so many as fit into a page; contiguous as long as [`Archive::end`] was right.
    pub(super) async fn page(self, after: u64) -> Result<Vec<Record>, RestoreError> {
        let sizes = Statement::new(
            "SELECT sequence, CAST(length(payload) AS BIGINT) FROM event_archive
             WHERE shard = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
        );
        let sizes = sizes.with(self.shard).with(after).with(MAX_APPEND as u64);
        let (mut bytes, mut until) = (0, after);
        for row in self.numbers(sizes, 2).await? {
            let [sequence, size] = row.as_slice() else {
                continue;
            };
            bytes += size;
            if bytes > PAGE_BYTES && until > after {
                break;
            }
            until = *sequence;
        }
        let columns: Vec<_> = ARCHIVE.names().collect();
        let select = format!(
            "SELECT {} FROM event_archive WHERE shard = $1 AND sequence > $2 AND sequence <= $3 ORDER BY sequence",
            columns.join(", ")
        );
        let select = Statement::new(select).with(self.shard).with(after).with(until);
        let mut session = self.database.begin_beside().await?;
        let rows = session.rows(select, ARCHIVE.columns).await?;
        rows.iter().map(record).collect()
    }

    /// Rows of integers.
    async fn numbers(self, select: Statement, columns: usize) -> Result<Vec<Vec<u64>>, RestoreError> {
        let columns = vec![Column::int("number"); columns];
        let mut session = self.database.begin_beside().await?;
        let rows = session.rows(select, &columns).await?;
        let numbers = |row: &Row| {
            let numbers = row.iter().filter_map(Value::as_int);
            numbers
                .map(|number| u64::try_from(number).unwrap_or_default())
                .collect()
        };
        Ok(rows.iter().map(numbers).collect())
    }
}

fn record(row: &Row) -> Result<Record, RestoreError> {
    let number = |name| u64::try_from(ARCHIVE.int(row, name)).unwrap_or_default();
    let sequence = number("sequence");
    let subject = Subject::new(ARCHIVE.text(row, "subject")).map_err(|error| RestoreError::Unwritable {
        sequence,
        reason: error.to_string(),
    })?;
    let payload = ARCHIVE.get(row, "payload").and_then(Value::as_bytes);
    Ok(Record {
        sequence,
        subject,
        message_id: ARCHIVE.text(row, "message_id").to_owned(),
        stored_at: UNIX_EPOCH + Duration::from_millis(number("stored_at")),
        payload: payload.unwrap_or_default().to_vec().into(),
    })
}
