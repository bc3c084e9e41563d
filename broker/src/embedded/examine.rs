//! What `tidings doctor` finds in the file.

use std::path::Path;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqlitePool};

use crate::{EventLog, Finding, Severity};

use super::writer::{Task, Writer};

/// Above this size the database is not read from end to end.
const CHECKED_BYTES: u64 = 512 << 20;

/// Looks at the durability settings of the connection that writes, which are its own.
#[derive(Debug)]
struct ReadSettings;

#[async_trait]
impl Task for ReadSettings {
    /// Journal mode and `synchronous`.
    type Answer = (String, i64);

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(String, i64), sqlx::Error> {
        let journal = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(&mut *connection)
            .await?;
        let synchronous = sqlx::query_scalar("PRAGMA synchronous")
            .fetch_one(connection)
            .await?;
        Ok((journal, synchronous))
    }
}

/// Whether a commit survives a power cut.
pub(super) async fn settings(writer: &Writer) -> Vec<Finding> {
    const FULL: i64 = 2;
    let (journal, synchronous) = match writer.run(ReadSettings).await {
        Ok(settings) => settings,
        Err(error) => {
            return vec![failure(
                "writer",
                format!("The database cannot be written: {error}."),
            )];
        }
    };
    let journal = if journal == "wal" {
        fine("journal_mode", "The journal mode is WAL.".to_owned())
    } else {
        let advice = "Put the data folder on a local file system, where WAL works";
        failure(
            "journal_mode",
            format!("The journal mode is {journal}, not WAL. {advice}."),
        )
    };
    let synchronous = if synchronous >= FULL {
        fine(
            "synchronous",
            "Every commit is flushed to the disk before it is acknowledged.".to_owned(),
        )
    } else {
        let message = "Commits are acknowledged before they are on the disk; a power cut would lose some.";
        failure("synchronous", message.to_owned())
    };
    vec![journal, synchronous]
}

/// Whether the file is sound, as far as a quick look tells.
pub(super) async fn soundness(readers: &SqlitePool, file: &Path) -> Finding {
    let subject = "log.db";
    let bytes = tokio::fs::metadata(file)
        .await
        .map_or(0, |metadata| metadata.len());
    let mebibytes = bytes >> 20;
    if bytes > CHECKED_BYTES {
        return fine(
            subject,
            format!("The database has {mebibytes} MiB, too many to be checked while it serves."),
        );
    }
    let checked = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)")
        .fetch_one(readers)
        .await;
    match checked {
        Ok(answer) if answer == "ok" => fine(
            subject,
            format!("The database of {mebibytes} MiB passes SQLite's quick check."),
        ),
        Ok(answer) => failure(
            subject,
            format!("The database is damaged ({answer}). Restore it from a backup."),
        ),
        Err(error) => failure(subject, format!("The database cannot be read: {error}.")),
    }
}

/// Where a log begins and ends.
pub(super) async fn bounds(name: &str, log: &dyn EventLog) -> Finding {
    match log.state().await {
        Ok(state) if state.first > state.last => fine(
            name,
            format!("The log holds no record; the last sequence was {}.", state.last),
        ),
        Ok(state) => fine(
            name,
            format!("The log holds the records {} to {}.", state.first, state.last),
        ),
        Err(error) => failure(name, format!("The log cannot be read: {error}.")),
    }
}

fn fine(subject: &str, message: String) -> Finding {
    Finding {
        severity: Severity::Fine,
        subject: subject.to_owned(),
        message,
    }
}

fn failure(subject: &str, message: String) -> Finding {
    Finding {
        severity: Severity::Failure,
        subject: subject.to_owned(),
        message,
    }
}
