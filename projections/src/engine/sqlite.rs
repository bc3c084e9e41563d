//! SQLite: one file, `read.db`, in the data folder.
//!
//! `synchronous=NORMAL`: a power cut may take back the last transactions, rows and checkpoint together, and the log
//! folds them again. One connection writes, so that projectors wait for their turn in a queue and not in SQLite's
//! busy loop; the busy timeout is for other processes.

pub(super) mod bulk;

use std::path::Path;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Connection, Executor};

use super::{Database, Folds, Kind, migrate};
use crate::OpenError;

/// Answers a row where migrations have been applied before.
pub(super) const HAS_MIGRATIONS: &str =
    "SELECT 1 AS found FROM sqlite_master WHERE name = '_sqlx_migrations'";

const FILE: &str = "read.db";
const READERS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(5);
const LONG_PATIENCE: Duration = Duration::from_mins(1);
/// A fold has a few statements for each of its tables.
const STATEMENTS: usize = 500;
/// While a read model is rebuilt: its batches change more pages than the 2 MiB of cache and the 4 MiB of write-ahead log
/// that SQLite has by itself, and would write and read them again and again.
pub(super) const FOR_BULK: &str =
    "PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 8192; PRAGMA journal_size_limit = 67108864;";
/// SQLite's own values.
pub(super) const AS_ALWAYS: &str =
    "PRAGMA cache_size = -2000; PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = -1;";
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 10000;";

/// Opens the file, making it and its folder where they are missing.
pub(crate) async fn open(folder: &Path, migrations: bool) -> Result<Database, OpenError> {
    let path = folder.join(FILE);
    let address = path.display().to_string();
    let failed = |error: std::io::Error| OpenError::unreachable(&address, sqlx::Error::Io(error));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let absolute = folder.canonicalize().map_err(failed)?.join(FILE);
    let options = options(&absolute).map_err(|error| OpenError::unreachable(&address, error))?;

    let unreachable = |error| OpenError::unreachable(&address, error);
    let mut connection = sqlx::AnyConnection::connect_with(&options)
        .await
        .map_err(unreachable)?;
    connection.execute(PRAGMAS).await.map_err(unreachable)?;
    migrate(&mut connection, Kind::Sqlite, &address, migrations).await?;
    connection.close().await.map_err(unreachable)?;

    let reader = AnyPoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(PATIENCE)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                connection.execute(PRAGMAS).await?;
                connection.execute("PRAGMA query_only = ON").await?;
                Ok(())
            })
        })
        .connect_lazy_with(options);
    Ok(Database {
        kind: Kind::Sqlite,
        reader,
        folds: folds(&absolute),
        address,
    })
}

/// Connections that fold. The one that writes is waited for as long as it takes: a rebuild may be in the middle of a
/// batch.
///
/// A transaction that meets a full disk, SQLite rolls back by itself; `sqlx` goes on counting it (0.9), since its own
/// rollback fails then, and begins no other on that connection. Whoever comes next gets a new one.
fn folds(path: &Path) -> Folds {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .statement_cache_capacity(STATEMENTS);
    let pool = |connections: u32, patience: Duration, pragma: &'static str| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(patience)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    connection.execute(PRAGMAS).await?;
                    connection.execute(pragma).await?;
                    Ok(())
                })
            })
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_lazy_with(options.clone())
    };
    Folds::Sqlite {
        writer: pool(1, LONG_PATIENCE, "PRAGMA query_only = OFF"),
        reader: pool(READERS, PATIENCE, "PRAGMA query_only = ON"),
    }
}

/// The file as the URL sqlx wants: characters that mean something in a URL are escaped.
fn options(path: &Path) -> Result<AnyConnectOptions, sqlx::Error> {
    let Some(path) = path.to_str() else {
        return Err(sqlx::Error::Configuration("the path is not valid Unicode".into()));
    };
    let path = path.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    format!("sqlite://{path}?mode=rwc").parse()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Statement;

    #[tokio::test]
    async fn any_folder_name_will_do() {
        sqlx::any::install_default_drivers();
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("50% of? #1 ä");
        let database = open(&odd, true).await.unwrap();
        assert!(odd.join(FILE).exists());
        let error = database.reader.execute("DELETE FROM users").await.unwrap_err();
        assert!(error.to_string().contains("readonly"), "{error}");
        database.reader.close().await;
    }

    #[tokio::test]
    async fn a_transaction_that_sqlite_ended_by_itself_does_not_keep_others_from_beginning() {
        sqlx::any::install_default_drivers();
        let folder = tempfile::tempdir().unwrap();
        let database = open(folder.path(), true).await.unwrap();
        let make = Statement::new("CREATE TABLE full (disk INTEGER CHECK (disk = 0))");
        let mut session = database.begin().await.unwrap();
        session.execute(make).await.unwrap();
        session.commit().await.unwrap();
        for _ in 0..3 {
            let mut session = database.begin().await.unwrap();
            let rolled_back = Statement::new("INSERT OR ROLLBACK INTO full VALUES (1)");
            session.execute(rolled_back).await.unwrap_err();
            // Nothing is rolled back any more, and says so.
            session.commit().await.unwrap_err();
        }
        let mut session = database.begin().await.unwrap();
        session
            .execute(Statement::new("INSERT INTO full VALUES (0)"))
            .await
            .unwrap();
        session.commit().await.unwrap();
        database.close().await;
    }
}
