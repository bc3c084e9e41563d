//! The fences of the logs of events, as the read database keeps them: written with the archive, compared by the watch.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use broker::Cause;
use broker::layout::Shard;
use broker::trust::{Fence, Fences, Known};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::engine::Session;
use crate::read_models::ReadModels;
use crate::sql::{Statement, number, text, unreadable};

#[async_trait]
impl Fences for ReadModels {
    async fn load(&self, shard: Shard) -> Result<Fence, Cause> {
        let mut connection = self.database.reader.acquire().await?;
        Ok(load(&mut connection, shard).await?)
    }

    async fn adopt(&self, shard: Shard, created: SystemTime) -> Result<(), Cause> {
        let mut session = self.database.begin().await?;
        let insert = Statement::new(
            "INSERT INTO event_log_origins (shard, created) VALUES ($1, $2) ON CONFLICT (shard) DO NOTHING",
        );
        session.execute(insert.with(shard).with(micros(created))).await?;
        session.commit().await?;
        Ok(())
    }

    async fn suspect(&self, shard: Shard, (sequence, digest): Known) -> Result<(), Cause> {
        let mut session = self.database.begin().await?;
        let update =
            Statement::new("UPDATE event_log_origins SET suspect = $2, suspect_digest = $3 WHERE shard = $1");
        let update = update.with(shard).with(sequence).with(hex::encode(digest));
        session.execute(update).await?;
        session.commit().await?;
        Ok(())
    }
}

async fn load(connection: &mut AnyConnection, shard: Shard) -> Result<Fence, sqlx::Error> {
    // A suspect that is none is a record before the first, without a digest.
    let origins = Statement::new(
        "SELECT created, coalesce(suspect, 0) AS sequence, coalesce(suspect_digest, '') AS digest
         FROM event_log_origins WHERE shard = $1",
    );
    let origins = origins.with(shard).rows(connection).await?;
    let created = origins.first().map(|row| number(row, "created")).transpose()?;
    let suspect = origins.first().map(known).transpose()?.flatten();
    let fences = Statement::new("SELECT sequence, digest FROM event_fences WHERE shard = $1")
        .with(shard)
        .rows(connection)
        .await?;
    let last = fences.first().map(known).transpose()?.flatten();
    Ok(Fence {
        created: created.map(|micros| UNIX_EPOCH + Duration::from_micros(micros)),
        end: last.map_or(0, |(sequence, _)| sequence),
        last,
        suspect,
    })
}

fn known(row: &AnyRow) -> Result<Option<Known>, sqlx::Error> {
    let sequence = number(row, "sequence")?;
    if sequence == 0 {
        return Ok(None);
    }
    let mut digest = [0; 32];
    hex::decode_to_slice(text(row, "digest")?, &mut digest).map_err(|error| unreadable("digest", error))?;
    Ok(Some((sequence, digest)))
}

/// Notes when a log was made that has taken the place of the one known.
pub(crate) async fn replace(
    session: &mut Session,
    shard: Shard,
    created: SystemTime,
) -> Result<(), sqlx::Error> {
    let insert = Statement::new(
        "INSERT INTO event_log_origins (shard, created) VALUES ($1, $2)
         ON CONFLICT (shard) DO UPDATE SET created = excluded.created, suspect = NULL, suspect_digest = NULL",
    );
    session.execute(insert.with(shard).with(micros(created))).await?;
    Ok(())
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
