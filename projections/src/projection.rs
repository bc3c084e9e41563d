//! What a projection is: a name, a version, the logs it follows, and how a batch of records changes its tables.

use async_trait::async_trait;
use broker::layout::Log;
use bytes::Bytes;
use domain::{Commit, DeliveryRecord, Message, Position, Source, Timestamp};

use crate::rows::Rows;
use crate::table::{Row, Table};

/// What a record says.
#[derive(Debug, Clone)]
pub enum Fact {
    /// The events of one command.
    Commit(Commit),
    /// A tenant's message.
    Message(Message),
    /// What became of a delivery.
    Delivery(DeliveryRecord),
    /// A claim of a unique value, or another record that guards an append.
    Claim,
    /// It cannot be read; only a projection that takes records [verbatim](Projection::verbatim) is given one.
    Unreadable,
}

/// A record on its way into a projection.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Where it stands.
    pub position: Position,
    /// Whose it is, as its subject says; the fact agrees.
    pub tenant: String,
    /// Where the log files it.
    pub subject: String,
    /// The id it was appended under.
    pub message_id: String,
    /// When the log stored it.
    pub stored_at: Timestamp,
    /// The record itself, verbatim.
    pub payload: Bytes,
    /// What it says.
    pub fact: Fact,
}

/// Why a batch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// One record can never be applied by this program: its tenant is parked from there on.
    #[error("record {position} cannot be applied: {reason}")]
    Poison {
        /// Which record.
        position: Position,
        /// What is wrong with it.
        reason: String,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Incoming {
    /// The commit, if it is one.
    pub fn commit(&self) -> Option<&Commit> {
        match &self.fact {
            Fact::Commit(commit) => Some(commit),
            Fact::Message(_) | Fact::Delivery(_) | Fact::Claim | Fact::Unreadable => None,
        }
    }

    /// The error that parks this record's tenant.
    pub fn poison(&self, reason: impl Into<String>) -> ApplyError {
        ApplyError::Poison {
            position: self.position,
            reason: reason.into(),
        }
    }
}

/// Rows of a table that the records of one kind of log make.
#[derive(Debug, Clone, Copy)]
pub struct Portion {
    /// The table.
    pub table: &'static Table,
    /// Which of its rows.
    pub rows: Share,
}

/// Which rows of a table are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All.
    All,
    /// Those with this text in a column.
    Named(&'static str, &'static str),
    /// All, and each is made by the one record that its columns `shard` and `sequence` tell: where that record is still
    /// there, the row can be made again.
    ByRecord,
}

impl Portion {
    /// All rows of a table.
    pub fn all(table: &'static Table) -> Self {
        let rows = Share::All;
        Self { table, rows }
    }

    /// Whether a row of a table belongs to it and cannot be told from what is left of an aged log.
    pub(crate) fn hides(&self, table: &Table, row: &Row) -> bool {
        table.name == self.table.name
            && match self.rows {
                Share::All => true,
                Share::Named(column, text) => table.text(row, column) == text,
                Share::ByRecord => false,
            }
    }
}

/// Code that folds logs into tables; the tables and its checkpoint change in one transaction.
///
/// **Order.** Records of one log come in its order, each exactly once in effect; between logs there is no order.
/// The tables must depend on the records alone, never on how they were cut into batches: a fold of the whole log
/// is compared with them.
#[async_trait]
pub trait Projection: Send + Sync + std::fmt::Debug {
    /// Names it in checkpoints, metrics and commands.
    fn name(&self) -> &'static str;

    /// Grows when the same records would give other rows; the tables are then made anew.
    fn version(&self) -> i64;

    /// The kinds of log it follows, all shards of each.
    fn sources(&self) -> &'static [Source];

    /// The tables it alone writes.
    fn tables(&self) -> &'static [&'static Table];

    /// Applies records of one log.
    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError>;

    /// Which rows the records of one kind of log make. A rebuild takes them over from the live model where that log no
    /// longer has its first records. A projection of several kinds of log must say it.
    fn portions(&self, source: Source) -> Vec<Portion> {
        if self.sources() == [source] {
            self.tables().iter().map(|table| Portion::all(table)).collect()
        } else {
            Vec::new()
        }
    }

    /// Whether it takes every record as the bytes it is, unreadable ones among them; it parks no tenant then.
    fn verbatim(&self) -> bool {
        false
    }

    /// Whether it keeps what it once wrote: it is a check on the log, not a view of it, and is never made anew.
    fn lasting(&self) -> bool {
        false
    }
}

/// The kind of a log, as positions tell it.
pub(crate) fn source_of(log: Log) -> (Source, u16) {
    match log {
        Log::Events(shard) => (Source::Events, shard),
        Log::Messages(shard) => (Source::Messages, shard),
        Log::Attempts => (Source::Deliveries, 0),
    }
}

/// A place in a log.
pub(crate) fn position(log: Log, sequence: u64) -> Position {
    let (source, shard) = source_of(log);
    Position {
        source,
        shard,
        sequence,
    }
}

/// The log of a stored name.
pub(crate) fn log_of(name: &str) -> Option<Log> {
    let shard = |prefix: &str| name.strip_prefix(prefix)?.parse().ok();
    match name {
        "ATTEMPTS" => Some(Log::Attempts),
        _ => shard("EVENTS-")
            .map(Log::Events)
            .or_else(|| shard("MESSAGES-").map(Log::Messages)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_found_by_the_name_it_is_stored_under() {
        for log in [Log::Events(0), Log::Messages(17), Log::Attempts] {
            assert_eq!(log_of(&log.name()), Some(log));
        }
        assert_eq!(log_of("EVENTS-x"), None);
    }
}
