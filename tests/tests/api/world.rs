//! What the tests of the API share: tenants, and waiting for what comes a moment later.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};
use tests::http::{Api, Reply};
use tests::service::Tidings;
use tokio::time::Instant;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Provisions a tenant and answers calls with its key.
pub(crate) async fn tenant(service: &Tidings, slug: &str) -> anyhow::Result<Api> {
    let reply = service
        .admin()?
        .post("/v1/tenants", &json!({ "name": slug, "slug": slug }))
        .await?;
    let body = reply.expect(201)?;
    service.tenant(text(&body, "api_key")?)
}

/// A text in a body.
pub(crate) fn text<'a>(body: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    body[field]
        .as_str()
        .with_context(|| format!("{field} is missing in {body}"))
}

/// A query that has seen an earlier answer's position.
pub(crate) async fn get_after(api: &Api, path: &str, earlier: &Reply) -> anyhow::Result<Reply> {
    let position = earlier.header("tidings-position");
    anyhow::ensure!(!position.is_empty(), "the earlier answer has no position");
    api.call(Method::GET, path, None, &[("tidings-at-least", position)])
        .await
}

/// The first answer of a query that fulfils a condition.
pub(crate) async fn until(
    api: &Api,
    path: &str,
    condition: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let body = api.get(path).await?.expect(200)?;
        if condition(&body) {
            return Ok(body);
        }
        if Instant::now() > deadline {
            bail!("{path} did not become as expected; last: {body}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
