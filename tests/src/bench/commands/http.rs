//! Ours through HTTP: the release binary as a process of its own, kept connections.
//!
//! The process has the role `gateway` alone: projectors and delivery are other processes wherever throughput
//! matters, as PostgreSQL is another machine.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::bench::load::{BoxedWorker, Worker};
use crate::bench::wire::Wire;
use crate::sample;
use crate::service::{Engine, Tidings};

/// How long a server may take to start.
pub(super) const START: Duration = Duration::from_secs(30);

/// The service with one tenant.
pub(super) struct Service {
    tidings: Tidings,
    key: String,
}

impl Service {
    /// Builds the binary as this program was built, and starts it.
    pub(super) async fn start() -> anyhow::Result<Self> {
        build().await?;
        let settings = [("TIDINGS_ROLES", "gateway"), ("RUST_LOG", "warn,tidings=info")];
        let tidings = Tidings::start_with(Engine::Cluster, &settings).await?;
        let tenant = json!({ "name": "Bench", "slug": "bench" });
        let tenant = tidings.admin()?.post("/v1/tenants", &tenant).await?.expect(201)?;
        let key = tenant["api_key"].as_str().context("the tenant's key")?.to_owned();
        Ok(Self { tidings, key })
    }

    /// The service's process.
    pub(super) fn pid(&self) -> u32 {
        self.tidings.pid()
    }

    /// Clients that each rename a user of their own.
    pub(super) async fn renaming(&self, count: usize) -> anyhow::Result<Vec<BoxedWorker>> {
        let mut workers = Vec::new();
        for number in 0..count {
            let mut wire = self.wire().await?;
            let body = format!(r#"{{"email":"user{number}@example.org","name":"Ada Lovelace"}}"#);
            let user: Value =
                serde_json::from_slice(wire.send("POST", "/v1/users", body.as_bytes(), 201).await?)?;
            let id = user["id"].as_str().context("the user's id")?;
            workers.push(Box::new(Renaming {
                wire,
                path: format!("/v1/users/{id}"),
                turns: 0,
            }) as BoxedWorker);
        }
        Ok(workers)
    }

    /// Clients that publish real events, `bulk` in each request.
    pub(super) async fn publishing(&self, count: usize, bulk: usize) -> anyhow::Result<Vec<BoxedWorker>> {
        let events = small_events()?;
        let mut workers = Vec::new();
        for number in 0..count {
            let chosen: Vec<&str> = events
                .iter()
                .cycle()
                .skip(number)
                .take(bulk)
                .map(String::as_str)
                .collect();
            let (path, body) = if bulk == 1 {
                ("/v1/events", chosen.concat())
            } else {
                (
                    "/v1/events/bulk",
                    format!(r#"{{"events":[{}]}}"#, chosen.join(",")),
                )
            };
            workers.push(Box::new(Publishing {
                wire: self.wire().await?,
                path,
                body: body.into_bytes(),
                units: bulk as u64,
            }) as BoxedWorker);
        }
        Ok(workers)
    }

    async fn wire(&self) -> anyhow::Result<Wire> {
        Wire::connect(self.tidings.url(), &self.key).await
    }
}

/// Extracts of GitHub's events as request bodies, about 200 bytes each: what a webhook tells that only names what
/// changed.
fn small_events() -> anyhow::Result<Vec<String>> {
    let extract = |data: &Value| {
        json!({
            "action": data["action"],
            "sender": data["sender"]["login"],
            "repository": data["repository"]["full_name"],
            "at": data["repository"]["updated_at"],
        })
    };
    let events = sample::github_events()?.into_iter();
    Ok(events
        .map(|(event_type, data)| json!({ "type": event_type, "data": extract(&data) }).to_string())
        .collect())
}

/// The body of a renaming.
pub(super) fn renaming_body(turn: u64) -> String {
    format!(r#"{{"name":"Ada Lovelace {turn}"}}"#)
}

struct Renaming {
    wire: Wire,
    path: String,
    turns: u64,
}

#[async_trait]
impl Worker for Renaming {
    async fn turn(&mut self) -> anyhow::Result<u64> {
        self.turns += 1;
        let body = renaming_body(self.turns);
        self.wire.send("PATCH", &self.path, body.as_bytes(), 204).await?;
        Ok(1)
    }
}

struct Publishing {
    wire: Wire,
    path: &'static str,
    body: Vec<u8>,
    units: u64,
}

#[async_trait]
impl Worker for Publishing {
    async fn turn(&mut self) -> anyhow::Result<u64> {
        self.wire.send("POST", self.path, &self.body, 202).await?;
        Ok(self.units)
    }
}

/// Builds `tidings` with the cargo that runs this program, so that one command does all; started otherwise, the
/// binary must be there. One that is named (see [`binary`](crate::service::binary)) is measured as it is.
pub(in crate::bench) async fn build() -> anyhow::Result<()> {
    if std::env::var_os("TIDINGS_BIN").is_some() {
        eprintln!("measures the binary {}", crate::service::binary()?.display());
        return Ok(());
    }
    let Some(cargo) = std::env::var_os("CARGO") else {
        return Ok(());
    };
    let mut command = tokio::process::Command::new(cargo);
    command.args(["build", "--quiet", "--package", "gateway", "--bin", "tidings"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let built = command
        .current_dir(crate::tools::repository())
        .stdin(Stdio::null())
        .status()
        .await?;
    ensure!(built.success(), "the binary `tidings` could not be built");
    Ok(())
}
