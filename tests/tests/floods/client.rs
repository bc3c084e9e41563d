//! A service with short patience, a client that writes any bytes, and what the service has used up.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tests::http::Api;
use tests::processes::{open_files, resident};
use tests::service::{Engine, Tidings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// How long anything may take here that must come: far more than the service is told to be patient for, since the
/// machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How much more memory the service may hold than before a flood: what its caches and the allocator keep is in it.
const MEMORY: u64 = 192 << 20;

/// Files that come with use and stay: connections of the read database, of this test.
const FILES: usize = 24;

/// A service, a tenant of it, and what it had in use at rest.
pub(crate) struct Victim {
    pub(crate) service: Tidings,
    pub(crate) api: Api,
    memory: u64,
    files: usize,
}

impl Victim {
    /// One that waits for a second where it waits for clients, and takes so many connections.
    pub(crate) async fn start(connections: &str) -> anyhow::Result<Self> {
        let env = [
            ("TIDINGS_HEAD_TIMEOUT", "1s"),
            ("TIDINGS_BODY_TIMEOUT", "1s"),
            ("TIDINGS_ANSWER_TIMEOUT", "1s"),
            ("TIDINGS_CONNECTIONS", connections),
        ];
        let service = Tidings::start_with(Engine::Embedded, &env).await?;
        let new = json!({ "name": "Acme", "slug": "acme" });
        let made = service.admin()?.post("/v1/tenants", &new).await?.expect(201)?;
        let api = service.tenant(made["api_key"].as_str().context("a key")?)?;
        api.get("/openapi.json").await?.expect(200)?;
        let pid = service.pid();
        Ok(Self {
            memory: resident(pid)?,
            files: open_files(pid)?,
            service,
            api,
        })
    }

    /// A connection of somebody else.
    pub(crate) async fn connect(&self) -> anyhow::Result<Raw> {
        let address = self.service.url().trim_start_matches("http://");
        Ok(Raw(TcpStream::connect(address).await?))
    }

    /// The head of a request with the tenant's key, without its last line.
    pub(crate) fn head(&self, line: &str) -> String {
        let key = self.api.key().unwrap_or_default();
        format!(
            "{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        )
    }

    /// A well-behaved client is served, on a connection of its own.
    pub(crate) async fn serves_others(&self) -> anyhow::Result<()> {
        let other = self.service.tenant(self.api.key().unwrap_or_default())?;
        timeout(PATIENCE, other.get("/v1/users")).await??.expect(200)?;
        Ok(())
    }

    /// Nothing of a flood is left: files are closed, and memory is what it was, within what caches may hold.
    pub(crate) async fn recovers(&self) -> anyhow::Result<()> {
        let (pid, deadline) = (self.service.pid(), Instant::now() + PATIENCE);
        loop {
            let (files, memory) = (open_files(pid)?, resident(pid)?);
            if files <= self.files + FILES && memory <= self.memory + MEMORY {
                println!(
                    "memory {} MiB before, {} MiB after; {} files before, {files} after",
                    self.memory >> 20,
                    memory >> 20,
                    self.files
                );
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{} files and {} MiB before, {files} files and {} MiB now",
                self.files,
                self.memory >> 20,
                memory >> 20
            );
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A connection on which anything can be written.
pub(crate) struct Raw(TcpStream);

impl Raw {
    /// Writes; that the other side has closed already is no failure, for what it answered can still be read.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// Writes without waiting for room: false where the other side takes no more or has closed.
    pub(crate) async fn push(&mut self, bytes: &[u8], within: Duration) -> bool {
        timeout(within, self.0.write_all(bytes))
            .await
            .is_ok_and(|written| written.is_ok())
    }

    /// Everything until the other side closes, which it must, in whichever way.
    pub(crate) async fn closed(&mut self) -> anyhow::Result<String> {
        let mut answer = Vec::new();
        let read = async {
            let mut piece = [0; 8192];
            while let Ok(length @ 1..) = self.0.read(&mut piece).await {
                answer.extend_from_slice(&piece[..length]);
            }
        };
        timeout(PATIENCE, read)
            .await
            .context("the connection stays open")?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// The status of an answer; none where the connection was closed without one.
pub(crate) fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Whether an answer refuses, or there is none.
pub(crate) fn refused(answer: &str) -> bool {
    status(answer).is_none_or(|status| (400..500).contains(&status))
}
