//! What the queue asks of the writer, one task per kind of change.

use std::time::SystemTime;

use async_trait::async_trait;
use serde::Serialize;
use sqlx::sqlite::SqliteConnection;

use crate::{Job, Lease, QueueError, Settlement, Token};

use super::super::writer::{Task, Writer};
use super::super::{steady, units};
use super::{JobColumns, job, lease_token};

/// How long a job's id is remembered after it was enqueued: two minutes.
const REMEMBERED: i64 = 120_000_000;

/// Puts jobs into the queue, all with one statement: they travel as JSON, payloads in hexadecimal.
#[derive(Debug)]
pub(super) struct Enqueue {
    rows: Vec<NewJob>,
}

#[derive(Debug, Serialize)]
struct NewJob {
    id: String,
    tenant: String,
    lane: String,
    payload: String,
    due: i64,
}

impl Enqueue {
    pub(super) fn new(jobs: &[(Job, Option<SystemTime>)]) -> Self {
        let row = |(job, due): &(Job, Option<SystemTime>)| NewJob {
            id: job.id.to_string(),
            tenant: job.tenant.to_string(),
            lane: job.lane.to_string(),
            payload: hexadecimal(&job.payload),
            due: due.map_or(0, steady::at),
        };
        Self {
            rows: jobs.iter().map(row).collect(),
        }
    }
}

#[async_trait]
impl Task for Enqueue {
    type Answer = ();

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let rows = serde_json::to_string(&self.rows).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        let now = steady::now();
        sqlx::query(
            "INSERT INTO jobs (id, tenant, lane, payload, enqueued_at, free_at)
             SELECT value ->> 'id', value ->> 'tenant', value ->> 'lane', unhex(value ->> 'payload'), ?1,
                    max(?1, value ->> 'due')
             FROM json_each(?2)
             WHERE NOT EXISTS (SELECT 1 FROM recent_jobs WHERE id = value ->> 'id' AND enqueued_at > ?3)
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(now)
        .bind(rows)
        .bind(now - REMEMBERED)
        .execute(connection)
        .await?;
        Ok(())
    }

    fn frees_jobs(&self) -> bool {
        true
    }

    fn size(&self) -> usize {
        self.rows.iter().map(|row| row.payload.len()).sum()
    }
}

/// Takes free jobs under one token.
#[derive(Debug)]
pub(super) struct TakeJobs {
    pub(super) max: usize,
    /// The lease's length in microseconds.
    pub(super) lease: i64,
    pub(super) token: i64,
    /// Where jobs go back that nobody came for.
    pub(super) writer: Writer,
}

/// Jobs on their way to a caller. Where that one has gone away meanwhile, they are free again at once.
pub(super) struct Taken {
    rows: Vec<(JobColumns, u32)>,
    token: i64,
    expires: i64,
    /// When the next job becomes free, where none was.
    pub(super) next_free: Option<i64>,
    writer: Writer,
}

impl Taken {
    pub(super) fn into_leases(mut self) -> Result<Vec<Lease>, QueueError> {
        let lease = |(columns, times)| {
            Ok(Lease {
                job: job(columns)?,
                times,
                expires: steady::time_of_day(self.expires),
                token: lease_token(self.token),
            })
        };
        let rows = std::mem::take(&mut self.rows);
        rows.into_iter().map(lease).collect()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.rows.is_empty() {
            self.writer.run_unheard(Release { token: self.token });
        }
    }
}

#[async_trait]
impl Task for TakeJobs {
    type Answer = Taken;

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<Taken, sqlx::Error> {
        let now = steady::now();
        let expires = now.saturating_add(self.lease);
        let rows: Vec<(String, String, String, Vec<u8>, u32)> = sqlx::query_as(
            "UPDATE jobs SET free_at = ?, token = ?, times = times + 1
             WHERE id IN (SELECT id FROM jobs WHERE free_at <= ? ORDER BY free_at LIMIT ?)
             RETURNING id, tenant, lane, payload, times",
        )
        .bind(expires)
        .bind(self.token)
        .bind(now)
        .bind(units::signed(self.max))
        .fetch_all(&mut *connection)
        .await?;
        let next_free = if rows.is_empty() {
            sqlx::query_scalar("SELECT min(free_at) FROM jobs")
                .fetch_one(connection)
                .await?
        } else {
            None
        };
        let split = |(id, tenant, lane, payload, times)| ((id, tenant, lane, payload), times);
        Ok(Taken {
            rows: rows.into_iter().map(split).collect(),
            token: self.token,
            expires,
            next_free,
            writer: self.writer.clone(),
        })
    }
}

/// Gives jobs back that were taken for a caller who has gone away; they never were in anybody's hands.
#[derive(Debug)]
struct Release {
    token: i64,
}

#[async_trait]
impl Task for Release {
    type Answer = ();

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE jobs SET free_at = ?, token = NULL, times = times - 1 WHERE token = ?")
            .bind(steady::now())
            .bind(self.token)
            .execute(connection)
            .await?;
        Ok(())
    }

    fn frees_jobs(&self) -> bool {
        true
    }
}

/// Starts a lease's time anew; answers its end, none where the lease is lost.
#[derive(Debug)]
pub(super) struct Extend {
    pub(super) id: Token,
    pub(super) token: i64,
    pub(super) lease: i64,
}

#[async_trait]
impl Task for Extend {
    type Answer = Option<i64>;

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<Option<i64>, sqlx::Error> {
        let until = steady::now().saturating_add(self.lease);
        let held = sqlx::query("UPDATE jobs SET free_at = ? WHERE id = ? AND token = ?")
            .bind(until)
            .bind(self.id.as_str())
            .bind(self.token)
            .execute(connection)
            .await?;
        Ok((held.rows_affected() > 0).then_some(until))
    }
}

/// Ends a lease; answers whether it was still held. One that expired with nobody else at the job is.
#[derive(Debug)]
pub(super) struct Settle {
    pub(super) id: Token,
    pub(super) token: i64,
    pub(super) settlement: Settlement,
}

#[async_trait]
impl Task for Settle {
    type Answer = bool;

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let done = match &self.settlement {
            Settlement::Done => {
                let query = sqlx::query("DELETE FROM jobs WHERE id = ? AND token = ?");
                query
                    .bind(self.id.as_str())
                    .bind(self.token)
                    .execute(connection)
                    .await?
            }
            Settlement::Again { due, payload } => {
                let query = sqlx::query(
                    "UPDATE jobs SET free_at = ?, payload = ?, token = NULL, times = 0 WHERE id = ? AND token = ?",
                );
                let query = query.bind(steady::at(*due)).bind(payload.as_ref());
                query
                    .bind(self.id.as_str())
                    .bind(self.token)
                    .execute(connection)
                    .await?
            }
            Settlement::Dead { payload } => {
                sqlx::query(
                    "INSERT OR REPLACE INTO dead_letters (tenant, lane, id, payload, since)
                     SELECT tenant, lane, id, ?, ? FROM jobs WHERE id = ? AND token = ?",
                )
                .bind(payload.as_ref())
                .bind(units::now())
                .bind(self.id.as_str())
                .bind(self.token)
                .execute(&mut *connection)
                .await?;
                let query = sqlx::query("DELETE FROM jobs WHERE id = ? AND token = ?");
                query
                    .bind(self.id.as_str())
                    .bind(self.token)
                    .execute(connection)
                    .await?
            }
        };
        Ok(done.rows_affected() > 0)
    }

    fn frees_jobs(&self) -> bool {
        matches!(self.settlement, Settlement::Again { .. })
    }
}

/// Makes a job due that waits; answers whether it waited. One that is leased is left alone.
#[derive(Debug)]
pub(super) struct Hasten {
    pub(super) tenant: Token,
    pub(super) lane: Token,
    pub(super) id: Token,
}

#[async_trait]
impl Task for Hasten {
    type Answer = bool;

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let hastened = sqlx::query(
            "UPDATE jobs SET free_at = ?1 WHERE id = ?2 AND tenant = ?3 AND lane = ?4 AND token IS NULL AND free_at > ?1",
        )
        .bind(steady::now())
        .bind(self.id.as_str())
        .bind(self.tenant.as_str())
        .bind(self.lane.as_str())
        .execute(connection)
        .await?;
        Ok(hastened.rows_affected() > 0)
    }

    fn frees_jobs(&self) -> bool {
        true
    }
}

/// Forgets ids that were enqueued long enough ago.
#[derive(Debug)]
pub(in crate::embedded) struct ForgetRecent;

#[async_trait]
impl Task for ForgetRecent {
    type Answer = ();

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let query = sqlx::query("DELETE FROM recent_jobs WHERE enqueued_at <= ?");
        query.bind(steady::now() - REMEMBERED).execute(connection).await?;
        Ok(())
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}
