//! The whole path through the real binary: a command becomes an event, a read model and a signed webhook.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::http::{Api, Reply};
use tests::receiver::{Answer, Receiver};
use tests::sample::github_events;
use tests::service::Tidings;

const SOON: Duration = Duration::from_secs(30);

/// A tenant's client.
async fn provision(service: &Tidings, slug: &str) -> anyhow::Result<Api> {
    let body = json!({ "name": slug, "slug": slug });
    let tenant = service.admin()?.post("/v1/tenants", &body).await?.expect(201)?;
    ensure!(tenant["slug"] == slug, "{tenant}");
    service.tenant(tenant["api_key"].as_str().context("api_key")?)
}

/// An endpoint's id and secret.
async fn subscribe(client: &Api, url: &str, event_types: &[&str]) -> anyhow::Result<(String, String)> {
    let body = json!({ "url": url, "event_types": event_types });
    let endpoint = client.post("/v1/endpoints", &body).await?.expect(201)?;
    let text = |field: &str| {
        endpoint[field]
            .as_str()
            .map(str::to_owned)
            .context(field.to_owned())
    };
    Ok((text("id")?, text("secret")?))
}

/// Asks again until the answer is as wanted.
async fn eventually(client: &Api, path: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = client.get(path).await?.expect(200)?;
        if wanted(&answer) {
            return Ok(answer);
        }
        ensure!(Instant::now() < deadline, "{path} still answers {answer}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

async fn read_at_least(client: &Api, path: &str, after: &Reply) -> anyhow::Result<Value> {
    let position = after.header("tidings-position");
    ensure!(!position.is_empty(), "a write without Tidings-Position");
    let headers = [("tidings-at-least", position)];
    client
        .call(reqwest::Method::GET, path, None, &headers)
        .await?
        .expect(200)
}

tests::for_each_engine! {
    /// Real GitHub events reach the receiver, to the byte of their data, and both libraries verify them.
    async fn real_events_become_verified_webhooks(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let receiver = Receiver::start().await?;
        let client = provision(&service, "acme").await?;
        let (endpoint, secret) = subscribe(&client, &receiver.url("/hook"), &["*"]).await?;
        let events = github_events()?;
        let mut published = BTreeMap::new();
        for (event_type, data) in &events {
            let body = json!({ "type": event_type, "data": data });
            let accepted = client.post("/v1/events", &body).await?.expect(202)?;
            let id = accepted["id"].as_str().context("id")?.to_owned();
            published.insert(id, (event_type, data));
        }
        let received = receiver.wait_for(events.len(), SOON).await?;
        for (number, webhook) in received.iter().enumerate() {
            webhook.verify(&secret)?;
            if number % 40 == 0 {
                webhook.verify_with_python(&secret).await?;
            }
            let (event_type, data) = published.get(webhook.webhook_id()).context("an id nobody published")?;
            let body = webhook.json()?;
            ensure!(body["type"] == **event_type && &body["data"] == *data, "{body}");
        }
        let ids: BTreeSet<_> = received.iter().map(|webhook| webhook.webhook_id().to_owned()).collect();
        ensure!(ids.len() == events.len(), "some events came twice on a healthy system");

        // Messages and deliveries are folded from different logs, each at its own pace.
        let all = json!(events.len());
        eventually(&client, "/v1/stats", |stats| {
            stats["events_by_status"]["delivered"] == all
                && stats["total_events"] == all
                && stats["events_last_24h"] == all
        })
        .await?;
        let path = format!("/v1/deliveries?endpoint={endpoint}&status=delivered&limit=200");
        let deliveries = client.get(&path).await?.expect(200)?;
        ensure!(deliveries["data"].as_array().is_some_and(|rows| rows.len() == events.len()), "{deliveries}");
        Ok(())
    }

    /// Every write answers a position, and a query that carries it shows the write.
    async fn a_write_can_be_read_at_once(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let client = provision(&service, "acme").await?;
        for number in 0..20_usize {
            let body = json!({ "email": format!("user{number}@example.org"), "name": "User" });
            let written = client.post("/v1/users", &body).await?;
            let id = written.expect(201)?["id"].as_str().context("id")?.to_owned();
            let user = read_at_least(&client, &format!("/v1/users/{id}"), &written).await?;
            ensure!(user["email"] == format!("user{number}@example.org"), "{user}");
            let trail = "/v1/audit?action=user.registered&limit=200";
            let audit = read_at_least(&client, trail, &written).await?;
            ensure!(audit["data"].as_array().is_some_and(|rows| rows.len() == number + 1), "{audit}");
        }
        Ok(())
    }

    /// Backoff, the last attempt, the dead letter, its redrive: one `webhook-id` all along.
    async fn a_failing_receiver_leads_to_a_dead_letter_that_can_be_redriven(engine: Engine) {
        let service = Tidings::start_with(engine, &[("TIDINGS_RETRY_SCHEDULE", "100ms,100ms")]).await?;
        let receiver = Receiver::start().await?;
        let client = provision(&service, "acme").await?;
        let (endpoint, secret) = subscribe(&client, &receiver.url("/hook"), &["github.*"]).await?;
        receiver.script("/hook", [Answer::Status(500), Answer::Redirect(receiver.url("/other")), Answer::Status(503)]);
        let (event_type, data) = &github_events()?[0];
        let body = json!({ "type": event_type, "data": data });
        let id = client.post("/v1/events", &body).await?.expect(202)?["id"].clone();

        let dead = eventually(&client, "/v1/dead-letters", |list| list["data"][0]["event"] == id).await?;
        let delivery = dead["data"][0]["id"].as_str().context("id")?.to_owned();
        let attempts = client.get(&format!("/v1/deliveries/{delivery}/attempts")).await?.expect(200)?;
        let statuses: Vec<_> = attempts["data"].as_array().context("data")?.iter().map(|row| row["status"].clone()).collect();
        ensure!(statuses.len() == 3 && statuses.contains(&json!(302)), "{attempts}");
        ensure!(receiver.received().iter().all(|webhook| webhook.path == "/hook"), "a redirect was followed");
        let stats = client.get("/v1/stats").await?.expect(200)?;
        ensure!(stats["events_by_status"]["dead"] == 1, "{stats}");

        receiver.script("/hook", [Answer::Status(204)]);
        let redriven = client.post("/v1/dead-letters/redrive", &json!({ "ids": [delivery] })).await?;
        redriven.expect(202)?;
        let path = format!("/v1/deliveries/{delivery}");
        eventually(&client, &path, |row| row["status"] == "delivered").await?;
        let received = receiver.wait_for(4, SOON).await?;
        for webhook in &received {
            webhook.verify(&secret)?;
            ensure!(webhook.webhook_id() == id, "webhook-id changed to {}", webhook.webhook_id());
        }
        let dead = client.get("/v1/dead-letters").await?.expect(200)?;
        ensure!(dead["data"] == json!([]), "{dead}");
        let path = format!("/v1/audit?action=endpoint.redrive_requested&resource={endpoint}");
        let audit = read_at_least(&client, &path, &redriven).await?;
        ensure!(audit["data"].as_array().is_some_and(|rows| rows.len() == 1), "{audit}");
        Ok(())
    }

    /// Two tenants on one installation see nothing of each other.
    async fn tenants_are_apart(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let receiver = Receiver::start().await?;
        let (ours, theirs) = (provision(&service, "ours").await?, provision(&service, "theirs").await?);
        subscribe(&theirs, &receiver.url("/theirs"), &["*"]).await?;
        subscribe(&ours, &receiver.url("/ours"), &["*"]).await?;
        let event = ours.post("/v1/events", &json!({ "type": "invoice.paid", "data": { "amount": 12 } })).await?;
        let user = ours.post("/v1/users", &json!({ "email": "ada@example.org", "name": "Ada" })).await?;
        let received = receiver.wait_for(1, SOON).await?;
        eventually(&ours, "/v1/stats", |stats| stats["events_by_status"]["delivered"] == 1).await?;
        ensure!(received[0].path == "/ours" && receiver.received().len() == 1);
        for (kind, written) in [("events", &event), ("users", &user)] {
            let id = written.json()?["id"].as_str().context("id")?.to_owned();
            let path = format!("/v1/{kind}/{id}");
            read_at_least(&ours, &path, written).await?;
            ensure!(theirs.get(&path).await?.problem(404)? == "not_found");
        }
        for path in ["/v1/events", "/v1/users", "/v1/deliveries"] {
            let list = theirs.get(path).await?.expect(200)?;
            ensure!(list["data"] == json!([]), "{path} of another tenant: {list}");
        }
        Ok(())
    }
}
