//! The folder and the file: the lock that keeps a second process out, the connections, and the tables.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};

use crate::layout::{Layout, Log, Retention};
use crate::{Cause, OpenError};

use super::{failures, steady, units};

const SCHEMA: &str = include_str!("schema.sql");
const SCHEMA_VERSION: i64 = 1;
const READERS: u32 = 4;

/// Where the database is, and how to connect to it.
#[derive(Debug, Clone)]
pub(super) struct Database {
    pub(super) file: PathBuf,
}

/// A log of the layout as the file knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogRow {
    pub(super) log: Log,
    /// Its number in the tables.
    pub(super) number: i64,
    /// The sequence last given out, 0 when there was none.
    pub(super) last: u64,
    /// When that record was stored, in microseconds.
    pub(super) stored_at: i64,
}

impl Database {
    /// Makes the folder if it is missing, for its owner only, and locks it against other processes for as long as
    /// the answered file lives.
    pub(super) fn claim(folder: &Path) -> Result<(Self, File), OpenError> {
        let unreachable = |cause: io::Error| OpenError::Unreachable {
            what: format!("the data folder {}", folder.display()),
            advice: "make sure that it can be created, read and written by this user".to_owned(),
            cause: Box::new(cause),
        };
        make_folder(folder).map_err(unreachable)?;
        let lock = File::create(folder.join("lock")).map_err(unreachable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Unfit {
                    what: format!("the data folder {}", folder.display()),
                    advice: "another tidings process is using it; stop that one, or choose another folder"
                        .to_owned(),
                });
            }
            Err(TryLockError::Error(cause)) => return Err(unreachable(cause)),
        }
        let file = folder.join("log.db");
        Ok((Self { file }, lock))
    }

    /// The connection that writes. Durability rests on its settings: with WAL and `synchronous=FULL`, a commit
    /// returns after fsync.
    pub(super) async fn connect_writer(&self) -> Result<SqliteConnection, sqlx::Error> {
        SqliteConnectOptions::new()
            .filename(&self.file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .pragma("cache_size", "-32768")
            // 32 MiB: the message ids' index is written in random order, and each checkpoint saves rewrites.
            .pragma("wal_autocheckpoint", "8192")
            .pragma("journal_size_limit", "67108864")
            .disable_statement_logging()
            .connect()
            .await
    }

    /// The connections that read; they never wait for the writer, nor it for them.
    pub(super) async fn connect_readers(&self) -> Result<SqlitePool, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(&self.file)
            .read_only(true)
            .busy_timeout(Duration::from_secs(10))
            .row_buffer_size(256)
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false);
        pool.connect_with(options).await
    }

    /// Makes what is missing of the tables and logs, and reads where each log of the layout stands.
    pub(super) async fn prepare(
        &self,
        writer: &mut SqliteConnection,
        layout: &Layout,
    ) -> Result<Vec<LogRow>, OpenError> {
        let version: i64 = sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(&mut *writer)
            .await
            .map_err(|cause| self.unreachable(cause))?;
        if version > SCHEMA_VERSION {
            return Err(OpenError::Unfit {
                what: format!("the database {}", self.file.display()),
                advice: "it was written by a newer version of tidings; start that one".to_owned(),
            });
        }
        sqlx::raw_sql(SCHEMA)
            .execute(&mut *writer)
            .await
            .map_err(|cause| self.unreachable(cause))?;
        // The folder is ours alone: who held these leases is gone, and nobody need wait for their ends. Nor for what was
        // due at once, and was written while the clock was ahead.
        sqlx::query(
            "UPDATE jobs SET free_at = ?1, token = NULL
             WHERE token IS NOT NULL OR (free_at > ?1 AND free_at <= enqueued_at)",
        )
        .bind(steady::now())
        .execute(&mut *writer)
        .await
        .map_err(|cause| self.unreachable(cause))?;
        let mut rows = Vec::new();
        for log in layout.logs() {
            let row = prepare_log(writer, log, layout.retention(log)).await;
            rows.push(row.map_err(|cause| self.unreachable(cause))?);
        }
        Ok(rows)
    }

    /// The error for a file that does not work.
    pub(super) fn unreachable(&self, cause: impl Into<Cause>) -> OpenError {
        let cause = cause.into();
        let advice = if cause.downcast_ref().is_some_and(failures::is_damage) {
            "it is damaged, or no database: move log.db, log.db-wal and log.db-shm elsewhere and run `tidings restore`, \
             which makes the log of events again from the archive (docs/operating.md, \"When the log is lost or damaged\")"
        } else {
            "make sure that it is a tidings database, that this user may write it, and that the disk is not full"
        };
        OpenError::Unreachable {
            what: format!("the database {}", self.file.display()),
            advice: advice.to_owned(),
            cause,
        }
    }
}

/// Where a log ends: the sequence last given out, and when that record was stored.
pub(super) async fn read_end(
    connection: &mut SqliteConnection,
    number: i64,
) -> Result<(u64, i64), sqlx::Error> {
    let newest: Option<(i64, i64)> = sqlx::query_as(
        "SELECT place, stored_at FROM records WHERE place BETWEEN ? AND ? ORDER BY place DESC LIMIT 1",
    )
    .bind(units::place(number, 0))
    .bind(units::place(number, u64::MAX))
    .fetch_optional(&mut *connection)
    .await?;
    let floor: i64 = sqlx::query_scalar(
        "SELECT max(removed, coalesce((SELECT sequence FROM floors WHERE log = number), 0)) FROM logs WHERE number = ?",
    )
    .bind(number)
    .fetch_one(&mut *connection)
    .await?;
    let (place, stored_at) = newest.unwrap_or_default();
    Ok((units::sequence(place).max(units::unsigned(floor)), stored_at))
}

async fn prepare_log(
    writer: &mut SqliteConnection,
    log: Log,
    retention: Retention,
) -> Result<LogRow, sqlx::Error> {
    let number: i64 = sqlx::query_scalar(
        "INSERT INTO logs (name, created, forever) VALUES (?, ?, ?)
         ON CONFLICT (name) DO UPDATE SET forever = excluded.forever
         RETURNING number",
    )
    .bind(log.name())
    .bind(units::now())
    .bind(retention == Retention::Forever)
    .fetch_one(&mut *writer)
    .await?;
    let (last, stored_at) = read_end(writer, number).await?;
    Ok(LogRow {
        log,
        number,
        last,
        stored_at,
    })
}

/// Makes the folder where it is missing, with its parents, and makes sure that a power cut does not take it back.
fn make_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|ancestor| !ancestor.exists())
        .collect();
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    missing
        .into_iter()
        .filter_map(Path::parent)
        .try_for_each(sync_folder)
}

/// Makes the entries of a folder durable, where the platform has a way to ask for that.
fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    if cfg!(unix) {
        File::open(folder)?.sync_all()
    } else {
        Ok(())
    }
}
