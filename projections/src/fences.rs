//! The fences of the logs of events, as the read database keeps them: written with the archive, compared by the watch.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use broker::Cause;
use broker::layout::Shard;
use broker::trust::{Fence, Fences};
use sqlx::AnyConnection;

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
}

async fn load(connection: &mut AnyConnection, shard: Shard) -> Result<Fence, sqlx::Error> {
    let origins = Statement::new("SELECT created FROM event_log_origins WHERE shard = $1")
        .with(shard)
        .rows(connection)
        .await?;
    let created = origins.first().map(|row| number(row, "created")).transpose()?;
    let fences = Statement::new("SELECT sequence, digest FROM event_fences WHERE shard = $1")
        .with(shard)
        .rows(connection)
        .await?;
    let last = match fences.first() {
        Some(row) => {
            let mut digest = [0; 32];
            hex::decode_to_slice(text(row, "digest")?, &mut digest)
                .map_err(|error| unreadable("digest", error))?;
            Some((number(row, "sequence")?, digest))
        }
        None => None,
    };
    Ok(Fence {
        created: created.map(|micros| UNIX_EPOCH + Duration::from_micros(micros)),
        end: last.map_or(0, |(sequence, _)| sequence),
        last,
    })
}

/// Notes when a log was made that has taken the place of the one known.
pub(crate) async fn replace(
    session: &mut Session,
    shard: Shard,
    created: SystemTime,
) -> Result<(), sqlx::Error> {
    let insert = Statement::new(
        "INSERT INTO event_log_origins (shard, created) VALUES ($1, $2)
         ON CONFLICT (shard) DO UPDATE SET created = excluded.created",
    );
    session.execute(insert.with(shard).with(micros(created))).await?;
    Ok(())
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
