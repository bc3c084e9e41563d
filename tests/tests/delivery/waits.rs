//! An endpoint's own schedule and deadline.

use std::time::Duration;

use serde_json::{Value, json};
use tests::clock::Clock;
use tests::for_each_engine;
use tests::receiver::Answer;
use tests::service::Engine;

use crate::world::World;

for_each_engine! {
    /// With a schedule of its own an endpoint's deliveries end after as many attempts as that says, while the
    /// installation's schedule would still wait for an hour.
    async fn an_endpoint_has_its_own_schedule(engine: Engine) {
        let world = World::start_with(engine, &[("TIDINGS_RETRY_SCHEDULE", "1h")]).await?;
        world.receiver.script("/hook", [Answer::Status(500)]);
        let policy = json!({ "retry_schedule": ["300ms", "300ms"], "retry_jitter": 0 });
        world.endpoint("/hook", &policy).await?;
        let event = world.publish("a.b", &json!({})).await?;
        let attempts = world.attempts(&event, "dead").await?;
        assert_eq!(attempts.len(), 3, "{attempts:?}");
        let received = world.receiver.received();
        assert_eq!(received.len(), 3);
        for two in received.windows(2) {
            let apart = two[1].at.duration_since(two[0].at)?;
            assert!(apart >= Duration::from_millis(290), "{apart:?}");
        }
        Ok(())
    }

    /// A schedule without waits is a single attempt.
    async fn a_schedule_of_no_waits_is_one_attempt(engine: Engine) {
        let world = World::start(engine).await?;
        world.receiver.script("/hook", [Answer::Status(500)]);
        world.endpoint("/hook", &json!({ "retry_schedule": [] })).await?;
        let event = world.publish("a.b", &json!({})).await?;
        assert_eq!(world.attempts(&event, "dead").await?.len(), 1);
        Ok(())
    }

    /// A shorter deadline ends an attempt early; a longer one lets an answer through that takes longer than the
    /// installation waits, in one attempt.
    async fn an_endpoint_has_its_own_deadline(engine: Engine) {
        let world = World::start_with(engine, &[("TIDINGS_DELIVERY_TIMEOUT", "2s")]).await?;
        world.receiver.script("/hangs", [Answer::Hang]);
        world.receiver.script("/slow", [Answer::After(Duration::from_secs(4))]);
        let (short, long) = (json!({ "timeout_ms": 300, "retry_schedule": [], "event_types": ["short"] }),
            json!({ "timeout_ms": 30_000, "retry_schedule": [], "event_types": ["long"] }));
        world.endpoint("/hangs", &short).await?;
        world.endpoint("/slow", &long).await?;
        let (short, long) = (world.publish("short", &json!({})).await?, world.publish("long", &json!({})).await?);
        let attempts = world.attempts(&short, "dead").await?;
        assert_eq!(attempts[0]["error"], "timeout");
        assert_eq!(attempts[0]["detail"], "no answer within 0.3 s");
        assert!(attempts[0]["duration_ms"].as_u64() < Some(2_000), "{attempts:?}");
        let attempts = world.attempts(&long, "delivered").await?;
        assert!(attempts[0]["duration_ms"].as_u64() >= Some(4_000), "{attempts:?}");
        let times = world.receiver.received().iter().filter(|webhook| webhook.path == "/slow").count();
        assert_eq!((attempts.len(), times), (1, 1));
        assert_eq!(attempts[0]["error"], Value::Null);
        Ok(())
    }
}

/// A retry that was set to wait while the clock was minutes ahead comes when its wait is over, though the clock is put right
/// meanwhile. Of the embedded engine only: on NATS a wait ends at a time of day.
#[tokio::test]
async fn a_retry_does_not_wait_for_a_clock_that_was_put_back() -> anyhow::Result<()> {
    let clock = Clock::new()?;
    let env = clock.env();
    let env = env
        .each_ref()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let world = World::start_with(Engine::Embedded, &env).await?;
    world
        .receiver
        .script("/hook", [Answer::Status(500), Answer::Status(200)]);
    let policy = json!({ "retry_schedule": ["2s"], "retry_jitter": 0 });
    world.endpoint("/hook", &policy).await?;
    clock.set(240)?;
    world.publish("a.b", &json!({})).await?;
    let came = async |times| {
        let patience = Duration::from_secs(30);
        world
            .receiver
            .wait_until(patience, |all| all.len() == times)
            .await
    };
    came(1).await?;
    // Until the retry waits; were it to take longer, the clock would be right when it begins to.
    tokio::time::sleep(Duration::from_secs(1)).await;
    clock.set(0)?;
    came(2).await?;
    Ok(())
}
