//! What the tests of idempotency share: keyed calls, and what two answers must have in common.

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::http::{Api, Reply};
use tests::service::Tidings;

/// A call under a key.
pub(crate) async fn keyed(
    api: &Api,
    key: &str,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Reply> {
    api.call(method, path, body, &[("idempotency-key", key)]).await
}

/// A POST under a key.
pub(crate) async fn post(api: &Api, key: &str, path: &str, body: &Value) -> anyhow::Result<Reply> {
    keyed(api, key, Method::POST, path, Some(body)).await
}

/// Fails unless both are the same answer.
pub(crate) fn same(first: &Reply, again: &Reply) -> anyhow::Result<()> {
    let text = |reply: &Reply| String::from_utf8_lossy(&reply.body).into_owned();
    ensure!(
        first.status == again.status && first.body == again.body,
        "{} {}\nwas answered again as\n{} {}",
        first.status,
        text(first),
        again.status,
        text(again)
    );
    for name in ["tidings-position", "content-type"] {
        let (before, after) = (first.header(name), again.header(name));
        ensure!(before == after, "{name}: {before:?} became {after:?}");
    }
    Ok(())
}

/// Provisions a tenant and answers its key.
pub(crate) async fn tenant(service: &Tidings, slug: &str) -> anyhow::Result<String> {
    let body = json!({ "name": slug, "slug": slug });
    let made = service.admin()?.post("/v1/tenants", &body).await?.expect(201)?;
    Ok(made["api_key"].as_str().context("api_key")?.to_owned())
}
