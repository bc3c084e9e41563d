//! What an answer means: for the delivery, and for the endpoint.

use std::time::Duration;

use anyhow::{Context, ensure};
use broker::layout::Bucket;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::receiver::Answer;

use crate::world::{PATIENCE, World, get_after, until};

/// The events of one kind in the audit trail about an endpoint.
async fn trail(world: &World, action: &str, endpoint: &str) -> anyhow::Result<Value> {
    let path = format!("/v1/audit?action={action}&resource={endpoint}");
    until(&world.api, &path, |list| list["data"][0].is_object()).await
}

for_each_engine! {
    /// Only 2xx is a success: redirects are failures and nobody follows them.
    async fn only_2xx_is_a_success(engine: Engine) {
        let world = World::start(engine).await?;
        let redirect = Answer::Redirect(world.receiver.url("/elsewhere"));
        world.receiver.script("/hook", [redirect, Answer::Status(404), Answer::Status(500), Answer::Status(299)]);
        world.endpoint("/hook", &json!({ "retry_schedule": ["20ms", "20ms", "20ms"] })).await?;
        let event = world.publish("invoice.paid", &json!({})).await?;
        let attempts = world.attempts(&event, "delivered").await?;
        let mut statuses: Vec<_> = attempts.iter().filter_map(|attempt| attempt["status"].as_u64()).collect();
        statuses.sort_unstable();
        ensure!(statuses == [299, 302, 404, 500], "{attempts:?}");
        ensure!(world.receiver.received().iter().all(|webhook| webhook.path == "/hook"), "a redirect was followed");
        Ok(())
    }

    /// 410 disables the endpoint at once, by a command that says why; the delivery can be redriven when it is enabled.
    async fn an_endpoint_that_is_gone_is_disabled_at_once(engine: Engine) {
        let world = World::start(engine).await?;
        world.receiver.script("/hook", [Answer::Status(410), Answer::Status(200)]);
        let endpoint = world.endpoint("/hook", &json!({})).await?;
        let event = world.publish("invoice.paid", &json!({})).await?;
        get_after(&world.api, &endpoint.path, &endpoint.created).await?;
        let shown = until(&world.api, &endpoint.path, |shown| shown["status"] == "disabled").await?;
        ensure!(shown["disabled_reason"] == "the receiver answered 410 Gone", "{shown}");
        let attempts = world.attempts(&event, "dead").await?;
        ensure!(attempts.len() == 1, "{attempts:?}");
        let trail = trail(&world, "endpoint.disabled", &endpoint.id).await?;
        ensure!(trail["data"][0]["actor"] == "system:delivery", "{trail}");

        let enabled = world.api.post(&format!("{}/enable", endpoint.path), &json!({})).await?;
        ensure!(enabled.status == 204, "{}", enabled.status);
        world.api.post("/v1/dead-letters/redrive", &json!({ "endpoint": endpoint.id })).await?.expect(202)?;
        world.attempts(&event, "delivered").await?;
        world.webhook(&event).await?.verify(&endpoint.secret)?;
        Ok(())
    }

    /// An endpoint that fails for too long without one success is disabled, also when the process that saw the first
    /// failure is not the one that sees the last.
    async fn an_endpoint_that_fails_for_too_long_is_disabled(engine: Engine) {
        let mut world = World::start_with(engine, &[("TIDINGS_DELIVERY_DISABLE_AFTER", "4s")]).await?;
        world.receiver.script("/fails", [Answer::Status(500)]);
        let schedule = json!({ "retry_schedule": vec!["500ms"; 50], "retry_jitter": 0, "breaker": false });
        let fails = world.endpoint("/fails", &schedule).await?;
        let never = json!({ "retry_schedule": vec!["500ms"; 50], "breaker": false, "disable_after_hours": 0 });
        let never = world.endpoint("/fails", &never).await?;
        for endpoint in [&fails, &never] {
            get_after(&world.api, &endpoint.path, &endpoint.created).await?;
        }
        world.publish("invoice.paid", &json!({})).await?;
        // The second attempts: what the first meant is noted then.
        world.receiver.wait_for(4, PATIENCE).await?;
        world.service.kill().await?;
        let failing = world.service.kept(Bucket::Deliveries).await?;
        ensure!(failing.iter().any(|entry| entry.key.as_str().contains(&fails.id)), "{failing:?}");
        world.restart().await?;
        let shown = until(&world.api, &fails.path, |shown| shown["status"] == "disabled").await?;
        let reason = shown["disabled_reason"].as_str().context("disabled_reason")?;
        ensure!(reason.starts_with("no attempt since 20") && reason.ends_with("was a success"), "{shown}");
        let shown = world.api.get(&never.path).await?.expect(200)?;
        ensure!(shown["status"] == "enabled", "{shown}");
        let first = world.receiver.received()[0].at;
        ensure!(first.elapsed()? >= Duration::from_secs(4), "disabled too early");
        Ok(())
    }
}
