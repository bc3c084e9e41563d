//! A record that no program can read gets into the log.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use broker::layout::Log;
use broker::{NewRecord, Subject};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use reqwest::Method;

use super::process::AFTERWARDS;
use crate::faults::collect::PLANTED;
use crate::faults::world::{PATIENCE, World};

/// One tenant waits behind the record, which is told; the other goes on, commands of both do, and when an operator has
/// said that the record is to be passed over, everything is known again.
pub(super) fn plant(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        let position = append(world).await?;
        told(world, &position).await?;
        world.both_logs_again().await?;
        neighbour_knows(world).await?;
        world.heal();
        pass_over(world, &position).await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// Writes the record; answers where it stands. A data folder serves one process at a time.
async fn append(world: &mut World) -> anyhow::Result<String> {
    let embedded = world.nats().is_err();
    if embedded {
        world.service.terminate().await?;
    }
    let tenant = &world.tenants.first().context("a tenant")?.id;
    let record = NewRecord {
        subject: Subject::new(format!("ev.{tenant}.user.usr_01ARZ3NDEKTSV4RRFFQ69G5FAV"))?,
        message_id: format!("{tenant}:{PLANTED}"),
        expect: None,
        payload: Bytes::from_static(b"\xc1 is no commit"),
    };
    let engine = world.service.engine().await?;
    let appended = engine.log(Log::Events(0)).append(vec![record]).await?;
    engine.close().await;
    if embedded {
        world.restart().await?;
    }
    let sequence = appended.first().context("nothing was appended")?.sequence;
    Ok(format!("e0-{sequence}"))
}

/// Waits until the list of projections tells of it.
async fn told(world: &World, position: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !parked(world).await?.iter().any(|at| at == position) {
        ensure!(Instant::now() < deadline, "nobody tells of the record {position}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Where tenants wait, of any projection.
async fn parked(world: &World) -> anyhow::Result<Vec<String>> {
    let listed = world.service.admin()?.get("/v1/projections").await?.expect(200)?;
    let rows = listed["data"].as_array().context("projections")?;
    let parked = rows.iter().filter_map(|row| row["parked"].as_array()).flatten();
    let positions = parked.filter_map(|parked| parked["position"].as_str());
    Ok(positions.map(str::to_owned).collect())
}

/// Waits until a query of the other tenant knows all that was acknowledged.
async fn neighbour_knows(world: &World) -> anyhow::Result<()> {
    let key = &world.tenants.get(1).context("another tenant")?.key;
    let (api, deadline) = (world.service.tenant(key)?, Instant::now() + PATIENCE);
    let position = world.recorder.position();
    loop {
        let at_least = [("tidings-at-least", position.as_str())];
        let reply = api
            .call(Method::GET, "/v1/users?limit=1", None, &at_least)
            .await?;
        if reply.status == 200 {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "the neighbour waits too: {}",
            reply.status
        );
    }
}

/// An operator decides, for every projection that has come to the record, until none waits at it.
async fn pass_over(world: &World, position: &str) -> anyhow::Result<()> {
    let tenant = &world.tenants.first().context("a tenant")?.id;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let who = ["projections", "skip", "--all", "--tenant", tenant.as_str()];
        let what = ["--position", position, "--reason", "nobody wrote it"];
        let place = ["--url", world.service.url()];
        let (_, said) = world.service.run(&[&who[..], &what, &place].concat()).await?;
        if parked(world).await?.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "it is still waited for: {said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
