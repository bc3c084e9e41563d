//! What happens to three NATS servers that keep three copies of every stream.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::process::AFTERWARDS;
use crate::faults::world::World;
use crate::nats::leader;
use crate::processes;
use crate::proxy::Fault;

/// The log of events, as NATS knows it.
const STREAM: &str = "TIDINGS_EVENTS-0";
const SERVERS: [usize; 3] = [0, 1, 2];
/// How long a lost leader may be missed.
const LED_AGAIN_WITHIN: Duration = Duration::from_secs(10);

/// The server that leads the log is killed. Another must lead it, without anybody's help, before it is started again.
pub(super) fn kill_leader(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        let leader = leading(world).await?;
        world.within = Some(LED_AGAIN_WITHIN);
        world.replica(leader)?.kill().await?;
        // What is measured is how long it is missed.
        world.heal();
        world.both_logs_again().await?;
        world.replica(leader)?.restart().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// The server that leads the log stands still, longer than the others wait for it, and comes back believing that it
/// leads.
pub(super) fn pause_leader(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        let leader = leading(world).await?;
        freeze(world, leader).await?;
        world.heal();
        world.both_logs_again().await?;
        world.lasting(0..2_000).await;
        world.replica(leader)?.signal("CONT")?;
        world.replica(leader)?.until_healthy().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// Nothing passes between the server that leads the log and the others, nor between it and clients: first it leads, and
/// they do not know; then another does, and it does not know. What was held back arrives, or is lost with connections.
pub(super) fn isolate_leader(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        let leader = leading(world).await?;
        let fault = if world.dice.percent(50) {
            Fault::HalfOpen
        } else {
            Fault::Refuse
        };
        world.replicas()?.isolate(leader, fault);
        world.heal();
        world.both_logs_again().await?;
        world.lasting(0..2_000).await;
        world.replicas()?.isolate(leader, Fault::None);
        world.replica(leader)?.until_healthy().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// Two of three stand still: the third must not take it upon itself.
pub(super) fn pause_majority(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        let left = usize::try_from(world.dice.number(0..3))?;
        let frozen = SERVERS.into_iter().filter(|server| *server != left);
        for server in frozen.clone() {
            freeze(world, server).await?;
        }
        world.without_log(1_000..15_000).await;
        world.heal();
        for server in frozen {
            world.replica(server)?.signal("CONT")?;
        }
        world.both_logs_again().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// All three are killed at once, and started again.
pub(super) fn kill_all(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        for server in SERVERS {
            world.replica(server)?.kill().await?;
        }
        world.without_log(200..1_500).await;
        world.heal();
        for server in SERVERS {
            world.replica(server)?.launch().await?;
        }
        world.both_logs_again().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// The number of the server that leads the log.
pub(super) async fn leading(world: &mut World) -> anyhow::Result<usize> {
    let mut urls = Vec::new();
    for server in SERVERS {
        urls.push(world.replica(server)?.url());
    }
    leader(&urls, STREAM).await
}

/// Holds a server still and waits until it is.
async fn freeze(world: &mut World, server: usize) -> anyhow::Result<()> {
    let server = world.replica(server)?;
    server.signal("STOP")?;
    processes::stopped(server.pid().unwrap_or_default()).await
}
