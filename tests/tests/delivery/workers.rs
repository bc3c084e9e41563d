//! Several processes at one queue, and the end of one of them in the middle of its work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tests::receiver::{Answer, Received};
use tests::service::Engine;

use crate::world::{PATIENCE, World};

/// What a killed process held is handed out again when its leases end: 30 s, and 2 s for the servers' clock.
const LEASES_RETURN: Duration = Duration::from_secs(32);

/// One of two processes is killed while both send: everything arrives within the length of a lease, what comes twice
/// carries its one id, and each key is in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_loses_nothing_and_no_order() -> anyhow::Result<()> {
    let world = World::start(Engine::Cluster).await?;
    let mut other = world.service.beside().await?;
    world
        .receiver
        .script("/hook", [Answer::After(Duration::from_millis(30))]);
    world
        .receiver
        .script("/ordered", [Answer::After(Duration::from_millis(30))]);
    let plain = world.endpoint("/hook", &json!({ "breaker": false })).await?;
    let order = json!({ "ordering": { "key": "/key" }, "breaker": false });
    let ordered = world.endpoint("/ordered", &order).await?;
    let mut published = BTreeMap::new();
    for number in 0..200_u64 {
        let data = json!({ "key": format!("k{}", number % 8), "number": number });
        published.insert(number, world.publish("order.changed", &data).await?);
        if number == 120 {
            // Both are in the middle of it.
            world.receiver.wait_for(60, PATIENCE).await?;
            other.kill().await?;
        }
    }
    let all = |received: &[Received]| {
        let ids: BTreeSet<_> = received
            .iter()
            .map(|webhook| (&webhook.path, webhook.webhook_id()))
            .collect();
        ids.len() == 400
    };
    let received = world.receiver.wait_until(LEASES_RETURN + PATIENCE, all).await?;
    let mut orders: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for webhook in &received {
        let body = webhook.json()?;
        let number = body["data"]["number"].as_u64().context("number")?;
        ensure!(
            published[&number] == webhook.webhook_id(),
            "{number} came under another id"
        );
        let is_ordered = webhook.path == "/ordered";
        webhook.verify(if is_ordered {
            &ordered.secret
        } else {
            &plain.secret
        })?;
        if is_ordered && seen.insert(number) {
            let key = body["data"]["key"].as_str().context("key")?.to_owned();
            orders.entry(key).or_default().push(number);
        }
    }
    for (key, numbers) in orders {
        ensure!(numbers.is_sorted(), "{key} came as {numbers:?}");
    }
    Ok(())
}
