//! What a disk's fault does to the log's files. Which of many harms it is goes by the seed, so that so many runs with
//! one seed after the other go through all of them.
//!
//! Where the log holds after the restart what it held before, there is nothing to notice, and everything must go on.
//! Otherwise it must be noticed in time, nothing may be acknowledged from then on, and `tidings restore` must bring
//! back what was there.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::operators::{self, ADVICE, STREAM};
use super::process::AFTERWARDS;
use crate::faults::world::World;
use crate::nats::operator;
use crate::service::Engine;
use patterns::{Before, Ended, PATTERNS, Pattern};

mod embedded;
mod files;
mod held;
mod patterns;
mod replica;

use held::Held;
pub(super) use replica::damage_replica;

/// How long damage may go unnoticed.
const NOTICED_WITHIN: Duration = Duration::from_mins(1);
/// How small a log may be that is kept in small files, and how many it must be in.
const SMALL: i64 = 100_000;
const SEVERAL: usize = 3;
/// How long a log must be seen to be away before that is believed.
const STEADY: Duration = Duration::from_secs(3);

/// The log's files change while nobody uses them.
pub(super) fn damage(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        match world.engine() {
            Engine::Embedded => embedded::damage(world).await,
            Engine::Cluster => damage_nats(world).await,
        }
    }
    .boxed_local()
}

async fn damage_nats(world: &mut World) -> anyhow::Result<()> {
    let pattern = world.turn(PATTERNS)?;
    world.note(pattern.name);
    match pattern.before {
        Before::Nothing => {}
        Before::SmallFiles => in_small_files(world).await?,
        Before::Copy => with_a_copy(world).await?,
    }
    operators::quiet(world).await?;
    let held = Held::by(&world.nats()?.url()).await?;
    harm(world, 0, pattern).await?;
    let since = Instant::now();
    world.nats()?.launch().await?;
    let there = world.nats()?.until_listening().await;
    let url = world.nats()?.url();
    if there && held.is_held_by(&url).await {
        world.note("the log is whole again by itself");
        world.heal();
        world.load();
        return world.acknowledged(AFTERWARDS).await;
    }
    let known = there && Held::created(&url).await.is_some();
    if known {
        noticed(world, since).await?;
        operators::refused(world).await?;
    } else {
        away(world, since).await?;
    }
    world.service.kill().await?;
    remove_rest(world).await?;
    world.heal();
    operators::made_again(world).await
}

/// Ends a server and harms its files.
async fn harm(world: &mut World, server: usize, pattern: &Pattern) -> anyhow::Result<()> {
    match pattern.ended {
        Ended::Killed => world.replica(server)?.kill().await?,
        Ended::Stopped => world.replica(server)?.stop().await?,
    }
    let store = world.replica(server)?.store();
    (pattern.harm)(&mut files::Files::of(&store, &mut world.dice))
}

/// Waits until it is told what to do about the log, and takes down how long that took.
async fn noticed(world: &mut World, since: Instant) -> anyhow::Result<()> {
    operators::noticed(world, ADVICE, NOTICED_WITHIN).await?;
    told_after(world, since);
    Ok(())
}

/// The same of a log that is not there: that it is away is all that can be told until the next start. Events that
/// tenants publish have a log of their own, and go on.
async fn away(world: &mut World, since: Instant) -> anyhow::Result<()> {
    operators::noticed(world, "", NOTICED_WITHIN).await?;
    told_after(world, since);
    tokio::time::sleep(STEADY).await;
    operators::noticed(world, "", Duration::ZERO).await?;
    world.load();
    world.lasting(500..1_500).await;
    world.rest().await
}

fn told_after(world: &mut World, since: Instant) {
    let after = since.elapsed();
    world.noticed = Some(after);
    world.note(format!("noticed after {:.2} s", after.as_secs_f64()));
}

/// Removes what is left of the log; by hand where the server does not know it any more.
async fn remove_rest(world: &mut World) -> anyhow::Result<()> {
    let nats = world.nats()?;
    if operator::delete(&nats.url(), STREAM).await.is_ok() {
        return Ok(());
    }
    nats.kill().await.ok();
    let folder = files::folder(&nats.store());
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    nats.restart().await
}

/// Has the log kept in small files from now on. A server makes them as large as a stream's limit asks when it opens
/// the stream; the limit is gone before the log comes near to it.
async fn in_small_files(world: &mut World) -> anyhow::Result<()> {
    let url = world.nats()?.url();
    operator::reconfigure(&url, STREAM, |config| config.max_bytes = SMALL).await?;
    world.nats()?.stop().await?;
    world.nats()?.restart().await?;
    operator::reconfigure(&url, STREAM, |config| config.max_bytes = -1).await?;
    let folder = files::folder(&world.nats()?.store());
    let deadline = Instant::now() + crate::faults::world::PATIENCE;
    while files::blocks(&folder)?.len() < SEVERAL {
        ensure!(Instant::now() < deadline, "the log never came to several files");
        world.acknowledged(AFTERWARDS).await?;
    }
    Ok(())
}

/// Keeps a copy of the log as it is at some moment of the run.
async fn with_a_copy(world: &mut World) -> anyhow::Result<()> {
    world.moment().await?;
    world.nats()?.stop().await?;
    files::keep(&world.nats()?.store())?;
    world.nats()?.restart().await?;
    world.both_logs_again().await
}
