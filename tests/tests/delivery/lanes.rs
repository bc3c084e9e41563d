//! Lanes: receivers that hang, drip, fail or have too much to do hold up nobody but themselves.

use std::time::{Duration, Instant, SystemTime};

use anyhow::ensure;
use serde_json::json;
use tests::for_each_engine;
use tests::receiver::{Answer, Received};

use crate::world::{PATIENCE, World, until};

fn at<'a>(received: &'a [Received], path: &'a str) -> impl Iterator<Item = &'a Received> {
    received.iter().filter(move |webhook| webhook.path == path)
}

fn since(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

for_each_engine! {
    /// Twelve receivers hang and four drip, with places for eight tries in all: the healthy one gets everything within
    /// moments, long before the first of the others is given up.
    async fn many_that_hang_or_drip_hold_up_nobody_else(engine: Engine) {
        let settings = [("TIDINGS_DELIVERY_CONCURRENCY", "8"), ("TIDINGS_DELIVERY_SLOW_CONCURRENCY", "32")];
        let world = World::start_with(engine, &settings).await?;
        world.receiver.script("/hangs", [Answer::Hang]);
        world.receiver.script("/drips", [Answer::Drip(Duration::from_millis(200))]);
        for number in 0..16 {
            world.endpoint(if number < 12 { "/hangs" } else { "/drips" }, &json!({})).await?;
        }
        world.endpoint("/healthy", &json!({})).await?;
        let begun = Instant::now();
        for number in 0..40 {
            world.publish("invoice.paid", &json!({ "number": number })).await?;
        }
        let healthy = |all: &[Received]| at(all, "/healthy").count() >= 40;
        world.receiver.wait_until(Duration::from_secs(14), healthy).await?;
        ensure!(begun.elapsed() < Duration::from_secs(14), "the first of those that hang has ended");
        Ok(())
    }

    /// An endpoint's rate is kept, its burst at once.
    async fn a_rate_is_kept(engine: Engine) {
        let world = World::start(engine).await?;
        let policy = json!({ "rate_limit": { "per_second": 5, "burst": 3 } });
        world.endpoint("/limited", &policy).await?;
        for number in 0..13 {
            world.publish("invoice.paid", &json!({ "number": number })).await?;
        }
        let received = world.receiver.wait_for(13, PATIENCE).await?;
        let took = since(received[0].at, received[12].at);
        // Three at once, ten more at five a second.
        ensure!(took >= Duration::from_millis(1_900), "thirteen within {took:?}");
        Ok(())
    }

    /// No more than an endpoint asks for are under way at once.
    async fn no_more_are_under_way_at_once_than_asked_for(engine: Engine) {
        let world = World::start(engine).await?;
        world.receiver.script("/slow", [Answer::After(Duration::from_millis(150))]);
        world.endpoint("/slow", &json!({ "max_in_flight": 1 })).await?;
        for number in 0..6 {
            world.publish("invoice.paid", &json!({ "number": number })).await?;
        }
        let received = world.receiver.wait_for(6, PATIENCE).await?;
        for pair in received.windows(2) {
            let apart = since(pair[0].at, pair[1].at);
            ensure!(apart >= Duration::from_millis(145), "two within {apart:?}");
        }
        Ok(())
    }

    /// A receiver that fails is left alone; after a while it is asked with one, and when that does well with all.
    async fn a_breaker_opens_and_closes_again(engine: Engine) {
        let world = World::start(engine).await?;
        world.receiver.fail_first("/hook", 4);
        let breaker = json!({ "failure_percent": 50, "minimum": 4, "window_seconds": 60, "open_seconds": 3 });
        let policy = json!({ "breaker": breaker, "retry_schedule": ["50ms", "50ms", "50ms", "50ms", "50ms"], "max_in_flight": 1 });
        world.endpoint("/hook", &policy).await?;
        for number in 0..10 {
            world.publish("invoice.paid", &json!({ "number": number })).await?;
        }
        let received = world.receiver.wait_for(14, PATIENCE).await?;
        let pause = since(received[3].at, received[4].at);
        ensure!(pause >= Duration::from_millis(2_900), "asked again after {pause:?}");
        ensure!(received.len() == 14, "{} came", received.len());
        Ok(())
    }

    /// `Retry-After` with 429 holds for the whole lane, not only for the delivery that was answered.
    async fn retry_after_holds_for_the_whole_lane(engine: Engine) {
        let world = World::start(engine).await?;
        let busy = Answer::With(429, "retry-after", "3".to_owned());
        world.receiver.script("/busy", [busy, Answer::Status(200)]);
        world.endpoint("/busy", &json!({ "max_in_flight": 1, "retry_schedule": ["10ms"] })).await?;
        for number in 0..5 {
            world.publish("invoice.paid", &json!({ "number": number })).await?;
        }
        let received = world.receiver.wait_for(6, PATIENCE).await?;
        let pause = since(received[0].at, received[1].at);
        ensure!(pause >= Duration::from_millis(2_900), "asked again after {pause:?}");
        Ok(())
    }

    /// A receiver that says that it has too much to do is asked with half as many at once; one that only fails is not.
    async fn who_has_too_much_to_do_gets_less_at_once(engine: Engine) {
        let world = World::start(engine).await?;
        for (path, status) in [("/busy", 503), ("/failing", 500)] {
            let slow = Answer::After(Duration::from_secs(1));
            world.receiver.script(path, [Answer::Status(status), slow]);
            let policy = json!({ "max_in_flight": 2, "breaker": false, "retry_schedule": ["20s"] });
            world.endpoint(path, &policy).await?;
        }
        let first = world.publish("invoice.paid", &json!({ "number": 0 })).await?;
        // Recorded, so that the lanes know.
        until(&world.api, &format!("/v1/deliveries?event={first}"), |list| {
            let rows = list["data"].as_array();
            rows.is_some_and(|rows| rows.len() == 2 && rows.iter().all(|row| row["attempts"] == 1))
        })
        .await?;
        let event = |number: usize| json!({ "type": "invoice.paid", "data": { "number": number } });
        let two = json!({ "events": [event(1), event(2)] });
        world.api.post("/v1/events/bulk", &two).await?.expect(202)?;
        let received = world.receiver.wait_for(6, PATIENCE).await?;
        let apart = |path| {
            let times: Vec<_> = at(&received, path).map(|webhook| webhook.at).collect();
            since(times[1], times[2])
        };
        let (busy, failing) = (apart("/busy"), apart("/failing"));
        ensure!(busy >= Duration::from_millis(990), "a busy one was asked twice within {busy:?}");
        ensure!(failing < Duration::from_millis(900), "one that fails was let wait for {failing:?}");
        Ok(())
    }

    /// Whatever one tenant has waiting, what another publishes has its turn.
    async fn a_tenant_with_much_to_deliver_leaves_others_their_turn(engine: Engine) {
        let world = World::start_with(engine, &[("TIDINGS_DELIVERY_CONCURRENCY", "4")]).await?;
        world.receiver.script("/noisy", [Answer::After(Duration::from_millis(100))]);
        world.endpoint("/noisy", &json!({})).await?;
        let other = world.another_tenant("other").await?;
        let endpoint = json!({ "url": world.receiver.url("/other"), "event_types": ["*"] });
        other.post("/v1/endpoints", &endpoint).await?.expect(201)?;
        let event = |number: usize| json!({ "type": "invoice.paid", "data": { "number": number } });
        // Both have proved quick before, since whoever is new has places of its own.
        for api in [&world.api, &other] {
            api.post("/v1/events", &event(0)).await?.expect(202)?;
        }
        world.receiver.wait_for(2, PATIENCE).await?;
        let many = json!({ "events": (1..=300).map(event).collect::<Vec<_>>() });
        world.api.post("/v1/events/bulk", &many).await?.expect(202)?;
        world.receiver.wait_for(22, PATIENCE).await?;
        other.post("/v1/events", &event(1)).await?.expect(202)?;
        let came = |all: &[Received]| at(all, "/other").count() == 2;
        let received = world.receiver.wait_until(PATIENCE, came).await?;
        let before = at(&received, "/noisy").count();
        ensure!(before < 150, "{before} of the other tenant's came first");
        Ok(())
    }
}
