//! A replay whose process is killed goes on: after a restart, or in another process; and a cancelled one leaves nothing.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::service::Engine;

use crate::world::{World, ended, eventually, get_after, replay, text};

/// Enough that a replay takes a while.
const THOUSANDS: usize = 15;

/// Waits until a replay is being worked at and has gone past something.
async fn under_way(world: &World, id: &str) -> anyhow::Result<Value> {
    eventually(async || {
        let path = format!("/v1/replays/{id}");
        let replay = world.service.admin()?.get(&path).await?.expect(200)?;
        ensure!(replay["status"] != "failed", "{replay:#}");
        let over = replay["status"] == "completed";
        let some = replay["running"] == true && replay["done"].as_u64() > Some(0);
        Ok((some || over).then_some(replay))
    })
    .await
}

tests::for_each_engine! {
    async fn a_killed_replay_goes_on_after_the_restart(engine: Engine) {
        let mut world = World::start(engine, &[]).await?;
        world.publish(THOUSANDS).await?;
        let id = world.replay(&json!({ "all": true })).await?;
        let seen = under_way(&world, &id).await?;
        world.service.kill().await?;
        ensure!(seen["status"] == "running", "it was over before it could be killed: {seen:#}");
        let (done, generations) = (seen["done"].as_u64().context("done")?, seen["generations"].clone());

        world.service.restart().await?;
        let replay = world.ended(&id).await?;
        ensure!(replay["status"] == "completed" && replay["differences"] == json!([]), "{replay:#}");
        // It went on in the same tables and began with what was there.
        ensure!(replay["generations"] == generations, "{generations}, {replay:#}");
        ensure!(replay["done"].as_u64() >= Some(done), "{replay:#}");
        world.verified().await?;
        Ok(())
    }

    async fn a_cancelled_replay_leaves_nothing(engine: Engine) {
        let world = World::start(engine, &[]).await?;
        world.publish(THOUSANDS).await?;
        let admin = world.service.admin()?;
        let generations = async || -> anyhow::Result<Vec<Value>> {
            let listed = admin.get("/v1/projections").await?.expect(200)?;
            let listed = listed["data"].as_array().context("data")?.iter();
            Ok(listed.map(|row| row["generations"].clone()).collect())
        };
        let before = generations().await?.len();
        let (running, waiting) = (
            world.replay(&json!({ "all": true })).await?,
            world.replay(&json!({ "projections": ["audit"] })).await?,
        );
        let shown = admin.get(&format!("/v1/replays/{waiting}")).await?.expect(200)?;
        ensure!(shown["status"] == "waiting", "replays are worked at one at a time: {shown:#}");
        under_way(&world, &running).await?;
        for id in [&waiting, &running] {
            let reply = admin.post(&format!("/v1/replays/{id}/cancel"), &json!({})).await?;
            ensure!(reply.status == 204, "{}", reply.status);
        }
        for id in [&waiting, &running] {
            let replay = world.ended(id).await?;
            ensure!(replay["status"] == "cancelled", "{replay:#}");
            let again = admin.post(&format!("/v1/replays/{id}/cancel"), &json!({})).await?;
            ensure!(again.problem(409)? == "not_possible", "{}", again.status);
        }
        let after = generations().await?;
        ensure!(after.len() == before, "{after:?}");
        for generations in &after {
            let all = generations.as_array().context("generations")?;
            ensure!(all.iter().all(|one| one["standing"] == "live"), "{generations:#}");
        }
        world.verified().await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_takes_a_killed_ones_replay_over() -> anyhow::Result<()> {
    let mut world = World::start(Engine::Cluster, &[]).await?;
    world.publish(THOUSANDS).await?;
    let mut beside = world.service.beside().await?;
    let id = replay(&world.service.admin()?, &json!({ "all": true })).await?;
    let seen = under_way(&world, &id).await?;
    let owner = world
        .one(&format!("SELECT owner FROM rebuilds WHERE id = '{id}'"))
        .await?
        .context("nobody works at the replay")?;
    ensure!(seen["status"] == "running", "{seen:#}");
    let (pid, _) = owner.split_once('-').context("an owner")?;
    let survivor = if pid == beside.pid().to_string() {
        beside.kill().await?;
        world.service.admin()?
    } else {
        ensure!(
            pid == world.service.pid().to_string(),
            "{owner} is neither process"
        );
        world.service.kill().await?;
        beside.admin()?
    };
    let replay = ended(&survivor, &id).await?;
    ensure!(
        replay["status"] == "completed" && replay["differences"] == json!([]),
        "{replay:#}"
    );
    // What the survivor serves is what the log gives, written to by it alone now.
    let id = crate::world::replay(&survivor, &json!({ "all": true, "switch": false })).await?;
    let proof = ended(&survivor, &id).await?;
    ensure!(
        text(&proof, "status")? == "completed" && proof["differences"] == json!([]),
        "{proof:#}"
    );
    Ok(())
}

/// Stopped wherever it was, it comes back when another has gone on, into tables that are not live any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_process_comes_back_and_sees_that_it_was_overtaken() -> anyhow::Result<()> {
    let world = World::start(Engine::Cluster, &[("TIDINGS_CONSISTENCY_WAIT", "5s")]).await?;
    let mut beside = world.service.beside().await?;
    let (mut met, mut tries) = (0, 0);
    while met < 3 {
        tries += 1;
        ensure!(tries < 20, "it was met {met} times only");
        world.user(&format!("before{tries}")).await?;
        beside.signal("STOP")?;
        let (_, position) = world.user(&format!("after{tries}")).await?;
        // Where it was stopped within a transaction, others wait for its end, as they must.
        let goes_on = get_after(&world.api()?, "/v1/users", &position).await?.status == 200;
        if goes_on {
            world.replayed(&json!({ "projections": ["users"] })).await?;
            met += 1;
        }
        beside.signal("CONT")?;
    }
    ensure!(world.projection("users").await?["generation"] == met);
    let (_, position) = world.user("last").await?;
    for api in [world.api()?, beside.tenant(&world.key)?] {
        get_after(&api, "/v1/users", &position).await?.expect(200)?;
    }
    world.verified().await?;
    Ok(())
}
