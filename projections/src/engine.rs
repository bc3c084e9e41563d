//! Where the two databases truly differ: opening, migrations, roles, and a few words of SQL.

pub(crate) mod copies;
pub(crate) mod postgres;
mod session;
pub(crate) mod sqlite;

use std::collections::BTreeSet;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AnyConnection, AnyPool, PgPool, SqlitePool};

use crate::OpenError;
use crate::sql::{Statement, int};

pub(crate) use session::Session;

static COMMON: Migrator = sqlx::migrate!("../schemas/migrations");

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Sqlite,
}

/// An opened database.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) kind: Kind,
    /// The address without credentials, or the file.
    pub(crate) address: String,
    /// For queries; they cannot change anything.
    pub(crate) reader: AnyPool,
    folds: Folds,
}

/// Connections for folds.
#[derive(Debug, Clone)]
enum Folds {
    Postgres(PgPool),
    Sqlite {
        /// One connection: folds wait for their turn in its queue and not in SQLite's busy loop.
        writer: SqlitePool,
        /// For a rebuild that reads what it wrote before.
        reader: SqlitePool,
    },
}

impl Database {
    /// Begins a transaction that will write.
    pub(crate) async fn begin(&self) -> Result<Session, sqlx::Error> {
        Ok(match &self.folds {
            Folds::Postgres(pool) => Session::Postgres(pool.begin().await?),
            // Taking the write lock later, in the middle of a transaction, fails where waiting would do.
            Folds::Sqlite { writer, .. } => Session::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
        })
    }

    /// Makes the database ready for a rebuild, or as it always is; only a matter of speed.
    pub(crate) async fn favour_bulk(&self, bulk: bool) {
        let Folds::Sqlite { writer, .. } = &self.folds else {
            return;
        };
        let pragmas = if bulk { sqlite::FOR_BULK } else { sqlite::AS_ALWAYS };
        if let Err(error) = sqlx::raw_sql(pragmas).execute(writer).await {
            tracing::debug!(%error, "The read database keeps its settings.");
        }
    }

    /// Begins a transaction that reads beside the one that writes.
    pub(crate) async fn begin_beside(&self) -> Result<Session, sqlx::Error> {
        Ok(match &self.folds {
            Folds::Postgres(pool) => Session::Postgres(pool.begin().await?),
            Folds::Sqlite { reader, .. } => Session::Sqlite(reader.begin().await?),
        })
    }

    /// Begins a transaction that sees one state of the database throughout, whatever is written meanwhile, and may read
    /// whole tables.
    pub(crate) async fn begin_snapshot(&self) -> Result<Session, sqlx::Error> {
        Ok(match &self.folds {
            Folds::Postgres(pool) => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                Session::Postgres(postgres::begin_over_tables(pool, begin).await?)
            }
            Folds::Sqlite { reader, .. } => Session::Sqlite(reader.begin().await?),
        })
    }

    /// Begins a transaction that writes what it makes of one state of the database, and may read whole tables.
    pub(crate) async fn begin_snapshot_to_write(&self) -> Result<Session, sqlx::Error> {
        Ok(match &self.folds {
            Folds::Postgres(pool) => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
                Session::Postgres(postgres::begin_over_tables(pool, begin).await?)
            }
            Folds::Sqlite { writer, .. } => Session::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
        })
    }

    /// Lets go of all connections, once what is running has ended.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        match &self.folds {
            Folds::Postgres(pool) => pool.close().await,
            Folds::Sqlite { writer, reader } => {
                reader.close().await;
                writer.close().await;
            }
        }
    }
}

impl Kind {
    /// Begins a transaction that reads one state of the database throughout.
    pub(crate) fn begin_read(self) -> &'static str {
        match self {
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Self::Sqlite => "BEGIN",
        }
    }

    /// A text expression with ASCII letters made small, and no others: the same on both.
    pub(crate) fn ascii_lower(self, expression: &str) -> String {
        match self {
            Self::Postgres => format!("lower({expression} COLLATE \"C\")"),
            Self::Sqlite => format!("lower({expression})"),
        }
    }
}

/// Compares the migrations in the database with this program's, and applies those missing where that is wanted.
pub(crate) async fn migrate(
    connection: &mut AnyConnection,
    kind: Kind,
    address: &str,
    allowed: bool,
) -> Result<(), OpenError> {
    let what = || address.to_owned();
    let (migrator, exists) = migrations(kind);
    let applied = applied(connection, exists).await;
    let applied = applied.map_err(|error| OpenError::unreachable(address, error))?;
    if let Some(newer) = applied.iter().find(|version| !migrator.version_exists(**version)) {
        return Err(OpenError::SchemaNewer {
            what: what(),
            version: *newer,
        });
    }
    let missing = migrator
        .iter()
        .filter(|known| !applied.contains(&known.version))
        .count();
    if missing == 0 {
        return Ok(());
    }
    if !allowed {
        return Err(OpenError::NotMigrated {
            what: what(),
            missing,
        });
    }
    if kind == Kind::Postgres {
        postgres::make_roles(connection, address).await?;
    }
    let migrated = migrator.run_direct(None, connection, false).await;
    migrated.map_err(|error| match error {
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) if denied(&source) => {
            OpenError::MayNotMigrate {
                what: what(),
                missing,
                source,
            }
        }
        source => OpenError::Migration { what: what(), source },
    })
}

/// The migrations of an engine, and the query that tells whether any were applied before.
fn migrations(kind: Kind) -> (Migrator, &'static str) {
    let common = COMMON.iter().cloned();
    match kind {
        Kind::Postgres => {
            let own = postgres::MIGRATIONS.iter().cloned();
            (
                Migrator::with_migrations(common.chain(own).collect()),
                postgres::HAS_MIGRATIONS,
            )
        }
        Kind::Sqlite => (
            Migrator::with_migrations(common.collect()),
            sqlite::HAS_MIGRATIONS,
        ),
    }
}

/// The versions of the migrations applied so far.
async fn applied(connection: &mut AnyConnection, exists: &str) -> Result<BTreeSet<i64>, sqlx::Error> {
    if Statement::new(exists).rows(connection).await?.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = Statement::new("SELECT version FROM _sqlx_migrations")
        .rows(connection)
        .await?;
    rows.iter().map(|row| int(row, "version")).collect()
}

/// Whether the database said that the role may not do this (SQLSTATE 42501).
pub(crate) fn denied(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code == "42501")
}

/// Whether the database refused the values themselves, so that trying again is of no use: SQLSTATE classes 22,
/// 23 and 54 of PostgreSQL (what is no value, breaks a rule, or is too much), and the results `SQLITE_TOOBIG`, `SQLITE_CONSTRAINT` and `SQLITE_MISMATCH`.
pub(crate) fn refuses_data(error: &sqlx::Error, kind: Kind) -> bool {
    let Some(code) = code(error) else { return false };
    match kind {
        Kind::Postgres => ["22", "23", "54"].iter().any(|class| code.starts_with(class)),
        Kind::Sqlite => code
            .parse::<u32>()
            .is_ok_and(|code| matches!(code & 0xff, 18..=20)),
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    error
        .as_database_error()?
        .code()
        .map(std::borrow::Cow::into_owned)
}
