//! One of three servers comes back with a damaged copy of the log.

use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::held::Held;
use super::patterns::{Before, PATTERNS, Pattern};
use super::{files, harm, noticed};
use crate::faults::cases::operators::{self, ADVICE, STREAM};
use crate::faults::cases::process::AFTERWARDS;
use crate::faults::cases::replicas;
use crate::faults::world::World;
use crate::nats::{operator, server_name};

/// How long the damaged server may take until it says that it is well, which it may never do, …
const WELL: Duration = Duration::from_secs(30);
/// … and to be made the leader.
const LED: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Under load one server goes, its copy of the log is damaged, and it comes back; then it is made the log's leader. It
/// must have what the others have, or it must be noticed that it has not.
pub(in crate::faults::cases) fn damage_replica(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        let patterns: Vec<&Pattern> = PATTERNS
            .iter()
            .filter(|pattern| pattern.before != Before::SmallFiles)
            .collect();
        let pattern = *world.turn(&patterns)?;
        let server = usize::try_from(world.dice.number(0..3))?;
        world.note(format!("server {server}: {}", pattern.name));
        if pattern.before == Before::Copy {
            world.moment().await?;
            world.replica(server)?.stop().await?;
            files::keep(&world.replica(server)?.store())?;
            world.replica(server)?.restart().await?;
        }
        world.moment().await?;
        harm(world, server, pattern).await?;
        world.both_logs_again().await?;
        world.acknowledged(AFTERWARDS).await?;
        world.replica(server)?.launch().await?;
        world.heal();
        world.both_logs_again().await?;
        if !well(world, server).await? {
            world.note("the server does not say that it is well");
        }
        // What is in the log now must be there whoever leads it.
        operators::rested(world).await?;
        let held = Held::by(&world.replica((server + 1) % 3)?.url()).await?;
        let led = lead(world, server).await?;
        // Of a copy that does not lead nobody learns anything.
        let since = Instant::now();
        world.note(if led {
            "it leads"
        } else {
            "it was not made the leader"
        });
        let url = world.replica((server + 1) % 3)?.url();
        if held.is_held_by(&url).await && !is_distrusted(world).await? {
            world.note("the log is whole");
            world.heal();
            world.load();
            world.both_logs_again().await?;
            return world.acknowledged(AFTERWARDS).await;
        }
        noticed(world, since).await?;
        operators::refused(world).await?;
        world.service.kill().await?;
        operator::delete(&url, STREAM).await?;
        world.heal();
        operators::made_again(world).await
    }
    .boxed_local()
}

/// Waits until the server says that it is well; whether it does.
async fn well(world: &mut World, server: usize) -> anyhow::Result<bool> {
    let deadline = Instant::now() + WELL;
    loop {
        if world.replica(server)?.is_healthy().await {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Has the others give the log's lead to the server; whether it has it then.
async fn lead(world: &mut World, server: usize) -> anyhow::Result<bool> {
    let deadline = Instant::now() + LED;
    loop {
        if replicas::leading(world).await? == server {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        let url = world.replica((server + 1) % 3)?.url();
        operator::step_down(&url, STREAM, &server_name(server)).await.ok();
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether the service says now that it does not trust the log.
async fn is_distrusted(world: &World) -> anyhow::Result<bool> {
    Ok(operators::noticed(world, ADVICE, Duration::ZERO).await.is_ok())
}
