//! Files of any length: what the service needs of memory for one does not grow with it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::StreamExt;
use reqwest::Method;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tests::for_each_engine;
use tests::http::Api;
use tests::service::Tidings;

use crate::world::tenant;

/// Entries of the trail, of more than a kilobyte each.
const ENTRIES: usize = 50_000;
const SMALLEST: usize = 60_000_000;
/// By how much the service may grow meanwhile, in bytes.
const MOST: usize = 48 * 1024 * 1024;

/// Puts entries into the trail that never happened: the file is made of the read model alone.
async fn fill(service: &Tidings, tenant: &str) -> anyhow::Result<()> {
    let text = "Lorem ipsum dolor sit amet, ".repeat(45);
    let insert = format!(
        "INSERT INTO audit (tenant, shard, sequence, version, at, actor, action, command, resource_type, resource_id,
                            outcome, request_id, origin, data, command_id)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ENTRIES})
         SELECT '{tenant}', 0, 1000000 + i, 1, 1700000000000 + i, 'key_1', 'user.registered', 'RegisterUser', 'user',
                'usr_' || i, 'success', 'req-' || i, '192.0.2.7',
                '{{\"email\":\"ada@example.org\",\"name\":\"{text}' || i || '\"}}', 'command-' || i
         FROM n"
    );
    let insert = AssertSqlSafe(insert);
    let done = if let Some(database) = service.database() {
        let mut connection = PgConnection::connect(&database.url).await?;
        sqlx::query(insert)
            .execute(&mut connection)
            .await?
            .rows_affected()
    } else {
        let file: PathBuf = service.data().join("read.db");
        let mut connection =
            SqliteConnection::connect(&format!("sqlite://{}", file.to_str().context("a path")?)).await?;
        sqlx::query(insert)
            .execute(&mut connection)
            .await?
            .rows_affected()
    };
    ensure!(done == ENTRIES as u64, "{done} entries");
    Ok(())
}

/// The lines and bytes of a file, read as they come and forgotten.
async fn read(api: &Api, format: &str) -> anyhow::Result<(usize, usize)> {
    let path = format!("/v1/audit/export?format={format}");
    let request = api.request(Method::GET, &path).timeout(Duration::from_mins(5));
    let response = request.send().await?;
    ensure!(response.status() == 200, "{format}: {}", response.status());
    let (mut lines, mut bytes, mut body) = (0, 0, response.bytes_stream());
    while let Some(part) = body.next().await {
        let part = part?;
        lines += part.split(|byte| *byte == b'\n').count() - 1;
        bytes += part.len();
    }
    Ok((lines, bytes))
}

/// A figure of the service's memory, in bytes.
fn memory(service: &Tidings, name: &str) -> anyhow::Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid()))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kibibytes.context("a figure")?.parse::<usize>()? * 1024)
}

for_each_engine! {
    async fn an_export_needs_no_more_memory_than_a_part_of_it(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (id, api) = tenant(&service, "acme").await?;
        fill(&service, &id).await?;
        for format in ["csv", "jsonl", "ocsf"] {
            // The most it has needed is counted anew from here on (proc(5)).
            std::fs::write(format!("/proc/{}/clear_refs", service.pid()), "5")?;
            let before = memory(&service, "VmRSS")?;
            let (lines, bytes) = read(&api, format).await?;
            ensure!(lines >= ENTRIES && bytes >= SMALLEST, "{format}: {lines} lines, {bytes} bytes");
            let grown = memory(&service, "VmHWM")?.saturating_sub(before);
            ensure!(grown <= MOST, "{format}: {bytes} bytes were sent, and the service grew by {grown}");
        }
        Ok(())
    }
}
