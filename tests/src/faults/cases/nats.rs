//! What happens to the NATS server.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::process::AFTERWARDS;
use crate::faults::world::World;

pub(super) fn kill(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        for _ in 0..world.dice.number(1..4) {
            world.moment().await?;
            world.nats()?.kill().await?;
            world.without_log(200..1_500).await;
            world.heal();
            world.nats()?.restart().await?;
        }
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

pub(super) fn pause(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        world.freeze_nats().await?;
        world.without_log(500..8_000).await;
        world.heal();
        world.nats()?.signal("CONT")?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}
