//! What the tests of the audit trail share.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tests::http::Api;
use tests::service::Tidings;
use tokio::time::Instant;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Provisions a tenant; answers its id, and calls with its key.
pub(crate) async fn tenant(service: &Tidings, slug: &str) -> anyhow::Result<(String, Api)> {
    let reply = service
        .admin()?
        .post("/v1/tenants", &json!({ "name": slug, "slug": slug }))
        .await?;
    let body = reply.expect(201)?;
    Ok((
        text(&body, "id")?.to_owned(),
        service.tenant(text(&body, "api_key")?)?,
    ))
}

/// A text in a body.
pub(crate) fn text<'a>(body: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    body[field]
        .as_str()
        .with_context(|| format!("{field} is missing in {body}"))
}

/// The rows of a query of the trail, once there are at least so many.
pub(crate) async fn entries(api: &Api, query: &str, at_least: usize) -> anyhow::Result<Vec<Value>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let body = api.get(&format!("/v1/audit?{query}")).await?.expect(200)?;
        let rows = body["data"].as_array().context("data")?;
        if rows.len() >= at_least {
            return Ok(rows.clone());
        }
        if Instant::now() > deadline {
            bail!("{query}: {} of {at_least} entries came: {body}", rows.len());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
