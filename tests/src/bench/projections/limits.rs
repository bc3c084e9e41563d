//! What a replay cannot be faster than: reading the log, and writing its rows, each without any code of ours.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::jetstream;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use crate::postgres::Postgres;

/// Reads a stream once through a plain ordered consumer; answers how many records it has and how long that took.
pub(super) async fn read(url: &str, stream: &str) -> anyhow::Result<(u64, Duration)> {
    let client = async_nats::connect(url).await.context("the NATS server")?;
    let mut stream = jetstream::new(client).get_stream(stream).await?;
    let end = stream.info().await?.state.last_sequence;
    let began = Instant::now();
    let consumer = stream.create_consumer(OrderedConfig::default()).await?;
    let mut messages = consumer.messages().await?.take(usize::try_from(end)?);
    let mut records = 0;
    while let Some(message) = messages.try_next().await? {
        std::hint::black_box(message.payload.len());
        records += 1;
    }
    ensure!(records == end, "{records} of {end} records came");
    Ok((records, began.elapsed()))
}

/// What writing rows natively took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    pub(super) rows: u64,
    pub(super) copy: Duration,
    pub(super) index: Duration,
}

/// Writes the rows of a projection's live table once more, with COPY from a file of the server's own into a table without an index, and
/// then makes the indexes the table has: the server alone does all of it.
///
/// The table has the projection's name.
pub(super) async fn copy(server: &Postgres, database: &str, table: &str) -> anyhow::Result<Copied> {
    let mut connection = PgConnection::connect(&server.url_for("postgres", database)).await?;
    let live = "SELECT generation FROM checkpoints WHERE projection = $1 AND status = 'live' LIMIT 1";
    let generation: i64 = sqlx::query_scalar(live)
        .bind(table)
        .fetch_one(&mut connection)
        .await?;
    let table = &match generation {
        0 => table.to_owned(),
        generation => format!("{table}_g{generation}"),
    };
    let file = server.data().join("rows.copy");
    let file = file.display();
    run(
        &mut connection,
        &format!("COPY {table} TO '{file}' (FORMAT binary)"),
    )
    .await?;
    let indexes = "SELECT indexdef FROM pg_indexes WHERE tablename = $1 ORDER BY indexname";
    let rows = sqlx::query(indexes)
        .bind(table)
        .fetch_all(&mut connection)
        .await?;
    let mut definitions = Vec::new();
    for row in rows {
        let definition: String = row.try_get(0)?;
        let (head, columns) = definition.split_once(" USING ").context("an index")?;
        let unique = if head.contains("UNIQUE") { "UNIQUE " } else { "" };
        definitions.push(format!("CREATE {unique}INDEX ON raw_copy USING {columns}"));
    }
    run(&mut connection, "DROP TABLE IF EXISTS raw_copy").await?;
    run(&mut connection, &format!("CREATE TABLE raw_copy (LIKE {table})")).await?;
    run(&mut connection, "CHECKPOINT").await?;
    let began = Instant::now();
    let rows = run(
        &mut connection,
        &format!("COPY raw_copy FROM '{file}' (FORMAT binary)"),
    )
    .await?;
    let copy = began.elapsed();
    for definition in &definitions {
        run(&mut connection, definition).await?;
    }
    let index = began.elapsed().saturating_sub(copy);
    run(&mut connection, "DROP TABLE raw_copy").await?;
    connection.close().await?;
    Ok(Copied { rows, copy, index })
}

async fn run(connection: &mut PgConnection, sql: &str) -> anyhow::Result<u64> {
    let done = sqlx::query(AssertSqlSafe(sql)).execute(connection).await;
    Ok(done.with_context(|| sql.to_owned())?.rows_affected())
}
