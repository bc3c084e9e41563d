//! What happens to the log itself, by an operator's hand or a disk's fault: it must be noticed, nothing may be
//! acknowledged from then on, and `tidings restore` must bring back what was there.

use std::time::{Duration, Instant};

use anyhow::ensure;
use async_nats::jetstream::stream;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::process::AFTERWARDS;
use crate::faults::world::World;
use crate::nats::operator;

/// The log of events, as NATS knows it.
pub(super) const STREAM: &str = "TIDINGS_EVENTS-0";
/// That and the log of what tenants publish, each with who may take its subjects.
const LOGS: [(&str, &str); 2] = [(STREAM, "OTHER-1"), ("TIDINGS_MESSAGES-0", "OTHER-2")];
/// How long it may take until the service notices: it looks every two seconds, and a busy machine is given more.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

pub(super) fn purge(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        quiet(world).await?;
        let url = world.nats()?.url();
        operator::purge(&url, STREAM).await?;
        noticed(world, ADVICE, NOTICED_WITHIN).await?;
        refused(world).await?;
        restored(world, Some(STREAM)).await
    }
    .boxed_local()
}

pub(super) fn delete(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        quiet(world).await?;
        let url = world.nats()?.url();
        operator::delete(&url, STREAM).await?;
        // There is no log to be distrusted; that it is away is all that can be told until the next start.
        noticed(world, "", NOTICED_WITHIN).await?;
        // Events that tenants publish have a log of their own, which is still there: they go on. What is acknowledged
        // of commands without having been stored is found missing in the end.
        world.load();
        world.lasting(500..1_500).await;
        world.rest().await?;
        restored(world, None).await
    }
    .boxed_local()
}

/// The log keeps three records from now on.
pub(super) fn limit(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    forgetting(world, |config| {
        config.max_messages = 3;
        config.discard = stream::DiscardPolicy::Old;
    })
    .boxed_local()
}

/// The log keeps records for a second from now on.
pub(super) fn age(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    forgetting(world, |config| {
        config.max_age = Duration::from_secs(1);
        config.duplicate_window = Duration::from_secs(1);
    })
    .boxed_local()
}

async fn forgetting(world: &mut World, change: fn(&mut stream::Config)) -> anyhow::Result<()> {
    quiet(world).await?;
    let url = world.nats()?.url();
    operator::reconfigure(&url, STREAM, change).await?;
    noticed(world, ADVICE, NOTICED_WITHIN).await?;
    refused(world).await?;
    restored(world, Some(STREAM)).await
}

/// Under load both logs lose their subjects, so that nobody takes what is written; then they have them again.
pub(super) fn unroute(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    diverted(world, false).boxed_local()
}

/// The same, and other streams take what is written, and acknowledge it.
pub(super) fn divert(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    diverted(world, true).boxed_local()
}

async fn diverted(world: &mut World, taken: bool) -> anyhow::Result<()> {
    world.moment().await?;
    let url = world.nats()?.url();
    let mut subjects = Vec::new();
    for (log, other) in LOGS {
        subjects.push(operator::divert(&url, log, taken.then_some(other)).await?);
    }
    world.without_log(500..5_000).await;
    world.heal();
    for ((log, other), subjects) in LOGS.into_iter().zip(subjects) {
        if taken {
            operator::delete(&url, other).await?;
        }
        operator::reconfigure(&url, log, |config| config.subjects = subjects).await?;
    }
    world.both_logs_again().await?;
    world.acknowledged(AFTERWARDS).await
}

/// What operators are told of a log that is not what it was.
pub(super) const ADVICE: &str = "tidings restore";

/// Lets clients work and then rest, until the archive has everything that they were told is there.
pub(super) async fn quiet(world: &mut World) -> anyhow::Result<()> {
    world.moment().await?;
    rested(world).await
}

/// The same without letting them work before.
pub(super) async fn rested(world: &mut World) -> anyhow::Result<()> {
    world.rest().await?;
    ensure!(world.settled().await?, "the read models never stood");
    Ok(())
}

/// Waits until readiness says that something is wrong with the log, and this of it.
pub(super) async fn noticed(world: &World, told: &str, within: Duration) -> anyhow::Result<()> {
    let (anyone, deadline) = (world.service.anyone()?, Instant::now() + within);
    loop {
        let report = anyone.get("/health/ready").await?;
        let body = report.json()?;
        let log = &body["parts"]["log"];
        let detail = log["detail"].as_str().unwrap_or_default();
        if report.status == 503 && log["ready"] == false && detail.contains(told) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "it was never noticed: {body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Lets clients try: what is acknowledged now is acknowledged without a log.
pub(super) async fn refused(world: &mut World) -> anyhow::Result<()> {
    world.load();
    world.without_log(500..1_500).await;
    world.rest().await
}

/// Makes the log again from its archive, without what is left of it where that is named, and goes on.
async fn restored(world: &mut World, left: Option<&str>) -> anyhow::Result<()> {
    world.service.kill().await?;
    if let Some(stream) = left {
        let url = world.nats()?.url();
        operator::delete(&url, stream).await?;
    }
    world.heal();
    made_again(world).await
}

/// The service has ended, and nothing is left of the log that is not as it was: it is made again from its archive.
pub(super) async fn made_again(world: &mut World) -> anyhow::Result<()> {
    let (status, said) = world.service.run(&["restore"]).await?;
    ensure!(status.success(), "tidings restore: {status}: {said}");
    world.restart().await?;
    world.load();
    world.acknowledged(AFTERWARDS).await
}
