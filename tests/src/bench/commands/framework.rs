//! What a Rust user would pick instead: the `cqrs-es` framework with events in PostgreSQL, fsync on.
//!
//! The framework, its event store and our `User` aggregate are the real ones. The repository below does what
//! `postgres-es` 0.5 does, the same statements in the same transactions on the same table, through the sqlx of this
//! workspace: `postgres-es` itself asks for sqlx 0.8, whose SQLite library cannot be linked beside that of sqlx 0.9.
//! Two differences, both in its favour: JSON is sent as text, and the pool has more connections than its default
//! of 10.
//!
//! It promises less than ours: nothing keeps e-mail addresses unique.

use std::sync::Arc;

use async_trait::async_trait;
use cqrs_es::persist::{
    PersistedEventRepository, PersistedEventStore, PersistenceError, ReplayStream, SerializedEvent,
    SerializedSnapshot,
};
use cqrs_es::{Aggregate, CqrsFramework};
use domain::UserId;
use domain::user::User;
use serde_json::Value;
use sqlx::postgres::{PgPoolOptions, PgRow};
use sqlx::{PgPool, Row};
use ulid::Ulid;

use super::dispatch::{EPISODE, next_command, staggered};
use crate::bench::load::{BoxedWorker, Worker};
use crate::postgres;

/// Connections to PostgreSQL: more did not help on two cores.
const CONNECTIONS: u32 = 64;

const TABLE: &str = "
    CREATE TABLE events (
        aggregate_type text NOT NULL,
        aggregate_id   text NOT NULL,
        sequence       bigint NOT NULL CHECK (sequence >= 0),
        event_type     text NOT NULL,
        event_version  text NOT NULL,
        payload        json NOT NULL,
        metadata       json NOT NULL,
        PRIMARY KEY (aggregate_type, aggregate_id, sequence)
    )";

const SELECT: &str = "
    SELECT aggregate_type, aggregate_id, sequence, event_type, event_version, payload::text, metadata::text
    FROM events WHERE aggregate_type = $1 AND aggregate_id = $2 ORDER BY sequence";

const INSERT: &str = "
    INSERT INTO events
        (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
    VALUES ($1, $2, $3, $4, $5, $6::json, $7::json)";

type Framework = CqrsFramework<User, PersistedEventStore<Repository, User>>;

/// Workers that each register a user, rename it nine times, and go on to the next.
pub(super) async fn workers(count: usize) -> anyhow::Result<Vec<BoxedWorker>> {
    let database = postgres::database().await?;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .connect(&database.url)
        .await?;
    sqlx::query(TABLE).execute(&pool).await?;
    let store = PersistedEventStore::new_event_store(Repository { pool });
    let framework = Arc::new(CqrsFramework::new(store, Vec::new(), ()));
    let mut workers = Vec::new();
    for number in 0..count {
        let mut worker = Executing {
            framework: Arc::clone(&framework),
            user: UserId::new(Ulid::generate()),
            turns: 0,
        };
        worker.turn().await?;
        worker.turns = staggered(number);
        workers.push(Box::new(worker) as BoxedWorker);
    }
    Ok(workers)
}

struct Executing {
    framework: Arc<Framework>,
    user: UserId,
    turns: u64,
}

#[async_trait]
impl Worker for Executing {
    async fn turn(&mut self) -> anyhow::Result<u64> {
        let command = next_command(&mut self.user, &mut self.turns, EPISODE)?;
        self.framework.execute(self.user.as_str(), command).await?;
        Ok(1)
    }
}

struct Repository {
    pool: PgPool,
}

fn failure(error: impl std::error::Error + Send + Sync + 'static) -> PersistenceError {
    PersistenceError::UnknownError(Box::new(error))
}

/// What this comparison never asks for.
fn not_used() -> PersistenceError {
    PersistenceError::UnknownError("the benchmark uses neither snapshots nor streams".into())
}

fn event_of(row: &PgRow) -> Result<SerializedEvent, sqlx::Error> {
    let json = |text: String| serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(error.into()));
    Ok(SerializedEvent {
        aggregate_type: row.try_get(0)?,
        aggregate_id: row.try_get(1)?,
        sequence: usize::try_from(row.try_get::<i64, _>(2)?).unwrap_or_default(),
        event_type: row.try_get(3)?,
        event_version: row.try_get(4)?,
        payload: json(row.try_get(5)?)?,
        metadata: json(row.try_get(6)?)?,
    })
}

impl PersistedEventRepository for Repository {
    async fn get_events<A: Aggregate>(&self, id: &str) -> Result<Vec<SerializedEvent>, PersistenceError> {
        let rows = sqlx::query(SELECT)
            .bind(A::TYPE)
            .bind(id)
            .fetch_all(&self.pool)
            .await;
        let rows = rows.map_err(failure)?;
        rows.iter()
            .map(event_of)
            .collect::<Result<_, _>>()
            .map_err(failure)
    }

    async fn persist<A: Aggregate>(
        &self,
        events: &[SerializedEvent],
        _snapshot: Option<(String, Value, usize)>,
    ) -> Result<(), PersistenceError> {
        let mut transaction = self.pool.begin().await.map_err(failure)?;
        for event in events {
            sqlx::query(INSERT)
                .bind(A::TYPE)
                .bind(&event.aggregate_id)
                .bind(i64::try_from(event.sequence).map_err(failure)?)
                .bind(&event.event_type)
                .bind(&event.event_version)
                .bind(event.payload.to_string())
                .bind(event.metadata.to_string())
                .execute(&mut *transaction)
                .await
                .map_err(failure)?;
        }
        transaction.commit().await.map_err(failure)
    }

    async fn get_last_events<A: Aggregate>(
        &self,
        _id: &str,
        _last: usize,
    ) -> Result<Vec<SerializedEvent>, PersistenceError> {
        Err(not_used())
    }

    async fn get_snapshot<A: Aggregate>(
        &self,
        _id: &str,
    ) -> Result<Option<SerializedSnapshot>, PersistenceError> {
        Err(not_used())
    }

    async fn stream_events<A: Aggregate>(&self, _id: &str) -> Result<ReplayStream, PersistenceError> {
        Err(not_used())
    }

    async fn stream_all_events<A: Aggregate>(&self) -> Result<ReplayStream, PersistenceError> {
        Err(not_used())
    }
}
