//! A running service with a tenant, and what its operator asks.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};
use tests::http::{Api, Reply};
use tests::service::{Engine, Tidings};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct World {
    pub(crate) service: Tidings,
    pub(crate) tenant: String,
    pub(crate) key: String,
}

impl World {
    pub(crate) async fn start(kind: Engine, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        let service = Tidings::start_with(kind, env).await?;
        let made = service
            .admin()?
            .post("/v1/tenants", &json!({ "name": "Acme", "slug": "acme" }))
            .await?
            .expect(201)?;
        let admin = service.admin()?;
        // What has folded nothing yet cannot be compared with.
        eventually(async || Ok(admin.read_models_stand().await?.then_some(()))).await?;
        Ok(Self {
            service,
            tenant: text(&made, "id")?,
            key: text(&made, "api_key")?,
        })
    }

    /// Calls with the tenant's key.
    pub(crate) fn api(&self) -> anyhow::Result<Api> {
        self.service.tenant(&self.key)
    }

    /// Runs a subcommand that asks this service.
    pub(crate) async fn run(&self, arguments: &[&str]) -> anyhow::Result<(ExitStatus, String)> {
        let mut all = arguments.to_vec();
        all.extend(["--url", self.service.url()]);
        self.service.run(&all).await
    }

    /// Registers a user; answers its id and where that stands.
    pub(crate) async fn user(&self, name: &str) -> anyhow::Result<(String, String)> {
        let body = json!({ "email": format!("{name}@example.org"), "name": name });
        let reply = self.api()?.post("/v1/users", &body).await?;
        let made = reply.expect(201)?;
        Ok((text(&made, "id")?, reply.header("tidings-position").to_owned()))
    }

    /// Publishes so many thousands of events, and waits until the read models have them.
    pub(crate) async fn publish(&self, thousands: usize) -> anyhow::Result<()> {
        let api = self.api()?;
        let event = |number| json!({ "type": "invoice.paid", "data": { "number": number } });
        let events: Vec<_> = (0..1_000).map(event).collect();
        let mut position = String::new();
        for _ in 0..thousands {
            let reply = api.post("/v1/events/bulk", &json!({ "events": events })).await?;
            reply.expect(202)?;
            reply.header("tidings-position").clone_into(&mut position);
        }
        eventually(async || {
            let reply = get_after(&api, "/v1/stats", &position).await?;
            Ok((reply.status == 200).then_some(()))
        })
        .await
    }

    /// Starts a replay and answers its id.
    pub(crate) async fn replay(&self, body: &Value) -> anyhow::Result<String> {
        replay(&self.service.admin()?, body).await
    }

    /// Waits until a replay is over.
    pub(crate) async fn ended(&self, id: &str) -> anyhow::Result<Value> {
        ended(&self.service.admin()?, id).await
    }

    /// Replays, and answers the replay, which must have found nothing wrong.
    pub(crate) async fn replayed(&self, body: &Value) -> anyhow::Result<Value> {
        let id = self.replay(body).await?;
        let replay = self.ended(&id).await?;
        ensure!(
            replay["status"] == "completed" && replay["differences"] == json!([]),
            "{body}: {replay:#}"
        );
        Ok(replay)
    }

    /// Proves that every read model is a fold of the log.
    pub(crate) async fn verified(&self) -> anyhow::Result<()> {
        self.replayed(&json!({ "all": true, "switch": false })).await?;
        Ok(())
    }

    pub(crate) async fn projection(&self, name: &str) -> anyhow::Result<Value> {
        let path = format!("/v1/projections/{name}");
        self.service.admin()?.get(&path).await?.expect(200)
    }

    /// Changes the read database behind the service's back; answers how many rows.
    pub(crate) async fn sql(&self, statement: &str) -> anyhow::Result<u64> {
        let statement = AssertSqlSafe(statement.to_owned());
        Ok(if let Some(database) = self.service.database() {
            let mut connection = PgConnection::connect(&database.url).await?;
            let done = sqlx::query(statement).execute(&mut connection).await?;
            done.rows_affected()
        } else {
            let done = sqlx::query(statement).execute(&mut self.sqlite().await?).await?;
            done.rows_affected()
        })
    }

    /// The one number or text that a query answers, as text.
    pub(crate) async fn one(&self, query: &str) -> anyhow::Result<Option<String>> {
        let query = format!("SELECT CAST(({query}) AS TEXT) AS found");
        Ok(if let Some(database) = self.service.database() {
            let mut connection = PgConnection::connect(&database.url).await?;
            let row = sqlx::query(AssertSqlSafe(query))
                .fetch_one(&mut connection)
                .await?;
            row.get("found")
        } else {
            let mut connection = self.sqlite().await?;
            let row = sqlx::query(AssertSqlSafe(query))
                .fetch_one(&mut connection)
                .await?;
            row.get("found")
        })
    }

    async fn sqlite(&self) -> anyhow::Result<SqliteConnection> {
        let options = SqliteConnectOptions::new()
            .filename(self.service.data().join("read.db"))
            .busy_timeout(PATIENCE);
        Ok(SqliteConnection::connect_with(&options).await?)
    }
}

pub(crate) async fn replay(admin: &Api, body: &Value) -> anyhow::Result<String> {
    let started = admin.post("/v1/replays", body).await?.expect(202)?;
    text(&started, "id")
}

pub(crate) async fn ended(admin: &Api, id: &str) -> anyhow::Result<Value> {
    eventually(async || {
        let replay = admin.get(&format!("/v1/replays/{id}")).await?.expect(200)?;
        let status = text(&replay, "status")?;
        let over = matches!(status.as_str(), "completed" | "failed" | "cancelled");
        Ok(over.then_some(replay))
    })
    .await
    .with_context(|| format!("the replay {id}"))
}

/// A text in a body.
pub(crate) fn text(body: &Value, field: &str) -> anyhow::Result<String> {
    let text = body[field].as_str();
    Ok(text
        .with_context(|| format!("{field} is missing in {body}"))?
        .to_owned())
}

pub(crate) async fn get_after(api: &Api, path: &str, position: &str) -> anyhow::Result<Reply> {
    api.call(Method::GET, path, None, &[("tidings-at-least", position)])
        .await
}

/// The first answer that there is.
pub(crate) async fn eventually<T>(
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "it did not come in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
