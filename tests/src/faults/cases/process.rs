//! What happens to the service's own process.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use crate::faults::evidence::Span;
use crate::faults::world::{PATIENCE, Tenant, World};
use crate::receiver::{Answer, Received};

/// How many commands must be acknowledged after a fault before a run is brought to its end.
pub(super) const AFTERWARDS: u64 = 20;

pub(super) fn kill(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        for _ in 0..world.dice.number(1..4) {
            world.moment().await?;
            world.service.kill().await?;
            world.heal();
            world.restart().await?;
        }
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// Asks the service to end, and notes how long that took: what was accepted meanwhile must be answered (O10).
pub(super) async fn end_in_order(world: &mut World) -> anyhow::Result<()> {
    let from = world.recorder.now();
    let status = world.service.terminate().await?;
    let to = world.recorder.now();
    ensure!(
        status.success(),
        "it did not end in order: {status}\n{}",
        world.service.output()
    );
    world.ending.push(Span { from, to });
    Ok(())
}

pub(super) fn terminate(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        end_in_order(world).await?;
        world.heal();
        world.restart().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// Another program has the log's file for itself, as a backup or an operator's shell may.
pub(super) fn lock_log(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        let options = SqliteConnectOptions::new()
            .filename(world.service.data().join("log.db"))
            .busy_timeout(PATIENCE);
        let mut other = SqliteConnection::connect_with(&options).await?;
        other.execute("BEGIN IMMEDIATE").await?;
        world.without_log(500..2_500).await;
        world.heal();
        other.execute("ROLLBACK").await?;
        other.close().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// The receiver has a webhook in full and has not answered it, so nothing of it is recorded: then the end comes.
pub(super) fn kill_while_sending(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        let paths: Vec<_> = world.tenants.iter().map(Tenant::path).collect();
        for path in &paths {
            world
                .receiver
                .script(path, [Answer::After(Duration::from_secs(1))]);
        }
        // Those that came before may be answered at once; of these the last is not.
        let before = world.receiver.received().len();
        let more = usize::try_from(world.dice.number(4..12))?;
        let received = world.receiver.wait_for(before + more, PATIENCE).await?;
        world.service.kill().await?;
        let last = received.last().context("a webhook")?.webhook_id().to_owned();
        for path in &paths {
            world.receiver.script(path, [Answer::Status(200)]);
        }
        world.heal();
        world.restart().await?;
        world.acknowledged(AFTERWARDS).await?;
        // What was under way comes again when its lease ends; nobody needs to write until then.
        world.rest().await?;
        let twice = |received: &[Received]| {
            let times = received.iter().filter(|webhook| webhook.webhook_id() == last);
            times.count() > 1
        };
        world
            .receiver
            .wait_until(PATIENCE, twice)
            .await
            .with_context(|| format!("{last} was sent, not recorded, and never sent again"))?;
        Ok(())
    }
    .boxed_local()
}
