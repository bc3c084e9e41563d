//! What a disk, or whoever has hold of it, can do to a log.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use async_nats::jetstream;
use bytes::Bytes;
use sqlx::{Executor, SqliteConnection};
use tests::nats::operator;
use tests::service::{Engine, Tidings};

use crate::world::{World, sqlite};

const STREAM: &str = "TIDINGS_EVENTS-0";

/// The place of the first record of the first log in the embedded engine's file, less one.
const PLACES: i64 = 1 << 45;

async fn log_db(service: &Tidings) -> anyhow::Result<SqliteConnection> {
    let mut connection = sqlite(&service.data().join("log.db")).await?;
    connection
        .execute(
            "DROP TRIGGER IF EXISTS records_are_never_changed; DROP TRIGGER IF EXISTS records_kept_for_ever",
        )
        .await?;
    Ok(connection)
}

async fn jetstream(service: &mut Tidings) -> anyhow::Result<jetstream::Context> {
    let url = service.nats().context("a NATS server")?.url();
    Ok(jetstream::new(async_nats::connect(url).await?))
}

/// The log loses its records after one, under the running service or between starts; on the cluster engine its
/// stream is made anew with the records up to there, since the server has no way to cut one.
pub(crate) async fn truncate(world: &mut World, keep: u64) -> anyhow::Result<()> {
    match world.kind {
        Engine::Embedded => {
            let mut connection = log_db(&world.service).await?;
            let keep = PLACES + i64::try_from(keep)?;
            let cut = sqlx::query("DELETE FROM records WHERE place > ? AND place < ?")
                .bind(keep)
                .bind(2 * PLACES)
                .execute(&mut connection)
                .await?;
            ensure!(cut.rows_affected() > 0, "nothing was cut off");
            Ok(())
        }
        Engine::Cluster => remake(world, keep, None).await,
    }
}

/// A record says something else than it did.
pub(crate) async fn rewrite(world: &mut World, sequence: u64) -> anyhow::Result<()> {
    match world.kind {
        Engine::Embedded => {
            let mut connection = log_db(&world.service).await?;
            let changed = sqlx::query("UPDATE records SET payload = payload || x'00' WHERE place = ?")
                .bind(PLACES + i64::try_from(sequence)?)
                .execute(&mut connection)
                .await?;
            ensure!(changed.rows_affected() == 1, "nothing was rewritten");
            Ok(())
        }
        Engine::Cluster => {
            let end = world.service.events().await?.len() as u64;
            remake(world, end, Some(sequence)).await
        }
    }
}

/// Copies the embedded engine's file as it is at one moment, while the service runs.
pub(crate) async fn copy_log(world: &World, to: &Path) -> anyhow::Result<()> {
    let mut connection = sqlite(&world.service.data().join("log.db")).await?;
    let copied = sqlx::query("VACUUM INTO ?").bind(to.to_string_lossy().into_owned());
    copied.execute(&mut connection).await?;
    Ok(())
}

/// The log is gone with its file, or its stream; nobody has made another yet.
pub(crate) async fn lose(world: &mut World) -> anyhow::Result<()> {
    match world.kind {
        Engine::Embedded => {
            for file in ["log.db", "log.db-wal", "log.db-shm"] {
                let file = world.service.data().join(file);
                if file.exists() {
                    std::fs::remove_file(file)?;
                }
            }
            Ok(())
        }
        Engine::Cluster => {
            jetstream(&mut world.service).await?.delete_stream(STREAM).await?;
            Ok(())
        }
    }
}

/// All of the disk is gone: logs, queue and buckets.
pub(crate) async fn lose_everything(world: &mut World) -> anyhow::Result<()> {
    if world.kind == Engine::Embedded {
        return lose(world).await;
    }
    let nats = world.service.nats().context("a NATS server")?;
    nats.stop().await?;
    std::fs::remove_dir_all(nats.store())?;
    nats.restart().await
}

/// Deletes the stream and makes it again with the first records it had; one of them can be changed on the way.
pub(crate) async fn remake(world: &mut World, keep: u64, changed: Option<u64>) -> anyhow::Result<()> {
    let context = jetstream(&mut world.service).await?;
    let mut before = context.get_stream(STREAM).await?;
    let config = before.info().await?.config.clone();
    let mut messages = Vec::new();
    for sequence in 1..=keep {
        messages.push(before.get_raw_message(sequence).await?);
    }
    context.delete_stream(STREAM).await?;
    context.create_stream(config).await?;
    for message in messages {
        let mut payload = message.payload.to_vec();
        if changed == Some(message.sequence) {
            payload.push(0);
        }
        let mut headers = async_nats::HeaderMap::new();
        let id = message.headers.get("Nats-Msg-Id").context("a message id")?;
        headers.insert("Nats-Msg-Id", id.as_str());
        let sent = context.publish_with_headers(message.subject, headers, Bytes::from(payload));
        sent.await?.await?;
    }
    Ok(())
}

/// Everything in the stream is purged by somebody who may change its configuration.
pub(crate) async fn purge(world: &mut World) -> anyhow::Result<()> {
    let url = world.service.nats().context("a NATS server")?.url();
    operator::purge(&url, STREAM).await
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "{} cannot be copied", from.display());
    Ok(())
}
