//! What the tests of files share: tenants, files to send, and reports to read.

use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tests::http::{Api, Reply};
use tests::service::Tidings;

/// How long a file may take.
const PATIENCE: Duration = Duration::from_mins(5);

/// Provisions a tenant and answers calls with its key.
pub(crate) async fn tenant(service: &Tidings, slug: &str) -> anyhow::Result<Api> {
    let body = json!({ "name": slug, "slug": slug });
    let made = service.admin()?.post("/v1/tenants", &body).await?.expect(201)?;
    service.tenant(made["api_key"].as_str().context("api_key")?)
}

/// Sends a file and answers the reply as it is.
pub(crate) async fn send(
    api: &Api,
    query: &str,
    media_type: &str,
    file: impl Into<Body>,
    headers: &[(&str, &str)],
) -> anyhow::Result<Reply> {
    let path = format!("/v1/users/import{query}");
    let mut request = api
        .request(Method::POST, &path)
        .header("content-type", media_type)
        .timeout(PATIENCE)
        .body(file);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Reply::of(request).await
}

/// The report of an import: the rows that were refused, and the last line.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) refused: Vec<Value>,
    pub(crate) last: Value,
}

impl Report {
    /// Of a reply that must be a report.
    pub(crate) fn read(reply: &Reply) -> anyhow::Result<Self> {
        let text = String::from_utf8(reply.body.to_vec())?;
        ensure!(reply.status == 200, "{}: {text}", reply.status);
        ensure!(reply.header("content-type") == "application/jsonl");
        let mut lines = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<Value>, _>>()?;
        let last = lines.pop().context("a report without lines")?;
        lines.retain(|line| line.get("progress").is_none());
        Ok(Self { refused: lines, last })
    }

    /// Rows, registered, refused, unchanged.
    pub(crate) fn counts(&self) -> [u64; 4] {
        ["rows", "registered", "refused", "unchanged"]
            .map(|name| self.last[name].as_u64().unwrap_or(u64::MAX))
    }

    /// The row's number and its problem's code, for every refused row.
    pub(crate) fn codes(&self) -> Vec<(u64, &str)> {
        let code = |row: &'_ Value| row["row"].as_u64().unwrap_or_default();
        let rows = self.refused.iter();
        rows.map(|row| (code(row), row["code"].as_str().unwrap_or_default()))
            .collect()
    }
}

/// Imports a file.
pub(crate) async fn import(
    api: &Api,
    query: &str,
    media_type: &str,
    file: impl Into<Body>,
) -> anyhow::Result<Report> {
    Report::read(&send(api, query, media_type, file, &[]).await?)
}

/// The export, after everything an import has registered.
pub(crate) async fn export(api: &Api, format: &str, report: &Report) -> anyhow::Result<String> {
    let path = format!("/v1/users/export?format={format}");
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let mut request = api.request(Method::GET, &path).timeout(PATIENCE);
        if let Some(position) = report.last["position"].as_str() {
            request = request.header("tidings-at-least", position);
        }
        let reply = Reply::of(request).await?;
        // The read model may be further behind a long import than a query waits: its answer says to send it again.
        if reply.status == 412 && std::time::Instant::now() < deadline {
            continue;
        }
        let text = String::from_utf8(reply.body.to_vec())?;
        ensure!(reply.status == 200, "{}: {text}", reply.status);
        return Ok(text);
    }
}

/// Waits for an answer that fulfils a condition.
pub(crate) async fn until(api: &Api, path: &str, condition: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition(&api.get(path).await?.expect(200)?) {
        ensure!(std::time::Instant::now() < deadline, "{path} did not become so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
