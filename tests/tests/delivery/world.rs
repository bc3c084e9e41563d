//! What the tests of delivery share: a tenant, its endpoints, and waiting for what comes a moment later.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};
use tests::http::{Api, Reply};
use tests::receiver::{Received, Receiver};
use tests::service::{Engine, Tidings};
use tokio::time::Instant;

/// How long a test waits for what must come: longer than the lease of a job that a killed process held, which is half a
/// minute and two seconds on the cluster engine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// An installation with one tenant, and a receiver.
pub(crate) struct World {
    pub(crate) service: Tidings,
    /// The tenant's client.
    pub(crate) api: Api,
    pub(crate) receiver: Receiver,
    key: String,
}

impl World {
    /// A new one.
    pub(crate) async fn start(engine: Engine) -> anyhow::Result<Self> {
        Self::start_with(engine, &[]).await
    }

    /// A new one, with these settings.
    pub(crate) async fn start_with(engine: Engine, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        let service = Tidings::start_with(engine, env).await?;
        let new = json!({ "name": "acme", "slug": "acme" });
        let tenant = service.admin()?.post("/v1/tenants", &new).await?.expect(201)?;
        let key = text(&tenant, "api_key")?.to_owned();
        let api = service.tenant(&key)?;
        let receiver = Receiver::start().await?;
        Ok(Self {
            service,
            api,
            receiver,
            key,
        })
    }

    /// Starts the service again on its data; its address is another one then.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.service.restart().await?;
        self.api = self.service.tenant(&self.key)?;
        Ok(())
    }

    /// A client of another tenant, which is made.
    pub(crate) async fn another_tenant(&self, slug: &str) -> anyhow::Result<Api> {
        let new = json!({ "name": slug, "slug": slug });
        let tenant = self
            .service
            .admin()?
            .post("/v1/tenants", &new)
            .await?
            .expect(201)?;
        self.service.tenant(text(&tenant, "api_key")?)
    }

    /// Creates an endpoint for everything at a path of the receiver, with a policy.
    pub(crate) async fn endpoint(&self, path: &str, policy: &Value) -> anyhow::Result<Endpoint> {
        let mut new = json!({ "url": self.receiver.url(path), "event_types": ["*"] });
        merge(&mut new, policy);
        let created = self.api.post("/v1/endpoints", &new).await?;
        let made = created.expect(201)?;
        Ok(Endpoint {
            path: format!("/v1/endpoints/{}", text(&made, "id")?),
            id: text(&made, "id")?.to_owned(),
            secret: made["secret"].as_str().unwrap_or_default().to_owned(),
            created,
        })
    }

    /// Publishes an event; answers its id.
    pub(crate) async fn publish(&self, event_type: &str, data: &Value) -> anyhow::Result<String> {
        let event = json!({ "type": event_type, "data": data });
        let published = self.api.post("/v1/events", &event).await?.expect(202)?;
        Ok(text(&published, "id")?.to_owned())
    }

    /// The first webhook of an event.
    pub(crate) async fn webhook(&self, event: &str) -> anyhow::Result<Received> {
        let of_event = |webhook: &&Received| webhook.webhook_id() == event;
        let came = |all: &[Received]| all.iter().any(|webhook| of_event(&webhook));
        let all = self.receiver.wait_until(PATIENCE, came).await?;
        all.iter().find(of_event).cloned().context("the webhook")
    }

    /// The attempts of an event's only delivery, once that has a status.
    pub(crate) async fn attempts(&self, event: &str, status: &str) -> anyhow::Result<Vec<Value>> {
        let path = format!("/v1/deliveries?event={event}&status={status}");
        let list = until(&self.api, &path, |list| list["data"][0].is_object()).await?;
        let path = format!("/v1/deliveries/{}/attempts", text(&list["data"][0], "id")?);
        let attempts = self.api.get(&path).await?.expect(200)?;
        attempts["data"].as_array().cloned().context("data")
    }
}

/// An endpoint that was created.
pub(crate) struct Endpoint {
    /// Its address in the API.
    pub(crate) path: String,
    pub(crate) id: String,
    /// What its webhooks are signed with; empty where that is a key of its own.
    pub(crate) secret: String,
    /// The answer that told of it.
    pub(crate) created: Reply,
}

/// Puts the members of an object over those of another.
fn merge(into: &mut Value, over: &Value) {
    if let (Some(into), Some(over)) = (into.as_object_mut(), over.as_object()) {
        into.extend(over.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}

/// A text in a body.
pub(crate) fn text<'a>(body: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    body[field]
        .as_str()
        .with_context(|| format!("{field} is missing in {body}"))
}

/// Changes something; the answer must be 204.
pub(crate) async fn patch(api: &Api, path: &str, change: &Value) -> anyhow::Result<Reply> {
    let reply = api.call(Method::PATCH, path, Some(change), &[]).await?;
    anyhow::ensure!(
        reply.status == 204,
        "{change}: {}",
        String::from_utf8_lossy(&reply.body)
    );
    Ok(reply)
}

/// A query that has seen an earlier answer's position.
pub(crate) async fn get_after(api: &Api, path: &str, earlier: &Reply) -> anyhow::Result<Value> {
    let position = earlier.header("tidings-position");
    anyhow::ensure!(!position.is_empty(), "the earlier answer has no position");
    api.call(Method::GET, path, None, &[("tidings-at-least", position)])
        .await?
        .expect(200)
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
