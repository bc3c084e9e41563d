//! Dead letters: found, looked into, redriven at a rate, discarded; whatever became of their endpoints.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::receiver::{Answer, Received};

use crate::world::{PATIENCE, World, get_after, text, until};

/// What a killed process had in hand comes back when its lease of 30 seconds is over.
const AFTER_KILL: Duration = Duration::from_secs(90);

fn rows(body: &Value) -> usize {
    body["data"].as_array().map_or(0, Vec::len)
}

/// Publishes so many events of a type together.
async fn publish_many(world: &World, event_type: &str, count: usize) -> anyhow::Result<()> {
    let events = (0..count).map(|number| json!({ "type": event_type, "data": { "number": number } }));
    let body = json!({ "events": events.collect::<Vec<_>>() });
    world.api.post("/v1/events/bulk", &body).await?.expect(202)?;
    Ok(())
}

/// Waits until so many dead letters of a kind are listed.
async fn dead(world: &World, query: &str, count: usize) -> anyhow::Result<Value> {
    let path = format!("/v1/dead-letters?limit=200{query}");
    until(&world.api, &path, |list| rows(list) == count).await
}

for_each_engine! {
    /// Every filter of the list, and one letter with its payload and the receiver's last answer.
    async fn dead_letters_are_filtered_and_looked_into(engine: Engine) {
        let world = World::start_with(engine, &[("TIDINGS_RETRY_SCHEDULE", "20ms")]).await?;
        world.receiver.script("/fail", [Answer::With(500, "x-reason", "broken".to_owned())]);
        world.receiver.script("/moved", [Answer::Redirect(world.receiver.url("/other"))]);
        let failing = world.endpoint("/fail", &json!({ "event_types": ["invoice.*"] })).await?;
        let gone = json!({ "url": "http://receiver.invalid/", "event_types": ["*"] });
        let gone = world.api.post("/v1/endpoints", &gone).await?.expect(201)?;
        let gone = text(&gone, "id")?;
        let body = r#"{"type":"invoice.paid","data":{ "amount":12.50 }}"#;
        let paid = world.api.post_bytes("/v1/events", body).await?.expect(202)?;
        world.publish("user.left", &json!(1)).await?;
        let all = dead(&world, "", 3).await?;
        let ended = all["data"].as_array().context("data")?.iter();
        let ended: Vec<_> = ended.filter_map(|row| row["completed_at"].as_str()).collect();
        let last = *ended.iter().max().context("a time")?;
        // Two can end within the same millisecond.
        let at_last = ended.iter().filter(|time| **time == last).count();

        let queries = [
            (format!("&endpoint={gone}"), 2),
            ("&type=invoice.paid".to_owned(), 2),
            ("&error=dns".to_owned(), 2),
            ("&error=status".to_owned(), 1),
            (format!("&type=user.left&endpoint={}", failing.id), 0),
            (format!("&since={last}"), at_last),
            (format!("&until={last}"), 3 - at_last),
            ("&error=dns&type=invoice.paid".to_owned(), 1),
        ];
        for (query, count) in queries {
            let list = world.api.get(&format!("/v1/dead-letters?limit=200{query}")).await?.expect(200)?;
            ensure!(rows(&list) == count, "{query}: {count} expected, {list}");
        }
        let wrong = world.api.get("/v1/dead-letters?error=broken").await?;
        ensure!(wrong.problem(400)? == "invalid_query");

        let list = dead(&world, &format!("&endpoint={}", failing.id), 1).await?;
        let id = text(&list["data"][0], "id")?;
        let reply = world.api.get(&format!("/v1/dead-letters/{id}")).await?;
        let letter = reply.expect(200)?;
        ensure!(letter["event"]["id"] == paid["id"] && letter["event"]["type"] == "invoice.paid", "{letter}");
        ensure!(String::from_utf8_lossy(&reply.body).contains(r#""data":{ "amount":12.50 }"#), "the payload is another");
        let attempt = &letter["last_attempt"];
        ensure!(attempt["attempt"] == 2 && attempt["status"] == 500 && attempt["response_body"] == "noted", "{letter}");
        let named = json!({ "name": "x-reason", "value": "broken" });
        ensure!(attempt["response_headers"].as_array().is_some_and(|all| all.contains(&named)), "{letter}");
        ensure!(letter["delivery"]["status"] == "dead" && letter["delivery"]["id"] == id, "{letter}");
        let nothing = world.api.get("/v1/dead-letters/dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV").await?;
        ensure!(nothing.problem(404)? == "not_found");
        Ok(())
    }

    /// Those that match are redriven, no faster than the rate says, although the process is killed in the middle; the
    /// others stay. Discarding by a filter takes only those.
    async fn those_that_match_are_redriven_at_a_rate(engine: Engine) {
        const MANY: usize = 40;
        const RATE: u32 = 10;
        let mut world = World::start_with(engine, &[("TIDINGS_RETRY_SCHEDULE", "")]).await?;
        world.receiver.script("/hook", [Answer::Status(500)]);
        let endpoint = world.endpoint("/hook", &json!({ "breaker": false })).await?;
        publish_many(&world, "invoice.paid", MANY).await?;
        publish_many(&world, "user.left", 5).await?;
        dead(&world, "", MANY + 5).await?;
        let before = world.receiver.received().len();
        world.receiver.script("/hook", [Answer::Status(200)]);

        let body = json!({ "matching": { "event_types": ["invoice.paid"], "errors": ["status"] }, "rate": RATE });
        let begun = Instant::now();
        let asked = world.api.post("/v1/dead-letters/redrive", &body).await?;
        ensure!(asked.expect(202)?["requests"][0]["endpoint"] == endpoint.id, "{:?}", asked.json()?);
        world.receiver.wait_for(before + 12, PATIENCE).await?;
        world.service.kill().await?;
        world.service.restart().await?;
        world.api = world.service.tenant(world.api.key().context("a key")?)?;
        let ids = |all: &[Received]| -> BTreeSet<String> {
            all.iter().skip(before).map(|one| one.webhook_id().to_owned()).collect()
        };
        let came = world.receiver.wait_until(AFTER_KILL, |all| ids(all).len() == MANY).await?;
        let seconds = u64::try_from(MANY)? / u64::from(RATE) - 1;
        ensure!(begun.elapsed() > Duration::from_secs(seconds), "they came within {:?}", begun.elapsed());
        ensure!(came.iter().skip(before).all(|one| one.json().is_ok_and(|body| body["type"] == "invoice.paid")));
        // Twice only what was under way when the process was killed.
        ensure!(came.len() - before <= MANY + 8, "{} came for {MANY}", came.len() - before);

        dead(&world, "", 5).await?;
        let path = format!("/v1/audit?action=endpoint.redrive_requested&resource=endpoint/{}", endpoint.id);
        let audit = get_after(&world.api, &path, &asked).await?;
        ensure!(audit["data"][0]["data"]["rate"] == RATE, "{audit}");

        let nothing = json!({ "matching": { "event_types": ["invoice.paid"] } });
        world.api.post("/v1/dead-letters/discard", &nothing).await?.expect(202)?;
        let some = json!({ "matching": { "event_types": ["user.left"] } });
        world.api.post("/v1/dead-letters/discard", &some).await?.expect(202)?;
        dead(&world, "", 0).await?;
        let list = world.api.get("/v1/deliveries?status=dead&limit=200").await?.expect(200)?;
        ensure!(rows(&list) == 5, "discarded deliveries stay on record: {list}");
        let wrong = [
            json!({ "matching": {} }),
            json!({ "matching": { "errors": ["broken"] } }),
            json!({ "all": true, "rate": 0 }),
            json!({ "all": true, "matching": { "errors": ["dns"] } }),
        ];
        for body in wrong {
            ensure!(world.api.post("/v1/dead-letters/redrive", &body).await?.problem(422)? == "invalid_body", "{body}");
        }
        Ok(())
    }

    /// A disabled endpoint's dead letters wait for it; a removed one's can still be read and discarded.
    async fn dead_letters_outlive_what_happens_to_their_endpoint(engine: Engine) {
        let world = World::start_with(engine, &[("TIDINGS_RETRY_SCHEDULE", "")]).await?;
        world.receiver.script("/hook", [Answer::Status(500)]);
        let endpoint = world.endpoint("/hook", &json!({})).await?;
        publish_many(&world, "invoice.paid", 3).await?;
        let list = dead(&world, "", 3).await?;
        let id = text(&list["data"][0], "id")?.to_owned();
        world.receiver.script("/hook", [Answer::Status(200)]);

        ensure!(world.api.post(&format!("{}/disable", endpoint.path), &json!({})).await?.status == 204);
        let named = json!({ "endpoint": endpoint.id });
        ensure!(world.api.post("/v1/dead-letters/redrive", &named).await?.problem(409)? == "not_possible");
        let all = world.api.post("/v1/dead-letters/redrive", &json!({ "all": true })).await?.expect(202)?;
        ensure!(all["requests"] == json!([]) && all["refused"] == json!([endpoint.id]), "{all}");
        ensure!(rows(&dead(&world, "", 3).await?) == 3);
        let reply = world.api.post(&format!("{}/enable", endpoint.path), &json!({})).await?;
        ensure!(reply.status == 204);
        world.api.post("/v1/dead-letters/redrive", &json!({ "ids": [id] })).await?.expect(202)?;
        until(&world.api, &format!("/v1/deliveries/{id}"), |row| row["status"] == "delivered").await?;
        let list = dead(&world, "", 2).await?;

        let removed = world.api.call(Method::DELETE, &endpoint.path, None, &[]).await?;
        ensure!(removed.status == 204);
        let id = text(&list["data"][0], "id")?;
        let letter = world.api.get(&format!("/v1/dead-letters/{id}")).await?.expect(200)?;
        ensure!(letter["event"]["type"] == "invoice.paid", "{letter}");
        ensure!(world.api.post("/v1/dead-letters/redrive", &named).await?.problem(404)? == "not_found");
        world.api.post("/v1/dead-letters/discard", &json!({ "ids": [id] })).await?.expect(202)?;
        dead(&world, "", 1).await?;
        world.api.post("/v1/dead-letters/discard", &named).await?.expect(202)?;
        dead(&world, "", 0).await?;
        Ok(())
    }
}
