//! PostgreSQL: two roles, each seeing no more than it needs, and a start-up test that they do.
//!
//! Whoever the URL logs in as, folds run as `tidings_projector` and queries as `tidings_query`, by `SET ROLE` where
//! the login is not that role itself. Queries are confined to the tenant of their transaction by row-level security
//! (`schemas/migrations/postgres`).

pub(super) mod bulk;

use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AnyConnection, AnyPool, Connection, Executor, PgPool, Postgres, Transaction};

use super::{Database, Folds, Kind, denied, migrate};
use crate::OpenError;
use crate::sql::{Statement, int, text};

/// What only PostgreSQL needs, applied among the common migrations by number.
pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("../schemas/migrations/postgres");

/// Answers a row where migrations have been applied before.
pub(super) const HAS_MIGRATIONS: &str =
    "SELECT 1 AS found FROM pg_catalog.pg_class WHERE oid = to_regclass('_sqlx_migrations')";

const CONNECTIONS: u32 = 12;
const PATIENCE: Duration = Duration::from_secs(5);

const PROJECTOR: &str = "tidings_projector";
const QUERY: &str = "tidings_query";

/// A projector that is paused inside a transaction holds its checkpoint: after this long it loses it to another.
/// Commits do not wait for the disk: a power cut may take back the last of them, rows and checkpoint together, and the
/// log folds them again.
///
/// Folds look up and change rows by their keys. The planner is held to that: a plan it made for a table while that was
/// small reads the whole table, and is kept when the table has become large, until its statistics are gathered anew.
/// Who reads whole tables says so ([`begin_over_tables`]).
const AS_PROJECTOR: &str = "SET ROLE tidings_projector; SET idle_in_transaction_session_timeout = '15s'; SET \
                            synchronous_commit = off; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = \
                            off; SET enable_hashjoin = off; SET enable_mergejoin = off";
/// The planner is free again, for one transaction.
const OVER_TABLES: &str = "SET LOCAL plan_cache_mode = auto; SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = \
                           on; SET LOCAL enable_mergejoin = on";
/// Folds on one server at once: a task each for the projections and their logs, and rebuilds.
const FOLDS: u32 = 16;
/// A fold has a few statements for each of its tables.
const STATEMENTS: usize = 500;
/// No caller waits longer for an answer than this.
const AS_QUERY: &str = "SET ROLE tidings_query; SET statement_timeout = '30s'";

/// Makes the two roles where they are missing and the connected role is allowed to, and lets it act as them.
///
/// Roles belong to the server, so another installation may be making them at this moment: that is no error.
const MAKE_ROLES: &str = "
DO $$
DECLARE role TEXT;
BEGIN
    FOREACH role IN ARRAY ARRAY['tidings_projector', 'tidings_query'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        IF NOT pg_has_role(current_user, role, 'MEMBER') THEN
            BEGIN
                EXECUTE format('GRANT %I TO CURRENT_USER', role);
            EXCEPTION WHEN insufficient_privilege OR unique_violation OR internal_error THEN
                NULL;
            END;
        END IF;
    END LOOP;
END;
$$";

/// Connects, migrates where wanted and needed, and proves that queries cannot leave their tenant.
pub(crate) async fn open(url: &str, migrations: bool) -> Result<Database, OpenError> {
    let (options, address) = migrated(url, migrations).await?;
    // On a connection of its own: a pool would go on trying, and say no more than that it ran out of time.
    let unreachable = |error| OpenError::unreachable(&address, error);
    let mut connection = AnyConnection::connect_with(&options).await.map_err(unreachable)?;
    connection
        .execute(AS_QUERY)
        .await
        .map_err(|error| refused(&address, error))?;
    prove_isolation(&mut connection, &address).await?;
    connection.close().await.map_err(unreachable)?;
    Ok(Database {
        kind: Kind::Postgres,
        reader: pool(options, AS_QUERY),
        folds: Folds::Postgres(folds(url).map_err(|error| OpenError::unreachable(&address, error))?),
        address,
    })
}

/// Brings the schema up to date where wanted and needed, and answers how to connect.
pub(crate) async fn migrated(url: &str, migrations: bool) -> Result<(AnyConnectOptions, String), OpenError> {
    let options: AnyConnectOptions = url
        .parse()
        .map_err(|error| OpenError::unreachable("the database URL", error))?;
    let address = address(&options);
    let unreachable = |error| OpenError::unreachable(&address, error);
    let connecting = tokio::time::timeout(PATIENCE, AnyConnection::connect_with(&options));
    let mut connection = connecting
        .await
        .map_err(|_| unreachable(sqlx::Error::PoolTimedOut))?
        .map_err(unreachable)?;
    migrate(&mut connection, Kind::Postgres, &address, migrations).await?;
    connection.close().await.map_err(unreachable)?;
    Ok((options, address))
}

/// Connections that act as one of the roles.
fn pool(options: AnyConnectOptions, set_role: &'static str) -> AnyPool {
    AnyPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(PATIENCE)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                connection.execute(set_role).await?;
                Ok(())
            })
        })
        .connect_lazy_with(options)
}

/// Connections that fold.
fn folds(url: &str) -> Result<PgPool, sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    let pool = PgPoolOptions::new()
        .max_connections(FOLDS)
        .acquire_timeout(PATIENCE)
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute(AS_PROJECTOR).await?;
                Ok(())
            })
        });
    Ok(pool.connect_lazy_with(options.statement_cache_capacity(STATEMENTS)))
}

/// Begins a transaction in which whole tables are read, as it is cheapest.
pub(super) async fn begin_over_tables(
    pool: &PgPool,
    begin: &'static str,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut transaction = pool.begin_with(begin).await?;
    transaction.execute(OVER_TABLES).await?;
    Ok(transaction)
}

/// Makes the roles (see [`MAKE_ROLES`]).
pub(super) async fn make_roles(connection: &mut AnyConnection, address: &str) -> Result<(), OpenError> {
    match connection.execute(MAKE_ROLES).await {
        Ok(_) => Ok(()),
        Err(error) if denied(&error) => Err(OpenError::unfit(
            address,
            format!(
                "the roles {PROJECTOR} and {QUERY} are missing and the login may not create them; run \
                 deploy/postgres/init.sh as superuser, or give the login CREATEROLE"
            ),
        )),
        Err(error) => Err(OpenError::unreachable(address, error)),
    }
}

const WHO: &str = "
SELECT rolname::text AS name,
       (CASE WHEN rolsuper THEN 1 ELSE 0 END)::bigint AS super,
       (CASE WHEN rolbypassrls THEN 1 ELSE 0 END)::bigint AS bypass
FROM pg_catalog.pg_roles WHERE rolname = current_user";

/// Every table of the schema that has a tenant, and what is wrong with its protection; but for copies that are being
/// built, which queries cannot read until they are done and protected.
const TENANT_TABLES: &str = "
SELECT c.relname::text AS name,
       (CASE WHEN c.relrowsecurity AND c.relforcerowsecurity THEN 1 ELSE 0 END)::bigint AS forced,
       (CASE WHEN pg_has_role(current_user, c.relowner, 'USAGE') THEN 1 ELSE 0 END)::bigint AS owned
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant' AND NOT a.attisdropped
WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::text::regnamespace
    AND (c.relname !~ '_g[1-9][0-9]*$' OR has_table_privilege(c.oid, 'SELECT'))
ORDER BY c.relname";

/// A row for each table of archived records that the role can read any part of.
const ARCHIVE_READABLE: &str = "
SELECT c.relname::text AS name FROM pg_catalog.pg_class c
WHERE c.relname LIKE 'event^_archive%' ESCAPE '^' AND c.relkind = 'r' AND c.relnamespace = current_schema()::text::regnamespace
    AND has_any_column_privilege(c.oid, 'SELECT')";

/// Proves that the role of queries is confined: not superuser, no BYPASSRLS, not the tables' owner, row-level
/// security forced on each table with a tenant, and no row seen while no tenant is named.
pub(crate) async fn prove_isolation(connection: &mut AnyConnection, address: &str) -> Result<(), OpenError> {
    let failed = |error| OpenError::unreachable(address, error);
    let who = Statement::new(WHO).rows(connection).await.map_err(failed)?;
    for row in &who {
        let name = text(row, "name").map_err(failed)?;
        let unconfined = int(row, "super").map_err(failed)? + int(row, "bypass").map_err(failed)? > 0;
        if unconfined || name != QUERY {
            let advice = format!(
                "queries would run as {name}, which row-level security does not confine; they must run as {QUERY} \
                 without SUPERUSER or BYPASSRLS: ALTER ROLE {QUERY} NOSUPERUSER NOBYPASSRLS"
            );
            return Err(OpenError::unfit(address, advice));
        }
    }
    for row in Statement::new(TENANT_TABLES)
        .rows(connection)
        .await
        .map_err(failed)?
    {
        let table = text(&row, "name").map_err(failed)?;
        let forced = int(&row, "forced").map_err(failed)? == 1;
        let owned = int(&row, "owned").map_err(failed)? == 1;
        if !forced || owned {
            let advice = format!(
                "the table {table} is not protected from {QUERY}: as the owner run ALTER TABLE {table} ENABLE ROW \
                 LEVEL SECURITY, FORCE ROW LEVEL SECURITY, and make sure that {QUERY} does not own it"
            );
            return Err(OpenError::unfit(address, advice));
        }
        prove_hidden(connection, address, &table).await?;
    }
    prove_archive_closed(connection, address).await
}

/// Proves that the archive of the log, which holds the records of all tenants and has no policy, is not for queries.
async fn prove_archive_closed(connection: &mut AnyConnection, address: &str) -> Result<(), OpenError> {
    let readable = Statement::new(ARCHIVE_READABLE).rows(connection).await;
    let readable = readable.map_err(|error| OpenError::unreachable(address, error))?;
    if readable.is_empty() {
        return Ok(());
    }
    let advice = format!(
        "{QUERY} may read event_archive, which holds the records of all tenants: as the owner run REVOKE ALL ON \
         event_archive FROM {QUERY}, PUBLIC"
    );
    Err(OpenError::unfit(address, advice))
}

/// Proves that a table shows no row while no tenant is named.
async fn prove_hidden(connection: &mut AnyConnection, address: &str, table: &str) -> Result<(), OpenError> {
    let select = Statement::new(format!("SELECT 1::bigint AS seen FROM \"{table}\" LIMIT 1"));
    let seen = select.rows(connection).await.map_err(|error| {
        if denied(&error) {
            let advice =
                format!("{QUERY} may not read {table}: as the owner run GRANT SELECT ON {table} TO {QUERY}");
            return OpenError::unfit(address, advice);
        }
        OpenError::unreachable(address, error)
    })?;
    if seen.is_empty() {
        return Ok(());
    }
    let advice = format!(
        "rows of {table} are seen although no tenant was named; its policies were changed, restore those that \
         tidings_isolate('{table}') makes"
    );
    Err(OpenError::unfit(address, advice))
}

/// What a failure to act as the role of queries means.
fn refused(address: &str, error: sqlx::Error) -> OpenError {
    if denied(&error) {
        let advice = format!(
            "the login may not act as {QUERY} ({error}); log in as {PROJECTOR} or {QUERY}, or as a role that was \
             granted them: GRANT {PROJECTOR}, {QUERY} TO <login>"
        );
        return OpenError::unfit(address, advice);
    }
    OpenError::unreachable(address, error)
}

/// Host and database, without user or password.
fn address(options: &AnyConnectOptions) -> String {
    let url = &options.database_url;
    let host = url.host_str().unwrap_or("localhost");
    format!("postgres://{host}:{}{}", url.port().unwrap_or(5432), url.path())
}
