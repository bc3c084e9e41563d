//! `DeadLetters` on SQLite: a table of their own, filled by the settlement that gives a job up.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::sqlite::{SqliteConnection, SqlitePool};

use crate::{DeadLetter, DeadLetters, QueueError, Token};

use super::queue::{check_payload, job, unavailable};
use super::writer::{Task, Writer};
use super::{steady, units};

/// The dead letters in the file.
#[derive(Debug)]
pub(super) struct EmbeddedDeadLetters {
    pub(super) readers: SqlitePool,
    pub(super) writer: Writer,
}

#[async_trait]
impl DeadLetters for EmbeddedDeadLetters {
    async fn list(
        &self,
        tenant: &Token,
        lane: Option<&Token>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let rows: Vec<(String, String, String, Vec<u8>, i64, i64)> = sqlx::query_as(
            "SELECT id, tenant, lane, payload, since, cursor FROM dead_letters
             WHERE tenant = ?1 AND (?2 IS NULL OR lane = ?2) AND cursor > ?3 ORDER BY cursor LIMIT ?4",
        )
        .bind(tenant.as_str())
        .bind(lane.map(Token::as_str))
        .bind(units::signed(after))
        .bind(units::signed(limit))
        .fetch_all(&self.readers)
        .await
        .map_err(unavailable)?;
        let letter = |(id, tenant, lane, payload, since, cursor)| {
            Ok(DeadLetter {
                job: job((id, tenant, lane, payload))?,
                since: units::time(since),
                cursor: units::unsigned(cursor),
            })
        };
        rows.into_iter().map(letter).collect()
    }

    async fn redrive(
        &self,
        tenant: &Token,
        lane: &Token,
        job: &Token,
        payload: Option<Bytes>,
        due: Option<SystemTime>,
    ) -> Result<bool, QueueError> {
        if let Some(payload) = &payload {
            check_payload(payload)?;
        }
        let task = Redrive {
            name: Name::new(tenant, lane, job),
            payload,
            due: due.map_or_else(steady::now, steady::at),
        };
        self.writer.run(task).await.map_err(unavailable)
    }

    async fn discard(&self, tenant: &Token, lane: &Token, job: &Token) -> Result<bool, QueueError> {
        self.writer
            .run(Discard(Name::new(tenant, lane, job)))
            .await
            .map_err(unavailable)
    }
}

/// Which dead letter.
#[derive(Debug)]
struct Name {
    tenant: Token,
    lane: Token,
    job: Token,
}

impl Name {
    fn new(tenant: &Token, lane: &Token, job: &Token) -> Self {
        Self {
            tenant: tenant.clone(),
            lane: lane.clone(),
            job: job.clone(),
        }
    }

    /// Removes the dead letter; answers whether it was there.
    async fn remove(&self, connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let removed = sqlx::query("DELETE FROM dead_letters WHERE tenant = ? AND lane = ? AND id = ?")
            .bind(self.tenant.as_str())
            .bind(self.lane.as_str())
            .bind(self.job.as_str())
            .execute(connection)
            .await?;
        Ok(removed.rows_affected() > 0)
    }
}

#[derive(Debug)]
struct Redrive {
    name: Name,
    payload: Option<Bytes>,
    /// In the file's units.
    due: i64,
}

#[async_trait]
impl Task for Redrive {
    type Answer = bool;

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        // Where a job of that id waits again already, it does what the redrive is for.
        sqlx::query(
            "INSERT INTO jobs (id, tenant, lane, payload, enqueued_at, free_at)
             SELECT id, tenant, lane, coalesce(?, payload), ?, ? FROM dead_letters
             WHERE tenant = ? AND lane = ? AND id = ?
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(self.payload.as_deref())
        .bind(steady::now())
        .bind(self.due)
        .bind(self.name.tenant.as_str())
        .bind(self.name.lane.as_str())
        .bind(self.name.job.as_str())
        .execute(&mut *connection)
        .await?;
        self.name.remove(connection).await
    }

    fn frees_jobs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Discard(Name);

#[async_trait]
impl Task for Discard {
    type Answer = bool;

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        self.0.remove(connection).await
    }
}
