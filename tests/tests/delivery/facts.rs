//! What became of endpoints and deliveries, delivered like any event, and never about itself.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::receiver::{Answer, Received};

use crate::world::{Endpoint, PATIENCE, World, text, until};

/// The facts of a type that came to a path.
fn facts(received: &[Received], path: &str, event_type: &str) -> Vec<Value> {
    let of = received.iter().filter(|webhook| webhook.path == path);
    let bodies = of.filter_map(|webhook| webhook.json().ok());
    bodies.filter(|body| body["type"] == event_type).collect()
}

/// Waits for the first fact of a type, and compares its data with the published schema.
async fn fact(world: &World, event_type: &str) -> anyhow::Result<Value> {
    let came = world
        .receiver
        .wait_until(PATIENCE, |all| !facts(all, "/watch", event_type).is_empty())
        .await
        .with_context(|| event_type.to_owned())?;
    let all = facts(&came, "/watch", event_type);
    let data = all[0]["data"].clone();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../schemas/facts/{event_type}.json"));
    let schema: Value =
        serde_json::from_slice(&std::fs::read(&path).with_context(|| path.display().to_string())?)?;
    let validator = jsonschema::validator_for(&schema)?;
    ensure!(
        validator.is_valid(&data),
        "{event_type}: {data} is not as its schema says"
    );
    Ok(data)
}

async fn watched(world: &World) -> anyhow::Result<(Endpoint, Endpoint)> {
    let watch = world
        .endpoint("/watch", &json!({ "event_types": ["tidings.*"] }))
        .await?;
    let hook = world.endpoint("/hook", &json!({ "event_types": ["*"] })).await?;
    Ok((watch, hook))
}

for_each_engine! {
    /// Every fact comes once, as its schema says, to the endpoint that asks for it, and not to one that asks for `*`.
    async fn facts_come_to_those_who_ask(engine: Engine) {
        let world = World::start_with(engine, &[("TIDINGS_RETRY_SCHEDULE", "20ms")]).await?;
        let (watch, hook) = watched(&world).await?;
        world.receiver.script("/hook", [Answer::Status(500)]);
        let event = world.publish("invoice.paid", &json!(1)).await?;
        let exhausted = fact(&world, "tidings.delivery.exhausted").await?;
        ensure!(exhausted["event"] == event && exhausted["endpoint"] == hook.id, "{exhausted}");
        ensure!(exhausted["attempts"] == 2 && exhausted["status"] == 500 && exhausted["error"] == "status", "{exhausted}");

        let switch = |what: &str| format!("{}/{what}", hook.path);
        let reason = json!({ "reason": "maintenance" });
        ensure!(world.api.post(&switch("disable"), &reason).await?.status == 204);
        let disabled = fact(&world, "tidings.endpoint.disabled").await?;
        ensure!(disabled["endpoint"] == hook.id && disabled["reason"] == "maintenance", "{disabled}");
        ensure!(world.api.post(&switch("enable"), &json!({})).await?.status == 204);
        fact(&world, "tidings.endpoint.enabled").await?;

        world.receiver.script("/hook", [Answer::Status(200)]);
        // The fact is told before the dead letter is seen.
        until(&world.api, "/v1/dead-letters", |list| list["data"][0].is_object()).await?;
        world.api.post("/v1/dead-letters/redrive", &json!({ "all": true })).await?.expect(202)?;
        let recovered = fact(&world, "tidings.delivery.recovered").await?;
        ensure!(recovered["event"] == event && recovered["delivery"] == exhausted["delivery"], "{recovered}");

        let body = json!({ "since": "2020-01-01T00:00:00Z", "only": "all" });
        let asked = world.api.post(&format!("{}/recover", hook.path), &body).await?.expect(202)?;
        let completed = fact(&world, "tidings.recovery.completed").await?;
        ensure!(completed["recovery"] == asked["id"] && completed["enqueued"] == 1, "{completed}");

        // All came once, signed, and are events like others; who asks for everything gets none of them.
        let came = world.receiver.received();
        let watched: Vec<_> = came.iter().filter(|webhook| webhook.path == "/watch").collect();
        ensure!(watched.len() == 5, "{} facts came", watched.len());
        for webhook in watched {
            webhook.verify(&watch.secret)?;
        }
        ensure!(came.iter().filter(|webhook| webhook.path == "/hook").all(|webhook| webhook.webhook_id() == event));
        let list = until(&world.api, "/v1/events?type=tidings.endpoint.disabled", |list| list["data"][0].is_object()).await?;
        let shown = world.api.get(&format!("/v1/events/{}", text(&list["data"][0], "id")?)).await?.expect(200)?;
        ensure!(shown["actor"] == "system:delivery" && shown["data"] == disabled, "{shown}");
        Ok(())
    }

    /// An endpoint for facts that itself fails begets no fact: neither a dead letter of one, nor its redrive, tells of
    /// itself.
    async fn facts_never_tell_of_themselves(engine: Engine) {
        let world = World::start_with(engine, &[("TIDINGS_RETRY_SCHEDULE", "")]).await?;
        watched(&world).await?;
        world.receiver.script("/hook", [Answer::Status(500)]);
        world.receiver.script("/watch", [Answer::Status(500)]);
        world.publish("invoice.paid", &json!(1)).await?;
        let two = |list: &Value| list["data"].as_array().is_some_and(|all| all.len() == 2);
        until(&world.api, "/v1/dead-letters", two).await?;
        world.receiver.script("/watch", [Answer::Status(200)]);
        let of_facts = json!({ "matching": { "event_types": ["tidings.delivery.exhausted"] } });
        world.api.post("/v1/dead-letters/redrive", &of_facts).await?.expect(202)?;
        until(&world.api, "/v1/dead-letters", |list| list["data"].as_array().is_some_and(|all| all.len() == 1)).await?;
        // Two more of the hook's: what facts there are stand in the log before these are seen.
        world.publish("invoice.paid", &json!(2)).await?;
        world.receiver.wait_until(PATIENCE, |all| facts(all, "/watch", "tidings.delivery.exhausted").len() == 3).await?;
        let events = until(&world.api, "/v1/events?limit=200", |list| {
            list["data"].as_array().is_some_and(|all| all.len() >= 4)
        })
        .await?;
        let types: Vec<_> = events["data"].as_array().context("data")?.iter().map(|row| row["type"].clone()).collect();
        let told = types.iter().filter(|kind| **kind == "tidings.delivery.exhausted").count();
        ensure!(types.len() == 4 && told == 2, "{types:?}");
        Ok(())
    }

    /// Nobody but the service publishes or registers such types.
    async fn nobody_else_publishes_facts(engine: Engine) {
        let world = World::start(engine).await?;
        let endpoint = world.endpoint("/hook", &json!({})).await?;
        let forged = json!({ "type": "tidings.endpoint.disabled", "data": {} });
        let plain = json!({ "type": "invoice.paid", "data": {} });
        let registered = json!({ "name": "tidings.x", "schema": true });
        let attempts = [
            ("/v1/events".to_owned(), forged.clone()),
            ("/v1/events/bulk".to_owned(), json!({ "events": [plain, forged] })),
            (format!("{}/test", endpoint.path), json!({ "type": "tidings.endpoint.disabled" })),
            ("/v1/event-types".to_owned(), registered),
        ];
        for (path, body) in attempts {
            ensure!(world.api.post(&path, &body).await?.problem(422)? == "invalid_body", "{path}");
        }
        Ok(())
    }
}
