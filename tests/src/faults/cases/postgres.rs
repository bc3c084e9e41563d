//! What happens to the PostgreSQL server: the log is there all the while, the read models are not.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::process::AFTERWARDS;
use crate::faults::world::World;

pub(super) fn stop(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        world.postgres()?.stop().await?;
        world.lasting(300..3_000).await;
        world.heal();
        world.postgres()?.restart().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

pub(super) fn kill(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        world.postgres()?.kill().await?;
        world.lasting(0..1_000).await;
        world.heal();
        world.postgres()?.restart().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

pub(super) fn pause(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        world.postgres()?.signal("STOP")?;
        world.lasting(1_000..8_000).await;
        world.heal();
        world.postgres()?.signal("CONT")?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}
