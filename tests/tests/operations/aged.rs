//! A log of messages that has dropped its oldest records, as it does by their age.

use anyhow::{Context, ensure};
use tests::service::Engine;

use crate::world::{World, get_after};

/// A service that has published 2,000 events, the first half of which its log has dropped.
async fn forgetful() -> anyhow::Result<World> {
    let mut world = World::start(Engine::Cluster, &[]).await?;
    world.publish(2).await?;
    let nats = world.service.nats().context("the cluster engine has a server")?;
    let client = async_nats::connect(nats.url()).await?;
    let log = async_nats::jetstream::new(client)
        .get_stream("TIDINGS_MESSAGES-0")
        .await?;
    log.purge().sequence(1_001).await?;
    Ok(world)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_log_has_dropped_is_neither_lost_nor_called_wrong() -> anyhow::Result<()> {
    let world = forgetful().await?;
    let total =
        async || anyhow::Ok(world.api()?.get("/v1/stats").await?.expect(200)?["total_events"].clone());
    ensure!(total().await? == 2_000);
    let (status, output) = world.run(&["verify"]).await?;
    ensure!(
        status.success() && output.contains("every other row is what the log gives"),
        "{output}"
    );
    ensure!(
        output.contains("– stats: rows of stats_totals not compared: the log no longer has"),
        "{output}"
    );
    ensure!(output.contains("rows of series_events not compared"), "{output}");
    ensure!(
        !output.contains("rows of messages not compared"),
        "each is made by a record, or taken over: {output}"
    );
    let (status, output) = world.run(&["replay", "--all"]).await?;
    ensure!(
        status.success() && output.contains("rows of stats_totals not compared"),
        "{output}"
    );
    ensure!(total().await? == 2_000, "the replay has lost events");
    let generation = &world.projection("messages").await?["generation"];
    let stored = world
        .one(&format!("SELECT count(*) FROM messages_g{generation}"))
        .await?;
    ensure!(
        stored.as_deref() == Some("2000"),
        "{stored:?} rows of 2,000 messages"
    );
    // What comes after it is counted on.
    world.publish(1).await?;
    ensure!(total().await? == 3_000);

    // What other logs have made of the same tables is compared.
    let (_, position) = world.user("ada").await?;
    get_after(&world.api()?, "/v1/stats", &position)
        .await?
        .expect(200)?;
    let generation = &world.projection("stats").await?["generation"];
    let changed = format!("UPDATE stats_totals_g{generation} SET total = 9 WHERE name = 'users'");
    ensure!(world.sql(&changed).await? == 1);
    let (status, output) = world.run(&["verify"]).await?;
    ensure!(
        status.code() == Some(1) && output.contains("✗ stats: the live table stats_totals"),
        "{output}"
    );
    Ok(())
}
