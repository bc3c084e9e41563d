//! An installation gets the program of today in the place of an earlier one.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::process::{AFTERWARDS, end_in_order};
use crate::faults::world::World;

/// On the embedded engine one ends and the other starts. On the cluster engine the tables are brought up to date while
/// the earlier program serves, both serve for a while, and then the earlier one ends.
pub(super) fn upgrade(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        world.service.upgrade().await?;
        let mut beside = None;
        if world.nats().is_ok() {
            world.acknowledged(AFTERWARDS).await?;
            let newer = world.service.beside().await?;
            world.call_at(newer.url());
            world.acknowledged(AFTERWARDS).await?;
            beside = Some(newer);
        }
        end_in_order(world).await?;
        world.heal();
        world.restart().await?;
        if let Some(mut newer) = beside {
            newer.terminate().await?;
        }
        world.both_logs_again().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}
