//! The service under test: the real binary as a process of its own, on either engine.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use broker::embedded::Embedded;
use broker::jetstream::{JetStream, Settings};
use broker::layout::{Bucket, Layout, Log};
use broker::{Entry, Record, Token};

use crate::http::Api;
use crate::nats::NatsServer;
use crate::postgres::Database;
use crate::tools::Running;

mod installation;

use installation::Installation;
pub use installation::Place;

/// The platform admin key of every service under test.
pub const ADMIN_KEY: &str = "tdk_admin_only_for_tests_4f8b2c6d9e1a7035";

const START: Duration = Duration::from_mins(1);
const STOP: Duration = Duration::from_mins(1);
/// How long a replica that lags is waited for.
const READ: Duration = Duration::from_secs(20);
/// How many records are read from a log at once.
const PAGE: usize = 500;

/// What a service keeps its data in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// SQLite in its data folder.
    Embedded,
    /// A NATS server and a PostgreSQL database, both private to the service.
    Cluster,
}

/// A running service. Dropped, it is killed and its data removed; a test that panics shows its last output.
#[derive(Debug)]
pub struct Tidings {
    running: Running,
    url: String,
    env: Vec<(String, String)>,
    installation: Installation,
}

impl Tidings {
    /// Starts `tidings serve` with all roles on fresh data and waits until it is ready.
    pub async fn start(engine: Engine) -> anyhow::Result<Self> {
        Self::start_with(engine, &[]).await
    }

    /// The same with more settings, as environment variables.
    pub async fn start_with(engine: Engine, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_in(Installation::new(engine).await?, env).await
    }

    /// The same on the cluster engine, with read models in an empty database of the caller's.
    pub async fn start_on(database: Database, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_in(Installation::on(database).await?, env).await
    }

    /// The same on servers of the caller's, which `env` may name by other addresses, as that of a proxy.
    pub async fn start_between(
        nats: NatsServer,
        database: Database,
        env: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let place = Place {
            servers: Some((nats, database)),
            ..Place::default()
        };
        Self::start_at(place, env).await
    }

    /// The same wherever the caller wants.
    pub async fn start_at(place: Place, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_in(Installation::at(place)?, env).await
    }

    async fn start_in(installation: Installation, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<Vec<_>>();
        installation.migrate(&env).await?;
        let (running, url) = installation.serve("serve", &env).await?;
        Ok(Self {
            running,
            url,
            env,
            installation,
        })
    }

    /// The service's address, as `http://127.0.0.1:1234`; another one after a restart.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls without a credential.
    pub fn anyone(&self) -> anyhow::Result<Api> {
        Api::new(&self.url)
    }

    /// Calls as the platform's administrator.
    pub fn admin(&self) -> anyhow::Result<Api> {
        Ok(self.anyone()?.with_key(ADMIN_KEY))
    }

    /// Calls with a tenant's key.
    pub fn tenant(&self, key: &str) -> anyhow::Result<Api> {
        Ok(self.anyone()?.with_key(key))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// All it has printed, over restarts too.
    pub fn output(&self) -> String {
        self.running.output()
    }

    /// The end of that.
    pub fn last_output(&self) -> String {
        self.running.last_output()
    }

    /// The database of its read models, on the cluster engine.
    pub fn database(&self) -> Option<&Database> {
        self.installation.database.as_ref()
    }

    /// The folder of its data: the embedded engine's files and generated keys.
    pub fn data(&self) -> PathBuf {
        self.installation.data.clone()
    }

    /// Its NATS server, on the cluster engine.
    pub fn nats(&mut self) -> Option<&mut NatsServer> {
        self.installation.nats.as_mut()
    }

    /// Sends a signal by name, as `STOP` or `CONT`.
    pub fn signal(&mut self, signal: &str) -> anyhow::Result<()> {
        self.running.signal(signal)
    }

    /// Kills it (SIGKILL), as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.running.kill().await
    }

    /// Asks it to end (SIGTERM) and answers how it did.
    pub async fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        self.running.signal("TERM")?;
        self.running.ended(STOP).await
    }

    /// Starts it again on the same data, killing it first if it runs.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.running.kill().await?;
        (self.running, self.url) = self.installation.serve("serve", &self.env).await?;
        Ok(())
    }

    /// The same without waiting until it is ready, which it may never be.
    pub async fn launch(&mut self) -> anyhow::Result<()> {
        self.running.kill().await?;
        (self.running, self.url) = self.installation.listen("serve", &self.env).await?;
        Ok(())
    }

    /// Starts it again with only some of the roles, as `gateway,delivery`, from now on; what is started beside keeps all.
    pub async fn restart_as(&mut self, roles: &str) -> anyhow::Result<()> {
        self.running.kill().await?;
        let mut env = self.env.clone();
        env.push(("TIDINGS_ROLES".to_owned(), roles.to_owned()));
        (self.running, self.url) = self.installation.serve("serve", &env).await?;
        Ok(())
    }

    /// From the next start on the program that is tested runs, where another was started before; the tables are
    /// brought up to date for it by their owner, as in production, while the one before may still run.
    pub async fn upgrade(&mut self) -> anyhow::Result<()> {
        self.installation.program = None;
        self.installation.migrate(&self.env).await
    }

    /// Starts another process of the same installation beside it, with the same settings and keys: on the cluster
    /// engine, since a data folder serves one process only.
    pub async fn beside(&self) -> anyhow::Result<Beside> {
        ensure!(
            self.installation.nats.is_some(),
            "two processes need the cluster engine"
        );
        self.beside_with(&[]).await
    }

    /// The same with more settings, as environment variables.
    pub async fn beside_with(&self, env: &[(&str, &str)]) -> anyhow::Result<Beside> {
        let more = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let env: Vec<_> = self.env.iter().cloned().chain(more).collect();
        let (running, url) = self.installation.serve("beside", &env).await?;
        Ok(Beside { running, url })
    }

    /// What it keeps its logs and buckets in, through the broker's ports. On the embedded engine the process must have
    /// ended: its data folder serves one at a time.
    pub async fn engine(&self) -> anyhow::Result<Box<dyn broker::Engine>> {
        Ok(match &self.installation.nats {
            None => Box::new(Embedded::open(&self.data(), Layout::default()).await?),
            Some(nats) => {
                let settings = Settings::new(nats.url(), Token::new("tidings")?, Layout::default());
                Box::new(JetStream::connect(settings).await?)
            }
        })
    }

    /// Every record of its log of events, in order; for the embedded engine as for [`Tidings::engine`].
    pub async fn events(&mut self) -> anyhow::Result<Vec<Record>> {
        self.records(Log::Events(0)).await
    }

    /// Every record of one of its logs, in order; for the embedded engine as for [`Tidings::engine`].
    pub async fn records(&self, log: Log) -> anyhow::Result<Vec<Record>> {
        let engine = self.engine().await?;
        let log = engine.log(log);
        let (mut records, deadline) = (Vec::new(), Instant::now() + READ);
        loop {
            let after = records.last().map_or(0, |record: &Record| record.sequence);
            let page = log.read(after, None, PAGE).await?;
            if page.is_empty() {
                // A replica that answers may be behind for a moment; the state is asked of the leader.
                if after >= log.state().await?.last || Instant::now() > deadline {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            records.extend(page);
        }
        engine.close().await;
        Ok(records)
    }

    /// Everything in one of its buckets. On the embedded engine the process must have ended.
    pub async fn kept(&self, bucket: Bucket) -> anyhow::Result<Vec<Entry>> {
        let engine = self.engine().await?;
        let kept = engine.bucket(bucket).scan(None).await;
        engine.close().await;
        Ok(kept?)
    }

    /// Runs another subcommand of the binary on the same data and settings, as `doctor`; answers how it ended and
    /// what it printed, both streams together.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<(ExitStatus, String)> {
        self.run_within(arguments, STOP).await
    }

    /// The same, where there is much to do.
    pub async fn run_within(
        &self,
        arguments: &[&str],
        within: Duration,
    ) -> anyhow::Result<(ExitStatus, String)> {
        let mut running = self.begin(arguments)?;
        let status = running.ended(within).await?;
        Ok((status, running.output()))
    }

    /// Runs another subcommand for a while and kills it (SIGKILL), unless it has ended by then.
    pub async fn run_and_kill(&self, arguments: &[&str], after: Duration) -> anyhow::Result<()> {
        let mut running = self.begin(arguments)?;
        if running.ended(after).await.is_err() {
            running.kill().await?;
        }
        Ok(())
    }

    fn begin(&self, arguments: &[&str]) -> anyhow::Result<Running> {
        static RUNS: AtomicU32 = AtomicU32::new(1);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let log = self.installation.folder.path().join(format!("run-{run}.log"));
        let mut program = self.installation.program(&log, &self.env)?;
        program.command().args(arguments);
        program.start()
    }
}

/// A second process of an installation. Dropped, it is killed; drop it before the first.
#[derive(Debug)]
pub struct Beside {
    running: Running,
    url: String,
}

impl Beside {
    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls it with a tenant's key.
    pub fn tenant(&self, key: &str) -> anyhow::Result<Api> {
        Ok(Api::new(&self.url)?.with_key(key))
    }

    /// Calls it as the platform's administrator.
    pub fn admin(&self) -> anyhow::Result<Api> {
        self.tenant(ADMIN_KEY)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Sends a signal by name, as `STOP` or `CONT`.
    pub fn signal(&mut self, signal: &str) -> anyhow::Result<()> {
        self.running.signal(signal)
    }

    /// Kills it (SIGKILL), as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.running.kill().await
    }

    /// Asks it to end (SIGTERM) and answers how it did.
    pub async fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        self.running.signal("TERM")?;
        self.running.ended(STOP).await
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the second process's last output:\n{}",
                self.running.last_output()
            );
        }
    }
}

impl Drop for Tidings {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the service's last output:\n{}", self.running.last_output());
        }
    }
}

/// The binary `tidings`: `TIDINGS_BIN`, else the one beside this program, which for a test is one folder up.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("TIDINGS_BIN") {
        return Ok(PathBuf::from(named));
    }
    let program = std::env::current_exe()?;
    let folder = program.parent().context("where this program was built")?;
    let profile = if folder.ends_with("deps") {
        folder.parent().context("where the tests were built")?
    } else {
        folder
    };
    let binary = profile.join("tidings");
    ensure!(
        binary.is_file(),
        "{} is missing; build it with `cargo build -p gateway --bin tidings`, or run the tests with `tests/run`",
        binary.display()
    );
    Ok(binary)
}

/// Writes an end-to-end test once and runs it on both engines, as `<name>::embedded` and `<name>::cluster`.
///
/// ```ignore
/// tests::for_each_engine! {
///     /// What must hold.
///     async fn a_user_can_be_read_back(engine: Engine) {
///         let service = Tidings::start(engine).await?;
///         Ok(())
///     }
/// }
/// ```
#[macro_export]
macro_rules! for_each_engine {
    ($($(#[$attribute:meta])* async fn $name:ident($engine:ident: Engine) $body:block)+) => {$(
        $(#[$attribute])*
        mod $name {
            use super::*;

            async fn case($engine: $crate::service::Engine) -> ::anyhow::Result<()> $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn embedded() -> ::anyhow::Result<()> {
                case($crate::service::Engine::Embedded).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn cluster() -> ::anyhow::Result<()> {
                case($crate::service::Engine::Cluster).await
            }
        }
    )+};
}
