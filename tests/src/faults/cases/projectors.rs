//! What happens to those who fold the log.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use super::process::AFTERWARDS;
use crate::faults::world::{PATIENCE, World};
use crate::processes;

/// Two processes fold, serve and deliver. The first stands still in the middle of it, longer than its leases are good
/// for in the eyes of the database, while clients go on with the second; then it comes back and believes that no time
/// has passed.
pub(super) fn pause_one(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        let mut second = world.service.beside().await?;
        world.moment().await?;
        world.service.signal("STOP")?;
        processes::stopped(world.service.pid()).await?;
        world.call_at(second.url());
        world.acknowledged(AFTERWARDS).await?;
        world.lasting(1_000..6_000).await;
        world.heal();
        world.service.signal("CONT")?;
        world.acknowledged(AFTERWARDS).await?;
        // Clients go back to the one that stood still; whatever the second has in hand, it ends in order.
        world.call_at(world.service.url());
        second.terminate().await?;
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// A replay of everything is killed at a moment of its own that is drawn, which may be in any of its phases: how long
/// one takes here is measured before. It goes on after the restart.
pub(super) fn kill_replaying(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        let began = Instant::now();
        let undisturbed = replay(world).await?;
        ended(world, &undisturbed).await?;
        let whole = u64::try_from(began.elapsed().as_millis())?;
        let id = replay(world).await?;
        world.lasting(0..whole.max(1)).await;
        world.service.kill().await?;
        world.heal();
        world.restart().await?;
        let replay = ended(world, &id).await?;
        ensure!(
            replay["status"] == "completed" && replay["differences"] == json!([]),
            "the replay ended as {replay:#}"
        );
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// Behind the service's back a user gets another name, which the log knows nothing of.
pub(super) fn tamper(world: &mut World) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    async move {
        world.moment().await?;
        world.rest().await?;
        ensure!(world.settled().await?, "the read models never stood");
        let sql = "UPDATE users SET name = 'Mallory' WHERE id = (SELECT max(id) FROM users)";
        let changed = if let Some(database) = world.service.database() {
            let mut connection = PgConnection::connect(&database.url).await?;
            sqlx::query(sql).execute(&mut connection).await?.rows_affected()
        } else {
            let options = SqliteConnectOptions::new()
                .filename(world.service.data().join("read.db"))
                .busy_timeout(PATIENCE);
            let mut connection = SqliteConnection::connect_with(&options).await?;
            sqlx::query(sql).execute(&mut connection).await?.rows_affected()
        };
        ensure!(changed > 0, "nothing was changed");
        world.heal();
        world.load();
        world.acknowledged(AFTERWARDS).await
    }
    .boxed_local()
}

/// Starts a replay of everything; answers its id.
async fn replay(world: &World) -> anyhow::Result<String> {
    let admin = world.service.admin()?;
    let started = admin.post("/v1/replays", &json!({ "all": true })).await?;
    let started = started.expect(202)?;
    Ok(started["id"].as_str().context("the replay's id")?.to_owned())
}

/// Waits until a replay is over, and answers it.
async fn ended(world: &World, id: &str) -> anyhow::Result<Value> {
    let (admin, deadline) = (world.service.admin()?, Instant::now() + PATIENCE);
    loop {
        let replay = admin.get(&format!("/v1/replays/{id}")).await?.expect(200)?;
        if is_over(&replay) {
            return Ok(replay);
        }
        ensure!(Instant::now() < deadline, "the replay never ended: {replay:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_over(replay: &Value) -> bool {
    ["completed", "failed", "cancelled"]
        .iter()
        .any(|status| replay["status"] == *status)
}
