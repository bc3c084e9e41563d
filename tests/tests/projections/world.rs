//! What the tests of projections share: logs to write into, read models on either engine, and histories to fold.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use broker::embedded::Embedded;
use broker::layout::{Layout, Log};
use broker::{Engine, NewRecord, Subject};
use bytes::Bytes;
use domain::{
    Actor, AttemptOutcome, Commit, DeliveryFact, DeliveryId, DeliveryRecord, EndpointId, ErrorClass, EventId,
    EventRecord, Message, MessageRef, Meta, Next, Position, Source, TenantId, Timestamp,
};
use projections::{Control, Logs, Projectors, ReadModels, Settings, Target};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tests::postgres::{self, Database};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Every projection there is.
pub(crate) const ALL: &[&str] = &[
    "tenants",
    "users",
    "roles",
    "permissions",
    "teams",
    "invitations",
    "endpoints",
    "event_types",
    "sources",
    "audit",
    "messages",
    "deliveries",
    "stats",
    "series",
    "api_keys",
    "settings",
    "usage",
    "tree",
];

/// Which database keeps the read models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Sqlite,
    Postgres,
}

/// An installation: logs on the embedded engine, read models on either database.
pub(crate) struct World {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) target: Target,
    pub(crate) database: Option<Database>,
    pub(crate) folder: tempfile::TempDir,
    appended: u64,
}

pub(crate) fn tenant(number: u32) -> TenantId {
    format!("ten_{number:0>26}").parse().expect("digits make an id")
}

pub(crate) fn event_id(number: u64) -> EventId {
    format!("evt_{number:0>26}").parse().expect("digits make an id")
}

pub(crate) fn endpoint_id(number: u32) -> EndpointId {
    format!("ep_{number:0>26}").parse().expect("digits make an id")
}

pub(crate) fn role_id(number: u32) -> String {
    format!("rol_{number:0>26}")
}

pub(crate) fn user_id(number: u32) -> String {
    format!("usr_{number:0>26}")
}

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

impl World {
    pub(crate) async fn new(store: Store) -> anyhow::Result<Self> {
        match store {
            Store::Sqlite => Self::with(None).await,
            Store::Postgres => Self::with(Some(postgres::database().await?)).await,
        }
    }

    /// With read models in this database, or in SQLite.
    pub(crate) async fn with(database: Option<Database>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let engine = Embedded::open(&folder.path().join("log"), Layout::default()).await?;
        let target = if let Some(database) = &database {
            ReadModels::migrate(&Target::Postgres {
                url: database.owner_url.clone(),
            })
            .await?;
            Target::Postgres {
                url: database.projector_url.clone(),
            }
        } else {
            Target::Sqlite {
                folder: folder.path().join("read"),
            }
        };
        Ok(Self {
            engine: Arc::new(engine),
            target,
            database,
            folder,
            appended: 0,
        })
    }

    /// The read models as a process of its own would open them.
    pub(crate) async fn open(&self) -> anyhow::Result<ReadModels> {
        let settings = Settings {
            target: self.target.clone(),
            migrate: self.database.is_none(),
        };
        Ok(ReadModels::open(settings).await?)
    }

    pub(crate) fn start(&self, read_models: &ReadModels) -> (Projectors, CancellationToken) {
        let stop = CancellationToken::new();
        // Not all that a process starts: deliveries of these histories are years old, and would be forgotten.
        (
            Projectors::follow(read_models, self.logs(), &Control::default(), &stop),
            stop,
        )
    }

    pub(crate) fn logs(&self) -> Logs {
        self.engine
            .layout()
            .logs()
            .into_iter()
            .map(|log| (log, self.engine.log(log)))
            .collect()
    }

    /// The ends of all logs.
    pub(crate) async fn ends(&self) -> anyhow::Result<Vec<Position>> {
        let mut ends = Vec::new();
        for (log, port) in self.logs() {
            let source = match log {
                Log::Events(_) => Source::Events,
                Log::Messages(_) => Source::Messages,
                Log::Attempts => Source::Deliveries,
            };
            ends.push(Position {
                source,
                shard: 0,
                sequence: port.state().await?.last,
            });
        }
        Ok(ends)
    }

    /// How many records were appended, or tried to be.
    pub(crate) fn appended(&self) -> u64 {
        self.appended
    }

    /// Waits until all projections have folded all there is.
    pub(crate) async fn settled(&self, read_models: &ReadModels) -> anyhow::Result<()> {
        let ends = self.ends().await?;
        read_models
            .wait_for(ALL, &ends, Instant::now() + PATIENCE)
            .await
            .context("the projections lag")
    }

    /// Asserts that the read models are the fold of the log.
    pub(crate) async fn assert_folded(&self, read_models: &ReadModels) -> anyhow::Result<()> {
        self.settled(read_models).await?;
        let scratch = tempfile::tempdir()?;
        let differences = projections::verify::compare(read_models, &self.logs(), scratch.path()).await?;
        anyhow::ensure!(
            differences.is_empty(),
            "live (-) is not the fold (+): {differences:#?}"
        );
        Ok(())
    }

    /// Runs a statement past all protection.
    pub(crate) async fn sql(&self, statement: &str) -> anyhow::Result<()> {
        let statement = AssertSqlSafe(statement.to_owned());
        if let Some(database) = &self.database {
            let mut connection = PgConnection::connect(&database.url).await?;
            sqlx::raw_sql(statement).execute(&mut connection).await?;
        } else {
            let mut connection = SqliteConnection::connect(&self.file()?).await?;
            sqlx::raw_sql(statement).execute(&mut connection).await?;
        }
        Ok(())
    }

    /// The one number a statement answers, past all protection.
    pub(crate) async fn count(&self, select: &str) -> anyhow::Result<i64> {
        let select = AssertSqlSafe(select.to_owned());
        Ok(if let Some(database) = &self.database {
            let mut connection = PgConnection::connect(&database.url).await?;
            sqlx::query_scalar(select).fetch_one(&mut connection).await?
        } else {
            let mut connection = SqliteConnection::connect(&self.file()?).await?;
            sqlx::query_scalar(select).fetch_one(&mut connection).await?
        })
    }

    fn file(&self) -> anyhow::Result<String> {
        let path: PathBuf = self.folder.path().join("read/read.db");
        Ok(format!("sqlite://{}", path.to_str().context("path")?))
    }

    pub(crate) async fn append(
        &mut self,
        log: Log,
        subject: String,
        id: String,
        payload: Vec<u8>,
    ) -> anyhow::Result<u64> {
        self.appended += 1;
        let record = NewRecord {
            subject: Subject::new(subject)?,
            message_id: id,
            expect: None,
            payload: Bytes::from(payload),
        };
        let appended = self.engine.log(log).append(vec![record]).await?;
        Ok(appended.first().context("no answer")?.sequence)
    }

    /// Appends a commit of events, each a wire name and its data.
    pub(crate) async fn commit(
        &mut self,
        tenant: &TenantId,
        aggregate: &str,
        id: &str,
        first_version: u64,
        events: Vec<(&str, Value)>,
    ) -> anyhow::Result<u64> {
        let commit = self.record(tenant, aggregate, id, first_version, events);
        let subject = Commit::subject(tenant, aggregate, id);
        let message_id = format!("{tenant}:{}", commit.meta.command_id);
        self.append(Log::Events(0), subject, message_id, commit.encode())
            .await
    }

    pub(crate) fn record(
        &self,
        tenant: &TenantId,
        aggregate: &str,
        id: &str,
        first_version: u64,
        events: Vec<(&str, Value)>,
    ) -> Commit {
        let number = self.appended;
        let events = events
            .into_iter()
            .map(|(name, data)| EventRecord {
                event_type: name.to_owned(),
                schema: 1,
                data,
            })
            .collect();
        Commit {
            v: Commit::VERSION,
            tenant: tenant.clone(),
            aggregate: aggregate.to_owned(),
            id: id.to_owned(),
            first_version,
            events,
            meta: Meta {
                command_id: format!("command-{number}"),
                command: "Something".to_owned(),
                actor: Actor::ApiKey(format!("key_{:0>26}", number % 3)),
                request_id: Some(format!("req-{number}")),
                origin: Some("192.0.2.7".to_owned()),
                correlation_id: None,
                causation_id: None,
                traceparent: None,
                at: at(i64::try_from(number).unwrap_or_default()),
            },
            prev: None,
        }
    }

    pub(crate) async fn register(&mut self, tenant: &TenantId, number: u32) -> anyhow::Result<u64> {
        let data = json!({ "email": format!("user{number}@example.org"), "name": format!("User {number}") });
        self.commit(
            tenant,
            "user",
            &user_id(number),
            1,
            vec![("user.registered", data)],
        )
        .await
    }

    pub(crate) async fn publish(
        &mut self,
        tenant: &TenantId,
        number: u64,
        event_type: &str,
    ) -> anyhow::Result<u64> {
        let published_at = at(i64::try_from(number)? * 1_000);
        self.publish_at(tenant, number, event_type, published_at).await
    }

    pub(crate) async fn publish_at(
        &mut self,
        tenant: &TenantId,
        number: u64,
        event_type: &str,
        published_at: Timestamp,
    ) -> anyhow::Result<u64> {
        let message = Message {
            v: Message::VERSION,
            tenant: tenant.clone(),
            id: event_id(number),
            event_type: event_type.parse()?,
            data: br#"{"amount": 12.50}"#.to_vec(),
            published_at,
            actor: Actor::PlatformAdmin,
            request_id: None,
            correlation_id: None,
            causation_id: None,
            traceparent: None,
            only_for: None,
        };
        let subject = Message::subject(tenant, &message.event_type);
        let message_id = format!("{tenant}:{}", message.id);
        self.append(Log::Messages(0), subject, message_id, message.encode())
            .await
    }

    pub(crate) async fn deliver(&mut self, record: DeliveryRecord) -> anyhow::Result<u64> {
        let subject = DeliveryRecord::subject(&record.tenant, &record.endpoint);
        let message_id = record.message_id(&format!("try{}", self.appended));
        self.append(Log::Attempts, subject, message_id, record.encode())
            .await
    }
}

/// A fact about the delivery of a tenant's message `event` to its endpoint 1.
pub(crate) fn delivery(
    tenant: &TenantId,
    event: u64,
    run: u32,
    when: i64,
    fact: DeliveryFact,
) -> DeliveryRecord {
    let (id, endpoint) = (event_id(event), endpoint_id(1));
    DeliveryRecord {
        v: DeliveryRecord::VERSION,
        tenant: tenant.clone(),
        delivery: DeliveryId::derive(tenant, &id, &endpoint),
        endpoint,
        message: MessageRef {
            id,
            event_type: "invoice.paid".parse().expect("a type"),
            position: Position {
                source: Source::Messages,
                shard: 0,
                sequence: event + 1,
            },
            published_at: Some(at(when - 5)),
        },
        run,
        at: at(when),
        fact,
        trigger: None,
        recovers: false,
    }
}

pub(crate) fn tried(attempt: u32, next: Next) -> DeliveryFact {
    let failed = next != Next::Delivered;
    DeliveryFact::Attempted {
        attempt,
        outcome: AttemptOutcome {
            status: Some(if failed { 503 } else { 204 }),
            error: failed.then_some(ErrorClass::Status),
            detail: failed.then(|| "the receiver answered 503".to_owned()),
            response_body: Some("a NUL\0 in it".to_owned()),
            duration_ms: 7,
            ..AttemptOutcome::default()
        },
        next,
    }
}
