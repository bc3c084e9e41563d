//! An installation with something in its log, and what it says of itself.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use broker::Record;
use projections::{ReadModels, Settings, Target};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, PgConnection, Row, SqliteConnection};
use tests::http::Api;
use tests::service::{Engine, Tidings};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// How long a fault may go unnoticed; a busy machine is given three times what is promised of a quiet one.
pub(crate) const NOTICED: Duration = Duration::from_secs(15);

/// A record of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archived {
    pub(crate) sequence: u64,
    pub(crate) subject: String,
    pub(crate) message_id: String,
    pub(crate) stored_at: i64,
    pub(crate) payload: Vec<u8>,
}

impl Archived {
    pub(crate) fn of(record: &Record) -> Self {
        let since = record
            .stored_at
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            sequence: record.sequence,
            subject: record.subject.to_string(),
            message_id: record.message_id.clone(),
            stored_at: i64::try_from(since.as_millis()).unwrap_or_default(),
            payload: record.payload.to_vec(),
        }
    }

    /// The same but for the time, which a restored log cannot be given.
    pub(crate) fn timeless(&self) -> Self {
        Self {
            stored_at: 0,
            ..self.clone()
        }
    }
}

/// A running service with a tenant and what it did.
pub(crate) struct World {
    pub(crate) service: Tidings,
    pub(crate) kind: Engine,
    tenant: String,
    key: String,
    users: usize,
    /// Of the last change.
    position: String,
}

impl World {
    /// Started, with some users in its log, all of which the archive has.
    pub(crate) async fn start(kind: Engine) -> anyhow::Result<Self> {
        Self::start_with(kind, &[]).await
    }

    /// The same with more settings.
    pub(crate) async fn start_with(kind: Engine, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        let service = Tidings::start_with(kind, env).await?;
        let created = service
            .admin()?
            .post("/v1/tenants", &json!({ "name": "Acme", "slug": "acme" }))
            .await?
            .expect(201)?;
        let key = created["api_key"].as_str().context("a key")?.to_owned();
        let mut world = Self {
            service,
            kind,
            tenant: created["id"].as_str().context("an id")?.to_owned(),
            key,
            users: 0,
            position: String::new(),
        };
        world.grow(10).await?;
        Ok(world)
    }

    pub(crate) fn api(&self) -> anyhow::Result<Api> {
        self.service.tenant(&self.key)
    }

    /// Registers users, each with a claim of its address, and waits until the archive and every read model have them.
    pub(crate) async fn grow(&mut self, users: usize) -> anyhow::Result<()> {
        let api = self.api()?;
        for _ in 0..users {
            self.users += 1;
            let body = json!({ "email": format!("u{}@example.org", self.users), "name": "Ada" });
            let reply = api.post("/v1/users", &body).await?;
            reply.expect(201)?;
            reply.header("tidings-position").clone_into(&mut self.position);
        }
        self.settled().await
    }

    /// Waits until the archive and every read model have what was done. A log that is not trusted is folded no
    /// further, so a fault may only come after that where queries must know everything.
    async fn settled(&self) -> anyhow::Result<()> {
        let end = self.position.rsplit('-').next().unwrap_or_default();
        self.archived_up_to(end.parse()?).await?;
        let (admin, deadline) = (self.service.admin()?, Instant::now() + PATIENCE);
        while !admin.read_models_stand().await? {
            ensure!(Instant::now() < deadline, "read models stay behind");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Registers many users at once, and waits until the archive and every read model have them.
    pub(crate) async fn import(&mut self, users: usize) -> anyhow::Result<()> {
        let commands: Vec<_> = (0..users)
            .map(|number| {
                let data = json!({ "email": format!("i{number}@example.org"), "name": "Imported" });
                json!({ "command": "RegisterUser", "data": data })
            })
            .collect();
        for commands in commands.chunks(1_000) {
            let reply = self
                .api()?
                .post("/v1/commands", &json!({ "commands": commands }))
                .await?;
            reply.expect(200)?;
            reply.header("tidings-position").clone_into(&mut self.position);
        }
        self.users += users;
        self.settled().await
    }

    /// Publishes events and waits until they are folded; answers the sequence of the last.
    pub(crate) async fn publish(&self, events: usize) -> anyhow::Result<u64> {
        let (api, mut last) = (self.api()?, String::new());
        for _ in 0..events {
            let event = json!({ "type": "invoice.paid", "data": { "amount": "1" } });
            let reply = api.post("/v1/events", &event).await?.expect(202)?;
            reply["position"]
                .as_str()
                .context("a position")?
                .clone_into(&mut last);
        }
        let at_least = [("tidings-at-least", last.as_str())];
        let folded = api.call(Method::GET, "/v1/events", None, &at_least).await?;
        folded.expect(200)?;
        Ok(last.rsplit('-').next().unwrap_or_default().parse()?)
    }

    /// A new key for the tenant, whose keys were lost with what proves them.
    pub(crate) async fn issue_key(&mut self) -> anyhow::Result<()> {
        let path = format!("/v1/tenants/{}/api-keys", self.tenant);
        let issued = self
            .service
            .admin()?
            .post(&path, &json!({ "name": "again" }))
            .await?;
        let issued = issued.expect(201)?;
        let key = issued["api_key"].as_str().or(issued["key"].as_str());
        key.context("a key")?.clone_into(&mut self.key);
        Ok(())
    }

    /// Some of the users were lost.
    pub(crate) fn lost_users(&mut self, users: usize) {
        self.users -= users;
    }

    async fn sql_as_superuser(&self, sql: &'static str, sequence: u64) -> anyhow::Result<()> {
        let sequence = i64::try_from(sequence)?;
        match self.service.database() {
            None => {
                sqlx::query(sql)
                    .bind(sequence)
                    .execute(&mut self.read_db().await?)
                    .await?;
            }
            Some(database) => {
                let mut connection = PgConnection::connect(&database.owner_url).await?;
                sqlx::query("ALTER TABLE event_archive DISABLE TRIGGER ALL")
                    .execute(&mut connection)
                    .await
                    .ok();
                sqlx::query("ALTER TABLE event_archive DISABLE TRIGGER event_archive_stays")
                    .execute(&mut connection)
                    .await?;
                sqlx::query(sql).bind(sequence).execute(&mut connection).await?;
            }
        }
        Ok(())
    }

    /// The archive loses a record.
    pub(crate) async fn forget_archived(&self, sequence: u64) -> anyhow::Result<()> {
        self.sql_as_superuser("DELETE FROM event_archive WHERE sequence = $1", sequence)
            .await
    }

    /// The archive stands where it stood before what comes after a record, as if it had lagged.
    pub(crate) async fn cut_archive(&self, end: u64) -> anyhow::Result<()> {
        self.sql_as_superuser("DELETE FROM event_archive WHERE sequence > $1", end)
            .await?;
        self.sql_as_superuser(
            "UPDATE checkpoints SET sequence = $1 WHERE projection = 'archive'",
            end,
        )
        .await?;
        self.sql_as_superuser("DELETE FROM event_fences WHERE sequence > $1", end)
            .await
    }

    pub(crate) async fn archived_up_to(&self, end: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.fence().await?.is_none_or(|sequence| sequence < end) {
            ensure!(Instant::now() < deadline, "the archive never reached {end}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// How many users queries list that have seen the last change.
    pub(crate) async fn listed(&self) -> anyhow::Result<usize> {
        let (api, mut listed, mut path) = (self.api()?, 0, "/v1/users?limit=200".to_owned());
        loop {
            let at_least = [("tidings-at-least", self.position.as_str())];
            let body = api.call(Method::GET, &path, None, &at_least).await?.expect(200)?;
            listed += body["data"].as_array().map_or(0, Vec::len);
            match body["next_cursor"].as_str() {
                Some(cursor) => path = format!("/v1/users?limit=200&cursor={cursor}"),
                None => return Ok(listed),
            }
        }
    }

    pub(crate) fn users(&self) -> usize {
        self.users
    }

    async fn fence(&self) -> anyhow::Result<Option<u64>> {
        let sql = "SELECT sequence FROM event_fences WHERE shard = 0";
        let sequence: Option<i64> = match self.service.database() {
            None => {
                sqlx::query_scalar(sql)
                    .fetch_optional(&mut self.read_db().await?)
                    .await?
            }
            Some(database) => {
                let mut connection = PgConnection::connect(&database.owner_url).await?;
                sqlx::query_scalar(sql).fetch_optional(&mut connection).await?
            }
        };
        Ok(sequence.map(i64::unsigned_abs))
    }

    /// Everything in the archive.
    pub(crate) async fn archive(&self) -> anyhow::Result<Vec<Archived>> {
        let sql =
            "SELECT sequence, subject, message_id, stored_at, payload FROM event_archive ORDER BY sequence";
        Ok(match self.service.database() {
            None => {
                let rows = sqlx::query(sql).fetch_all(&mut self.read_db().await?).await?;
                rows.iter().map(archived).collect::<Result<_, _>>()?
            }
            Some(database) => {
                let mut connection = PgConnection::connect(&database.owner_url).await?;
                let rows = sqlx::query(sql).fetch_all(&mut connection).await?;
                rows.iter().map(archived).collect::<Result<_, _>>()?
            }
        })
    }

    async fn read_db(&self) -> anyhow::Result<SqliteConnection> {
        sqlite(&self.service.data().join("read.db")).await
    }

    /// The read models, opened beside the service.
    pub(crate) async fn read_models(&self) -> anyhow::Result<ReadModels> {
        let target = match self.service.database() {
            None => Target::Sqlite {
                folder: self.service.data(),
            },
            Some(database) => Target::Postgres {
                url: database.projector_url.clone(),
            },
        };
        let migrate = false;
        Ok(ReadModels::open(Settings { target, migrate }).await?)
    }

    /// The service notices that its log is not what it was: commands and publishes are refused, queries go on, readiness
    /// and the log tell what happened. Answers what readiness says.
    pub(crate) async fn assert_refuses(&self) -> anyhow::Result<String> {
        let anyone = self.service.anyone()?;
        let deadline = Instant::now() + NOTICED;
        let told = loop {
            let report = anyone.get("/health/ready").await?;
            let body = report.json()?;
            let detail = body["parts"]["log"]["detail"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if report.status == 503 && detail.contains("tidings restore") {
                break detail;
            }
            ensure!(Instant::now() < deadline, "it never noticed: {body}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let api = self.api()?;
        let user = json!({ "email": "late@example.org", "name": "Late" });
        let event = json!({ "type": "invoice.paid", "data": { "amount": "1" } });
        for (path, body) in [("/v1/users", user), ("/v1/events", event)] {
            let refused = api.post(path, &body).await?.problem(503)?;
            ensure!(refused == "log_untrusted", "{path}: {refused}");
        }
        ensure!(self.listed().await? == self.users, "queries must go on");
        let metrics = anyone.get("/metrics").await?;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        ensure!(
            metrics.contains("tidings_log_trusted{log=\"EVENTS-0\"} 0"),
            "no metric: {metrics}"
        );
        let stopped: Value = anyone.get("/health/ready").await?.json()?;
        ensure!(
            stopped["parts"]["projections"]["ready"] == json!(false),
            "projections must have stopped: {stopped}"
        );
        ensure!(
            self.service
                .output()
                .contains(told.split('.').next().unwrap_or("?")),
            "the log tells it"
        );
        Ok(told)
    }

    /// A start is refused, with a message.
    pub(crate) async fn assert_does_not_start(&self) -> anyhow::Result<String> {
        let (status, output) = self.service.run(&["serve"]).await?;
        ensure!(status.code() == Some(1), "{status}: {output}");
        ensure!(output.contains("error: The log EVENTS-0"), "{output}");
        ensure!(output.contains("tidings restore"), "{output}");
        let (status, doctor) = self.service.run(&["doctor"]).await?;
        ensure!(
            !status.success() && doctor.contains("tidings restore"),
            "{doctor}"
        );
        Ok(output)
    }
}

fn archived<R: Row>(row: &R) -> Result<Archived, sqlx::Error>
where
    usize: sqlx::ColumnIndex<R>,
    i64: for<'r> sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    String: for<'r> sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Vec<u8>: for<'r> sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    Ok(Archived {
        sequence: row.try_get::<i64, _>(0)?.unsigned_abs(),
        subject: row.try_get(1)?,
        message_id: row.try_get(2)?,
        stored_at: row.try_get(3)?,
        payload: row.try_get(4)?,
    })
}

pub(crate) async fn sqlite(file: &Path) -> anyhow::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(Duration::from_secs(20));
    Ok(SqliteConnection::connect_with(&options).await?)
}
