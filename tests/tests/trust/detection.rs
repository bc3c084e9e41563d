//! What happens to a log is noticed: while the service runs, and between two starts.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tests::for_each_engine;
use tests::receiver::{Answer, Receiver};
use tests::service::Engine;

use crate::faults;
use crate::world::{Archived, PATIENCE, World};

for_each_engine! {
    /// The archive has every record of the log to the byte, claims included.
    async fn the_archive_is_the_log(engine: Engine) {
        let mut world = World::start(engine).await?;
        world.service.terminate().await?;
        let log: Vec<_> = world.service.events().await?.iter().map(Archived::of).collect();
        let archive = world.archive().await?;
        ensure!(log.iter().any(|record| record.subject.starts_with("uq.")), "no claim in {log:?}");
        assert_eq!(archive, log);
        Ok(())
    }

    async fn a_log_cut_off_under_the_service_is_refused(engine: Engine) {
        let mut world = World::start(engine).await?;
        faults::truncate(&mut world, 5).await?;
        let told = world.assert_refuses().await?;
        ensure!(told.contains("EVENTS-0"), "{told}");
        world.service.kill().await?;
        world.assert_does_not_start().await?;
        Ok(())
    }

    async fn a_record_rewritten_under_the_service_is_refused(engine: Engine) {
        let mut world = World::start(engine).await?;
        let end = world.archive().await?.len() as u64;
        faults::rewrite(&mut world, end).await?;
        let told = world.assert_refuses().await?;
        let expected = match engine {
            Engine::Embedded => "was rewritten",
            Engine::Cluster => "another one under the same name",
        };
        ensure!(told.contains(expected), "{told}");
        world.service.kill().await?;
        world.assert_does_not_start().await?;
        Ok(())
    }

    async fn a_log_lost_between_two_starts_is_refused(engine: Engine) {
        let mut world = World::start(engine).await?;
        world.service.terminate().await?;
        faults::lose(&mut world).await?;
        let told = world.assert_does_not_start().await?;
        ensure!(told.contains("another one under the same name"), "{told}");
        Ok(())
    }

    async fn a_log_cut_off_between_two_starts_is_refused(engine: Engine) {
        let mut world = World::start(engine).await?;
        world.service.terminate().await?;
        faults::truncate(&mut world, 5).await?;
        world.assert_does_not_start().await?;
        Ok(())
    }

    /// No webhook is sent any more, however many wait.
    async fn deliveries_stop_with_the_log(engine: Engine) {
        let receiver = Receiver::start().await?;
        receiver.script("/hook", [Answer::Status(500)]);
        let every_second = ["1s"; 40].join(",");
        let mut world = World::start_with(engine, &[("TIDINGS_RETRY_SCHEDULE", &every_second)]).await?;
        let endpoint = json!({ "url": receiver.url("/hook"), "event_types": ["*"] });
        world.api()?.post("/v1/endpoints", &endpoint).await?.expect(201)?;
        world.publish(3).await?;
        receiver.wait_for(6, PATIENCE).await?;
        faults::truncate(&mut world, 5).await?;
        world.assert_refuses().await?;
        // What was under way may still come in.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = receiver.received().len();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(receiver.received().len(), before, "it goes on delivering");
        Ok(())
    }

    /// Nothing is wrong with a log that is only started again, grows, or is new.
    async fn a_sound_log_is_never_refused(engine: Engine) {
        let mut world = World::start(engine).await?;
        for _ in 0..2 {
            world.service.terminate().await?;
            world.service.restart().await?;
            world.grow(3).await?;
        }
        world.service.kill().await?;
        if let Some(nats) = world.service.nats() {
            nats.restart().await?;
        }
        world.service.restart().await?;
        world.grow(1).await?;
        assert_eq!(world.listed().await?, world.users());
        let output = world.service.output();
        ensure!(!output.contains("The log EVENTS-0"), "{output}");
        Ok(())
    }
}

/// What is changed in the middle shows to nobody who looks at the ends of a log. Put right, it is trusted again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_rewritten_in_the_middle_is_refused() -> anyhow::Result<()> {
    let mut world = World::start(Engine::Embedded).await?;
    let copy = world.service.data().join("sound.db");
    faults::copy_log(&world, &copy).await?;
    faults::rewrite(&mut world, 5).await?;
    let told = world.assert_refuses().await?;
    ensure!(told.contains("was rewritten: record 5"), "{told}");
    world.service.kill().await?;
    let told = world.assert_does_not_start().await?;
    ensure!(told.contains("was rewritten: record 5"), "{told}");
    faults::lose(&mut world).await?;
    std::fs::rename(&copy, world.service.data().join("log.db"))?;
    world.service.restart().await?;
    world.grow(1).await?;
    Ok(())
}

/// Somebody with the rights to it purges the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_stream_is_refused() -> anyhow::Result<()> {
    let mut world = World::start(Engine::Cluster).await?;
    faults::purge(&mut world).await?;
    let told = world.assert_refuses().await?;
    ensure!(told.contains("has lost records"), "{told}");
    world.service.kill().await?;
    world.assert_does_not_start().await?;
    Ok(())
}

/// An older copy of the server's disk is put back: the same stream, ended earlier.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_servers_disk_is_refused() -> anyhow::Result<()> {
    let mut world = World::start(Engine::Cluster).await?;
    let Some(nats) = world.service.nats() else {
        anyhow::bail!("no server")
    };
    let store = nats.store();
    nats.stop().await?;
    let copy = store.with_extension("older");
    faults::copy(&store, &copy)?;
    nats.restart().await?;
    world.grow(5).await?;
    let Some(nats) = world.service.nats() else {
        anyhow::bail!("no server")
    };
    nats.stop().await?;
    std::fs::remove_dir_all(&store)?;
    std::fs::rename(&copy, &store)?;
    nats.restart().await?;
    let told = world.assert_refuses().await?;
    ensure!(told.contains("has gone backwards"), "{told}");
    world.service.kill().await?;
    world.assert_does_not_start().await?;
    Ok(())
}
