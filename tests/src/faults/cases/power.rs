//! What happens to the disk of the log: its power is cut, so that what was not synced is gone; it is full; it does not
//! sync.

use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::process::AFTERWARDS;
use crate::faults::syncs::FailingSyncs;
use crate::faults::world::World;
use crate::processes;

/// How long whoever supervises a server takes to see that it is not well.
const SUPERVISED: Duration = Duration::from_secs(2);

/// The server is held still, its disk is copied as it is, the server is killed, and goes on with the copy.
pub(super) fn cut(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        cut_power(world).await?;
        world.heal();
        world.nats()?.restart().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// The power of the embedded engine's machine is cut, with everything that it has.
pub(super) fn cut_embedded(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        world.service.signal("STOP")?;
        processes::stopped(world.service.pid()).await?;
        let copy = world.disk()?.copy()?;
        world.service.kill().await?;
        world.disk()?.put_back(copy)?;
        world.heal();
        world.restart().await?;
        world.both_logs_again().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// Something else takes all the room on the log's disk, for a while.
pub(super) fn fill(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        world.disk()?.fill()?;
        world.lasting(2_000..10_000).await;
        world.heal();
        world.disk()?.make_room()?;
        supervise(world).await?;
        world.both_logs_again().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// The log's disk answers every fsync with an error for a while.
pub(super) fn fail_syncs(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        let pid = match world.nats() {
            Ok(nats) => nats.pid().context("NATS does not run")?,
            Err(_) => world.service.pid(),
        };
        let failing = FailingSyncs::of(pid).await?;
        world.without_log(1_000..6_000).await;
        world.heal();
        failing.end().await?;
        supervise(world).await?;
        world.both_logs_again().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// The same with a server that syncs as it does by itself, every two minutes. Clients rest before, so that the archive
/// has every commit; what clients published is in no archive. What was there before is kept: a server that lost that its
/// streams were made would not come back at all.
pub(super) fn cut_unsynced(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.disk()?.sync()?;
        super::operators::quiet(world).await?;
        cut_power(world).await?;
        world.service.kill().await?;
        world.heal();
        world.nats()?.restart().await?;
        let (_, said) = world.service.run(&["restore"]).await?;
        world
            .restart()
            .await
            .with_context(|| format!("after a restore that said: {said}"))?;
        world.load();
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// Starts NATS again if it says that it is not well, as whoever supervises it does: after a write that failed it
/// answers nothing more until then.
async fn supervise(world: &mut World) -> anyhow::Result<()> {
    let Ok(nats) = world.nats() else { return Ok(()) };
    tokio::time::sleep(SUPERVISED).await;
    if !nats.is_healthy().await {
        eprintln!("  NATS says that it is not well, and is started again");
        nats.restart().await?;
    }
    Ok(())
}

async fn cut_power(world: &mut World) -> anyhow::Result<()> {
    world.freeze_nats().await?;
    let copy = world.disk()?.copy()?;
    world.nats()?.kill().await?;
    world.disk()?.put_back(copy)
}
