//! Ordered delivery: within a key, one after the other, whatever fails and whoever is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::receiver::{Answer, Received};

use crate::world::{PATIENCE, World, until};

/// For each key, the numbers in the order in which they first came.
fn first_seen(received: &[Received]) -> anyhow::Result<BTreeMap<String, Vec<u64>>> {
    let mut seen = BTreeSet::new();
    let mut orders: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for webhook in received {
        let body = webhook.json()?;
        let key = body["data"]["key"].as_str().context("key")?.to_owned();
        let number = body["data"]["number"].as_u64().context("number")?;
        if seen.insert((key.clone(), number)) {
            orders.entry(key).or_default().push(number);
        }
    }
    Ok(orders)
}

fn numbers(received: &[Received], key: &str) -> Vec<u64> {
    let mut orders = first_seen(received).unwrap_or_default();
    orders.remove(key).unwrap_or_default()
}

fn ordered(on_failure: &str) -> Value {
    json!({
        "ordering": { "key": "/key", "on_failure": on_failure }, "retry_schedule": ["50ms"], "retry_jitter": 0,
        "breaker": false
    })
}

async fn publish(world: &World, key: &str, number: u64) -> anyhow::Result<String> {
    world
        .publish("order.changed", &json!({ "key": key, "number": number }))
        .await
}

/// Waits until so many dead letters are there, and answers their numbers in the order in which they died.
async fn dead(world: &World, count: usize) -> anyhow::Result<Value> {
    let there = |list: &Value| list["data"].as_array().is_some_and(|list| list.len() >= count);
    until(&world.api, "/v1/dead-letters", there).await
}

for_each_engine! {
    /// Attempts that fail in between and many keys at once change no order.
    async fn each_key_arrives_in_order(engine: Engine) {
        let world = World::start(engine).await?;
        let flaky: Vec<_> = (0..200).map(|n| Answer::Status(if n % 3 == 1 { 500 } else { 200 })).collect();
        world.receiver.script("/hook", flaky);
        let policy = json!({
            "ordering": { "key": "/key" }, "retry_schedule": vec!["20ms"; 20], "breaker": false
        });
        world.endpoint("/hook", &policy).await?;
        for number in 0..12 {
            for key in ["a", "b", "c", "d"] {
                publish(&world, key, number).await?;
            }
        }
        let all = |received: &[Received]| {
            let orders = first_seen(received).unwrap_or_default();
            orders.values().map(Vec::len).sum::<usize>() == 48
        };
        let received = world.receiver.wait_until(PATIENCE, all).await?;
        for (key, numbers) in first_seen(&received)? {
            ensure!(numbers.is_sorted(), "{key} came as {numbers:?}");
        }
        Ok(())
    }

    /// `block`: a dead letter holds its key up, and no other, until it is redriven.
    async fn a_dead_letter_blocks_its_key_until_it_is_redriven(engine: Engine) {
        let world = World::start(engine).await?;
        world.receiver.script("/hook", [Answer::Status(500), Answer::Status(500), Answer::Status(200)]);
        let endpoint = world.endpoint("/hook", &ordered("block")).await?;
        publish(&world, "a", 0).await?;
        world.receiver.wait_for(2, PATIENCE).await?;
        dead(&world, 1).await?;
        publish(&world, "a", 1).await?;
        publish(&world, "a", 2).await?;
        publish(&world, "b", 0).await?;
        let received = world.receiver.wait_for(3, PATIENCE).await?;
        ensure!(numbers(&received, "b") == [0], "another key was held up");
        world.api.post("/v1/dead-letters/redrive", &json!({ "endpoint": endpoint.id })).await?.expect(202)?;
        let all = |received: &[Received]| numbers(received, "a").len() == 3;
        let received = world.receiver.wait_until(PATIENCE, all).await?;
        let last: Vec<_> = received.iter().skip(3).map(|webhook| webhook.json().unwrap_or_default()["data"]["number"].clone()).collect();
        ensure!(last == [json!(0), json!(1), json!(2)], "{last:?}");
        Ok(())
    }

    /// `block`: discarding the dead letter lets the others go on without it.
    async fn a_discarded_dead_letter_blocks_no_more(engine: Engine) {
        let world = World::start(engine).await?;
        world.receiver.script("/hook", [Answer::Status(500), Answer::Status(500), Answer::Status(200)]);
        let endpoint = world.endpoint("/hook", &ordered("block")).await?;
        for number in 0..3 {
            publish(&world, "a", number).await?;
        }
        dead(&world, 1).await?;
        ensure!(world.receiver.received().len() == 2);
        world.api.post("/v1/dead-letters/discard", &json!({ "endpoint": endpoint.id })).await?.expect(202)?;
        let received = world.receiver.wait_for(4, PATIENCE).await?;
        ensure!(numbers(&received, "a") == [0, 1, 2]);
        Ok(())
    }

    /// `skip`: the key goes on without its dead letter.
    async fn a_dead_letter_is_skipped(engine: Engine) {
        let world = World::start(engine).await?;
        world.receiver.script("/hook", [Answer::Status(500), Answer::Status(500), Answer::Status(200)]);
        world.endpoint("/hook", &ordered("skip")).await?;
        for number in 0..3 {
            publish(&world, "a", number).await?;
        }
        let received = world.receiver.wait_for(4, PATIENCE).await?;
        ensure!(numbers(&received, "a") == [0, 1, 2]);
        let dead = dead(&world, 1).await?;
        ensure!(dead["data"].as_array().is_some_and(|list| list.len() == 1), "{dead}");
        Ok(())
    }

    /// `park`: those behind a dead letter become dead letters without being sent, and arrive in order once all are
    /// redriven.
    async fn those_behind_a_dead_letter_are_parked(engine: Engine) {
        let world = World::start(engine).await?;
        world.receiver.script("/hook", [Answer::Status(500), Answer::Status(500), Answer::Status(200)]);
        let endpoint = world.endpoint("/hook", &ordered("park")).await?;
        for number in 0..4 {
            publish(&world, "a", number).await?;
        }
        dead(&world, 4).await?;
        ensure!(world.receiver.received().len() == 2, "a parked one was sent");
        world.api.post("/v1/dead-letters/redrive", &json!({ "endpoint": endpoint.id })).await?.expect(202)?;
        let received = world.receiver.wait_for(6, PATIENCE).await?;
        let last: Vec<_> = received.iter().skip(2).map(|webhook| webhook.json().unwrap_or_default()["data"]["number"].clone()).collect();
        ensure!(last == [json!(0), json!(1), json!(2), json!(3)], "{last:?}");
        Ok(())
    }

    /// Killed and started again in the middle, again and again, the service sends nothing before its turn, and loses
    /// nothing.
    async fn the_order_holds_across_kills(engine: Engine) {
        let mut world = World::start(engine).await?;
        world.receiver.script("/hook", [Answer::After(Duration::from_millis(20))]);
        let policy = json!({ "ordering": { "key": "/key" }, "breaker": false });
        world.endpoint("/hook", &policy).await?;
        for round in 0..2 {
            for number in 0..12 {
                for key in ["a", "b", "c"] {
                    publish(&world, key, round * 12 + number).await?;
                }
            }
            // What a killed process held comes back when its lease ends.
            let some = if round == 0 { 9 } else { 45 };
            world.receiver.wait_for(some, 2 * PATIENCE).await?;
            world.service.kill().await?;
            world.restart().await?;
        }
        let all = |received: &[Received]| {
            let orders = first_seen(received).unwrap_or_default();
            orders.values().map(Vec::len).sum::<usize>() == 72
        };
        let received = world.receiver.wait_until(2 * PATIENCE, all).await?;
        for (key, numbers) in first_seen(&received)? {
            ensure!(numbers == (0..24).collect::<Vec<_>>(), "{key} came as {numbers:?}");
        }
        Ok(())
    }
}
