//! What happens to the service's time of day.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::process::AFTERWARDS;
use crate::faults::world::World;

/// How far it goes wrong at most: receivers rightly refuse a webhook that says it is five minutes old or more.
const AWAY: u64 = 240;

/// It is set forwards and backwards, several times, and then right again.
pub(super) fn jump(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        for _ in 0..world.dice.number(2..6) {
            let place = world.dice.number(0..2 * AWAY);
            world.clock()?.set(place.cast_signed() - AWAY.cast_signed())?;
            world.acknowledged(5).await?;
            world.lasting(200..2_000).await;
        }
        world.heal();
        world.clock()?.set(0)?;
        world.both_logs_again().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}
