//! A private nats-server with JetStream for one test: free port, temporary store, gone with the test process.

mod harness;
pub mod operator;
mod replicas;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::net::TcpStream;

use crate::tools::{self, Folder, Program, Running};

pub use harness::JetStreamHarness;
pub use replicas::{Replicas, leader, server_name};

/// How often ports are chosen for a server.
const TRIES: u32 = 5;
const START: Duration = Duration::from_secs(20);

/// How a test server syncs what it stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before every acknowledgement, as in every configuration of Tidings.
    Always,
    /// Every two minutes, as nats-server does by itself.
    Default,
}

/// What a test server is started with.
#[derive(Debug, Clone)]
pub struct Options {
    sync: Sync,
    config: Option<PathBuf>,
    store: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: Sync::Always,
            config: None,
            store: None,
            environment: Vec::new(),
        }
    }
}

impl Options {
    /// Syncs otherwise than always.
    #[must_use]
    pub fn sync(mut self, sync: Sync) -> Self {
        self.sync = sync;
        self
    }

    /// Takes a configuration file, which says how to sync; port, monitoring and store are still the test's.
    #[must_use]
    pub fn config(mut self, file: impl Into<PathBuf>) -> Self {
        self.config = Some(file.into());
        self
    }

    /// Keeps its streams in this folder, which stays when the server is gone.
    #[must_use]
    pub fn store(mut self, folder: impl Into<PathBuf>) -> Self {
        self.store = Some(folder.into());
        self
    }

    /// Sets an environment variable that the configuration file refers to.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server and waits until it takes connections.
    pub async fn start(self) -> anyhow::Result<NatsServer> {
        let mut server = self.make()?;
        for _ in 1..TRIES {
            match server.restart().await {
                // Somebody else took a port between its choice and its use.
                Err(_) if server.log().contains("address already in use") => {
                    server.port = tools::free_port()?;
                    server.monitor_port = tools::free_port()?;
                }
                started => return started.map(|()| server),
            }
        }
        server.restart().await?;
        Ok(server)
    }

    /// Prepares the server, which does not run yet.
    fn make(self) -> anyhow::Result<NatsServer> {
        let folder = Folder::new()?;
        let config = match &self.config {
            Some(file) => file.clone(),
            None => write_config(folder.path(), self.sync)?,
        };
        Ok(NatsServer {
            running: None,
            binary: tools::nats_server()?,
            config,
            store: self.store.unwrap_or_else(|| folder.path().join("store")),
            environment: self.environment,
            port: tools::free_port()?,
            monitor_port: tools::free_port()?,
            folder,
        })
    }
}

fn write_config(folder: &Path, sync: Sync) -> anyhow::Result<PathBuf> {
    let sync = match sync {
        Sync::Always => "sync_interval: always",
        Sync::Default => "",
    };
    let file = folder.join("nats.conf");
    fs::write(&file, format!("max_payload: 2MB\njetstream {{ {sync} }}\n"))?;
    Ok(file)
}

/// A running server; dropped, it is killed and its store removed.
#[derive(Debug)]
pub struct NatsServer {
    running: Option<Running>,
    binary: PathBuf,
    config: PathBuf,
    store: PathBuf,
    environment: Vec<(String, String)>,
    port: u16,
    monitor_port: u16,
    folder: Folder,
}

impl NatsServer {
    /// A server that syncs before it acknowledges.
    pub async fn start() -> anyhow::Result<Self> {
        Options::default().start().await
    }

    /// `nats://127.0.0.1:<port>`, the same after a restart.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The monitoring address, `http://127.0.0.1:<port>`.
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor_port)
    }

    /// Where it keeps its streams.
    pub fn store(&self) -> PathBuf {
        self.store.clone()
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    /// Sends it a signal by name, as `STOP` and `CONT`.
    pub fn signal(&mut self, signal: &str) -> anyhow::Result<()> {
        self.running
            .as_mut()
            .context("the server is not running")?
            .signal(signal)
    }

    /// Kills it (SIGKILL), as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let mut running = self.running.take().context("the server is not running")?;
        running.kill().await
    }

    /// Ends it in order.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let mut running = self.running.take().context("the server is not running")?;
        running.signal("TERM")?;
        running.ended(START).await.map(drop)
    }

    /// Starts it again on the same port and store; one that runs is killed first.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.launch().await?;
        self.until_healthy().await
    }

    /// The same without waiting: one of several is well only when others are there.
    pub async fn launch(&mut self) -> anyhow::Result<()> {
        if self.running.is_some() {
            self.kill().await?;
        }
        self.running = Some(self.program().start()?);
        Ok(())
    }

    /// Waits until it says that it and its streams are well.
    pub async fn until_healthy(&mut self) -> anyhow::Result<()> {
        let mut running = self.running.take().context("the server is not running")?;
        self.wait_healthy(&mut running).await?;
        self.running = Some(running);
        Ok(())
    }

    /// Waits until it takes connections, which it does when it has opened its streams, well or not; whether it does.
    pub async fn until_listening(&mut self) -> bool {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if TcpStream::connect(self.address()).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// Whether it says so now.
    pub async fn is_healthy(&self) -> bool {
        healthy(&format!("127.0.0.1:{}", self.monitor_port)).await.is_ok()
    }

    async fn wait_healthy(&self, running: &mut Running) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while !self.is_healthy().await {
            if let Ok(status) = running.ended(Duration::ZERO).await {
                bail!(
                    "nats-server ended with {status}; its last output:\n{}",
                    running.last_output()
                );
            }
            ensure!(
                Instant::now() < deadline,
                "not healthy after {START:?}:\n{}",
                running.last_output()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn program(&self) -> Program {
        let mut program = Program::new(&self.binary, &self.folder.path().join("log"), "KILL");
        let command = program.command();
        command
            .arg("--config")
            .arg(&self.config)
            .arg("--store_dir")
            .arg(self.store());
        command.args([
            "--jetstream",
            "--addr",
            "127.0.0.1",
            "--port",
            &self.port.to_string(),
        ]);
        command.args(["--http_port", &self.monitor_port.to_string()]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        program
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// Whether the server says that it and JetStream are well.
async fn healthy(monitor: &str) -> anyhow::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut connection = TcpStream::connect(monitor).await?;
    connection.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.0 200"), "not healthy yet");
    Ok(())
}
