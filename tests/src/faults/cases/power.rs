//! The power of the machine that NATS runs on is cut: what was not synced is gone.

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::process::AFTERWARDS;
use crate::faults::world::World;

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

/// The same with a server that syncs as it does by itself, every two minutes. Clients rest before, so that the archive
/// has every commit; what clients published is in no archive.
pub(super) fn cut_unsynced(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
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

async fn cut_power(world: &mut World) -> anyhow::Result<()> {
    world.freeze_nats().await?;
    let copy = world.disk()?.copy()?;
    world.nats()?.kill().await?;
    world.disk()?.put_back(copy)
}
