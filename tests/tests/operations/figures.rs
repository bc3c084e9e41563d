//! Figures of a tenant, exact after they were made anew.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::receiver::{Answer, Receiver};

use crate::world::{World, eventually, text};

/// Every answer of the tenant's figures.
const FIGURES: [&str; 11] = [
    "/v1/stats",
    "/v1/stats/series?interval=hour&metric=events",
    "/v1/stats/series?interval=day&metric=events",
    "/v1/stats/series?interval=day&metric=events&type=invoice.paid",
    "/v1/stats/series?interval=hour&metric=deliveries",
    "/v1/stats/series?interval=day&metric=deliveries",
    "/v1/stats/series?interval=day&metric=deliveries&type=invoice.paid",
    "/v1/stats/series?interval=day&metric=latency",
    "/v1/stats/series?interval=day&metric=attempt_duration",
    "/v1/stats/series?interval=day&metric=active_users",
    "/v1/stats/series?interval=hour&metric=active_users",
];

async fn figures(world: &World) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for path in FIGURES {
        let mut figures = world.api()?.get(path).await?.expect(200)?;
        // An hour that begins meanwhile is another bucket, in which nothing has happened.
        if let Some(buckets) = figures.get_mut("data").and_then(Value::as_array_mut) {
            let happened = |bucket: &Value| {
                let figures = bucket.as_object().into_iter().flatten();
                figures
                    .filter(|(name, _)| *name != "at")
                    .any(|(_, figure)| figure.as_f64() > Some(0.0))
            };
            buckets.retain(happened);
            figures = json!(buckets);
        }
        all.push(figures);
    }
    Ok(all)
}

fn sum(series: &Value, field: &str) -> u64 {
    let buckets = series.as_array().into_iter().flatten();
    buckets.filter_map(|bucket| bucket[field].as_u64()).sum()
}

tests::for_each_engine! {
    async fn figures_are_the_same_after_a_replay(engine: Engine) {
        let world = World::start(engine, &[("TIDINGS_RETRY_SCHEDULE", "20ms,20ms")]).await?;
        let receiver = Receiver::start().await?;
        receiver.script("/dead", [Answer::Status(503)]);
        receiver.script("/late", [Answer::Status(500), Answer::Status(200)]);
        let api = world.api()?;
        let mut endpoints = Vec::new();
        for path in ["/well", "/late", "/dead"] {
            let endpoint = json!({ "url": receiver.url(path), "event_types": ["*"] });
            let made = api.post("/v1/endpoints", &endpoint).await?.expect(201)?;
            endpoints.push(text(&made, "id")?);
        }
        world.user("ada").await?;
        for kind in ["invoice.paid", "invoice.late", "invoice.paid"] {
            api.post("/v1/events", &json!({ "type": kind, "data": {} })).await?.expect(202)?;
        }
        eventually(async || {
            let stats = api.get("/v1/stats").await?.expect(200)?;
            let ended = stats["events_by_status"] == json!({ "pending": 0, "delivered": 6, "failed": 0, "dead": 3 });
            Ok(ended.then_some(()))
        }).await.context("the deliveries did not end")?;
        // The series are another projection than the totals.
        eventually(async || {
            let all = figures(&world).await?;
            Ok((sum(&all[5], "delivered") == 6 && sum(&all[5], "dead") == 3).then_some(()))
        }).await.context("the series lag")?;

        let before = figures(&world).await?;
        ensure!(sum(&before[5], "failures") > 0, "nothing has failed: {:#}", before[5]);
        for figures in &before {
            ensure!(*figures != json!([]), "there is nothing to compare: {before:#?}");
        }
        let replay = world.replayed(&json!({ "all": true })).await?;
        ensure!(replay["generations"]["stats"] == 1 && replay["generations"]["series"] == 1, "{replay:#}");
        let after = figures(&world).await?;
        for (path, (before, after)) in FIGURES.iter().zip(before.iter().zip(&after)) {
            ensure!(before == after, "{path}: before {before:#}, after {after:#}");
        }
        Ok(())
    }
}
