//! What happens to those who fold the log.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};

use super::process::AFTERWARDS;
use crate::faults::world::{PATIENCE, World};
use crate::tools;

/// The phases of a replay that changes something, in order.
const PHASES: [&str; 5] = ["building", "indexing", "comparing", "catching_up", "switching"];

/// Two processes fold, serve and deliver. The first stands still in the middle of it, longer than its leases are good
/// for in the eyes of the database, while clients go on with the second; then it comes back and believes that no time
/// has passed.
pub(super) fn pause_one(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        let mut second = world.service.beside().await?;
        world.moment().await?;
        world.service.signal("STOP")?;
        tools::stopped(world.service.pid()).await?;
        world.call_at(second.url());
        world.acknowledged(AFTERWARDS).await?;
        world.lasting(1_000..6_000).await;
        world.heal();
        world.service.signal("CONT")?;
        world.acknowledged(AFTERWARDS).await?;
        // Clients go back to the one that stood still; whatever the second has in hand, it ends in order.
        world.call_at(&world.service.url().to_owned());
        second.terminate().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// A replay of everything is killed in a phase that is drawn, or in the one after where that was too short to be seen.
pub(super) fn kill_replaying(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        let drawn = usize::try_from(world.dice.number(0..PHASES.len() as u64))?;
        let id = killed_in(world, &PHASES[drawn..]).await?;
        world.heal();
        world.restart().await?;
        let replay = ended(world, &id).await?;
        ensure!(
            replay["status"] == "completed" && replay["differences"] == json!([]),
            "the replay ended as {replay:#}"
        );
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// Starts replays until one is met in one of the phases, and kills the service in it; answers the replay's id.
async fn killed_in(world: &mut World, phases: &[&str]) -> anyhow::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let admin = world.service.admin()?;
        let started = admin.post("/v1/replays", &json!({ "all": true })).await?;
        let id = started.expect(202)?["id"]
            .as_str()
            .context("the replay's id")?
            .to_owned();
        loop {
            let replay = admin.get(&format!("/v1/replays/{id}")).await?.expect(200)?;
            if phases.iter().any(|phase| replay["phase"] == *phase) {
                world.service.kill().await?;
                return Ok(id);
            }
            if is_over(&replay) {
                break;
            }
        }
    }
    anyhow::bail!("no replay was ever met in {phases:?}")
}

async fn ended(world: &World, id: &str) -> anyhow::Result<Value> {
    let (admin, deadline) = (world.service.admin()?, Instant::now() + PATIENCE);
    loop {
        let replay = admin.get(&format!("/v1/replays/{id}")).await?.expect(200)?;
        if is_over(&replay) {
            return Ok(replay);
        }
        ensure!(Instant::now() < deadline, "the replay never ended: {replay:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_over(replay: &Value) -> bool {
    ["completed", "failed", "cancelled"]
        .iter()
        .any(|status| replay["status"] == *status)
}
