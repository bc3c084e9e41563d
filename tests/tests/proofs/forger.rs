//! Somebody with all rights on the servers, who rewrites the log and the read database under the running service.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tests::processes;
use tests::service::Tidings;
use tlog_tiles::{Hash, node_hash};

use crate::outsider;

/// How often the service is stopped until it is not in the middle of writing.
const TRIES: usize = 100;

/// Puts other bytes in the place of a record of the log of events, and of what its archive has of it, with which the
/// service compares the log. It stands still meanwhile: it would find the one without the other.
pub(crate) async fn rewrite_log(service: &mut Tidings, sequence: u64, payload: &[u8]) -> anyhow::Result<()> {
    for _ in 0..TRIES {
        service.signal("STOP")?;
        processes::stopped(service.pid()).await?;
        let done = rewrite(service, sequence, payload).await;
        service.signal("CONT")?;
        match done {
            Err(error) if format!("{error:#}").contains("locked") => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            done => return done,
        }
    }
    bail!("the service was always in the middle of writing")
}

async fn rewrite(service: &mut Tidings, sequence: u64, payload: &[u8]) -> anyhow::Result<()> {
    let Some(nats) = service.nats() else {
        return rewrite_files(service, sequence, payload).await;
    };
    let url = nats.url();
    let database = service.database().context("a database")?;
    let mut archive = PgConnection::connect(&database.url).await?;
    // The archive denies changes to all but those who need not heed triggers.
    sqlx::raw_sql("SET session_replication_role = replica")
        .execute(&mut archive)
        .await?;
    let changed = sqlx::query("UPDATE event_archive SET payload = $1 WHERE shard = 0 AND sequence = $2")
        .bind(payload)
        .bind(i64::try_from(sequence)?)
        .execute(&mut archive)
        .await?;
    ensure!(changed.rows_affected() == 1, "the archive has no such record");
    rewrite_stream(&url, sequence, payload).await
}

async fn rewrite_files(service: &Tidings, sequence: u64, payload: &[u8]) -> anyhow::Result<()> {
    let (mut log, mut archive) = (
        sqlite(service, "log.db").await?,
        sqlite(service, "read.db").await?,
    );
    // Both or neither.
    for database in [&mut log, &mut archive] {
        sqlx::raw_sql("PRAGMA busy_timeout = 0; BEGIN IMMEDIATE")
            .execute(database)
            .await?;
    }
    let trigger: String =
        sqlx::query_scalar("SELECT sql FROM sqlite_master WHERE name = 'records_are_never_changed'")
            .fetch_one(&mut log)
            .await?;
    sqlx::raw_sql("DROP TRIGGER records_are_never_changed")
        .execute(&mut log)
        .await?;
    let records = "UPDATE records SET payload = ?
                   WHERE place = (SELECT number << 45 FROM logs WHERE name = 'EVENTS-0') + ?";
    let rows = "UPDATE event_archive SET payload = ? WHERE shard = 0 AND sequence = ?";
    for (database, sql) in [(&mut log, records), (&mut archive, rows)] {
        let changed = sqlx::query(sql)
            .bind(payload)
            .bind(i64::try_from(sequence)?)
            .execute(database)
            .await?;
        ensure!(changed.rows_affected() == 1, "no such record");
    }
    sqlx::raw_sql(AssertSqlSafe(trigger)).execute(&mut log).await?;
    for database in [&mut log, &mut archive] {
        sqlx::raw_sql("COMMIT").execute(database).await?;
    }
    Ok(())
}

/// A stream denies changes, so it is deleted and made again with one record different.
async fn rewrite_stream(url: &str, sequence: u64, payload: &[u8]) -> anyhow::Result<()> {
    let context = jetstream::new(async_nats::connect(url).await?);
    let stream = context.get_stream("TIDINGS_EVENTS-0").await?;
    let info = stream.cached_info().clone();
    let mut records = Vec::new();
    for sequence in 1..=info.state.last_sequence {
        records.push(stream.get_raw_message(sequence).await?);
    }
    context.delete_stream(&info.config.name).await?;
    context.create_stream(info.config).await?;
    for record in records {
        let mut headers = HeaderMap::new();
        if let Some(id) = record.headers.get("Nats-Msg-Id") {
            headers.insert("Nats-Msg-Id", id.clone());
        }
        let bytes = if record.sequence == sequence {
            payload.to_vec().into()
        } else {
            record.payload
        };
        let stored = context
            .publish_with_headers(record.subject, headers, bytes)
            .await?
            .await?;
        ensure!(stored.sequence == record.sequence, "the log would show it");
    }
    Ok(())
}

/// Takes from the read database what it knows of the log itself, by which a stream that was made anew is told.
pub(crate) async fn forget_log(service: &Tidings) -> anyhow::Result<()> {
    if let Some(database) = service.database() {
        let mut connection = PgConnection::connect(&database.url).await?;
        sqlx::raw_sql("DELETE FROM event_log_origins; DELETE FROM event_fences")
            .execute(&mut connection)
            .await?;
    }
    Ok(())
}

/// Makes the rows of a tenant's tree fit these records.
pub(crate) async fn rewrite_tree(service: &Tidings, tenant: &str, lines: &[Value]) -> anyhow::Result<()> {
    let mut statements = Vec::new();
    let mut level: Vec<Hash> = lines.iter().map(outsider::leaf).collect::<Result<_, _>>()?;
    let (size, mut frontier, mut height) = (level.len(), String::new(), 0);
    for (number, hash) in level.iter().enumerate() {
        statements.push(format!(
            "UPDATE tree_leaves SET hash = {{{}}} WHERE tenant = '{tenant}' AND leaf = {number}",
            hex::encode(hash.0)
        ));
    }
    while !level.is_empty() {
        if height > 0 && height % 4 == 0 {
            for (number, hash) in level.iter().enumerate() {
                statements.push(format!(
                    "UPDATE tree_nodes SET hash = {{{}}} WHERE tenant = '{tenant}' AND level = {height} AND number = {number}",
                    hex::encode(hash.0)
                ));
            }
        }
        if size >> height & 1 == 1 {
            let last = level.last().context("a subtree")?;
            frontier = format!("{}{frontier}", hex::encode(last.0));
        }
        level = level
            .chunks_exact(2)
            .map(|pair| node_hash(pair[0], pair[1]))
            .collect();
        height += 1;
    }
    statements.push(format!(
        "UPDATE trees SET frontier = {{{frontier}}} WHERE tenant = '{tenant}' AND size = {size}"
    ));
    if let Some(database) = service.database() {
        let mut connection = PgConnection::connect(&database.url).await?;
        for sql in statements {
            let sql = sql.replace('{', "decode('").replace('}', "', 'hex')");
            let changed = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await?;
            ensure!(
                changed.rows_affected() == 1,
                "{} rows are another tree",
                changed.rows_affected()
            );
        }
    } else {
        let mut connection = sqlite(service, "read.db").await?;
        for sql in statements {
            let sql = sql.replace('{', "x'").replace('}', "'");
            let changed = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await?;
            ensure!(
                changed.rows_affected() == 1,
                "{} rows are another tree",
                changed.rows_affected()
            );
        }
    }
    Ok(())
}

async fn sqlite(service: &Tidings, file: &str) -> anyhow::Result<SqliteConnection> {
    let path = service.data().join(file);
    let url = format!("sqlite://{}", path.to_str().context("path")?);
    Ok(SqliteConnection::connect(&url).await?)
}
