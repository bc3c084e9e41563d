//! Where everything comes from: each record of each log says who asked, in which request, what it belongs to and what led
//! to it.

use std::time::Duration;

use anyhow::{Context, ensure};
use broker::layout::Log;
use domain::{Actor, Commit, DeliveryFact, DeliveryRecord, Message, Meta};
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::receiver::Receiver;
use tests::service::Tidings;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const PATIENCE: Duration = Duration::from_secs(30);

/// A call that says what it belongs to.
async fn traced(api: &Api, request: &str, path: &str, body: &Value) -> anyhow::Result<Reply> {
    let headers = [
        ("x-request-id", request),
        ("correlation-id", "order-7"),
        ("traceparent", TRACE),
    ];
    api.call(Method::POST, path, Some(body), &headers).await
}

/// Waits for an event to be delivered.
async fn delivered(api: &Api, event: &str) -> anyhow::Result<String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let path = format!("/v1/deliveries?event={event}&status=delivered");
        let found = api.get(&path).await?.expect(200)?;
        if let Some(id) = found["data"][0]["id"].as_str() {
            return Ok(id.to_owned());
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "{event} was not delivered"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Fails unless the record names its request, and what was sent along with it.
fn says(meta: &Meta, request: &str) -> anyhow::Result<()> {
    ensure!(meta.request_id.as_deref() == Some(request), "{meta:?}");
    ensure!(meta.correlation_id.as_deref() == Some("order-7"), "{meta:?}");
    ensure!(meta.traceparent.as_deref() == Some(TRACE), "{meta:?}");
    Ok(())
}

async fn commits(service: &mut Tidings) -> anyhow::Result<Vec<Commit>> {
    let mut commits = Vec::new();
    for record in service.events().await? {
        let subject = record.subject.as_str();
        if subject.starts_with("uq.") {
            continue;
        }
        let commit = Commit::decode(&record.payload)?;
        let meta = &commit.meta;
        ensure!(
            meta.request_id.is_some() && meta.correlation_id.is_some() && !meta.command_id.is_empty(),
            "{subject} does not say where it comes from: {meta:?}"
        );
        commits.push(commit);
    }
    Ok(commits)
}

for_each_engine! {
    /// Every record of every log, read through the broker's port.
    async fn every_record_says_where_it_comes_from(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let receiver = Receiver::start().await?;
        let new = json!({ "name": "Acme", "slug": "acme" });
        let made = traced(&service.admin()?, "req-tenant", "/v1/tenants", &new).await?.expect(201)?;
        let api = service.tenant(made["api_key"].as_str().context("api_key")?)?;
        let endpoint = json!({ "url": receiver.url("/"), "event_types": ["*"] });
        traced(&api, "req-endpoint", "/v1/endpoints", &endpoint).await?.expect(201)?;
        let ada = json!({ "email": "ada@example.org", "name": "Ada" });
        let registered = traced(&api, "req-user", "/v1/users", &ada).await?;
        let event = json!({ "type": "a.b", "data": {} });
        let published = traced(&api, "req-event", "/v1/events", &event).await?;
        let event = published.expect(202)?["id"].as_str().context("id")?.to_owned();
        let delivery = delivered(&api, &event).await?;
        traced(&api, "req-again", &format!("/v1/deliveries/{delivery}/resend"), &json!({})).await?;
        // That a delivery is known does not say that its event is: they are two read models.
        let (path, at_least) = (format!("/v1/events/{event}"), [("tidings-at-least", published.header("tidings-position"))]);
        let shown = api.call(Method::GET, &path, None, &at_least).await?.expect(200)?;
        assert_eq!((&shown["correlation_id"], &shown["request_id"]), (&json!("order-7"), &json!("req-event")));
        let position = registered.header("tidings-position");
        let at_least = [("tidings-at-least", position)];
        let audit = api.call(Method::GET, "/v1/audit?action=user.registered", None, &at_least);
        let audit = audit.await?.expect(200)?;
        assert_eq!(audit["data"][0]["correlation_id"], "order-7");
        assert_eq!(audit["data"][0]["traceparent"], TRACE);
        ensure!(audit["data"][0]["command_id"].is_string(), "{audit}");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while receiver.received().len() < 2 {
            ensure!(tokio::time::Instant::now() < deadline, "it was not sent again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        service.terminate().await?;

        let commits = commits(&mut service).await?;
        let of = |command: &str| commits.iter().find(|commit| commit.meta.command == command).context("a command");
        let (key, tenant) = (of("IssueApiKey")?, of("ProvisionTenant")?);
        says(&key.meta, "req-tenant")?;
        says(&tenant.meta, "req-tenant")?;
        assert_eq!(key.meta.causation_id, None, "a request's first command has no cause in the log");
        ensure!(tenant.meta.causation_id.is_some(), "a request's later command names its first");
        ensure!(commits.iter().any(|commit| Some(&commit.meta.command_id) == tenant.meta.causation_id.as_ref()));
        says(&of("RegisterUser")?.meta, "req-user")?;
        let again = commits.iter().find(|commit| commit.meta.request_id.as_deref() == Some("req-again"));
        let again = again.context("the resend")?;
        for record in service.records(Log::Messages(0)).await? {
            let message = Message::decode(&record.payload)?;
            ensure!(matches!(message.actor, Actor::ApiKey(_)), "{message:?}");
            assert_eq!(message.request_id.as_deref(), Some("req-event"));
            assert_eq!(message.correlation_id.as_deref(), Some("order-7"));
            assert_eq!(message.traceparent.as_deref(), Some(TRACE));
        }
        let records = service.records(Log::Attempts).await?;
        ensure!(records.len() >= 4, "created, attempted, redriven, attempted: {}", records.len());
        for record in records {
            let record = DeliveryRecord::decode(&record.payload)?;
            let trigger = record.trigger.clone().context("a fact does not say where it comes from")?;
            assert_eq!(trigger.correlation_id.as_deref(), Some("order-7"));
            assert_eq!(trigger.traceparent.as_deref(), Some(TRACE));
            let (request, cause) = if record.run == 1 {
                ("req-event", &event)
            } else {
                ("req-again", &again.meta.command_id)
            };
            assert_eq!((trigger.request_id.as_deref(), &trigger.causation_id), (Some(request), cause));
            ensure!(record.run > 1 || record.fact != DeliveryFact::Redriven);
        }
        Ok(())
    }

    /// Without a header of its own, what belongs together is what came with one request; a trace that is not valid is
    /// none.
    async fn what_is_not_said_is_not_made_up(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let made = service.admin()?.post("/v1/tenants", &json!({ "name": "Acme", "slug": "acme" })).await?;
        let made = made.expect(201)?;
        let api = service.tenant(made["api_key"].as_str().context("api_key")?)?;
        let zeros = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let headers = [("x-request-id", "req-1"), ("traceparent", zeros), ("correlation-id", "not valid")];
        let ada = json!({ "email": "ada@example.org", "name": "Ada" });
        let reply = api.call(Method::POST, "/v1/users", Some(&ada), &headers).await?;
        let position = reply.header("tidings-position");
        let at_least = [("tidings-at-least", position)];
        let audit = api.call(Method::GET, "/v1/audit?action=user.registered", None, &at_least);
        let audit = audit.await?.expect(200)?;
        let row = &audit["data"][0];
        assert_eq!((&row["correlation_id"], &row["traceparent"]), (&json!("req-1"), &Value::Null));
        Ok(())
    }
}
