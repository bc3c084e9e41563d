//! The service under test: the real binary as a process of its own, on either engine.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use broker::embedded::Embedded;
use broker::jetstream::{JetStream, Settings};
use broker::layout::{Bucket, Layout, Log};
use broker::{Entry, Record, Token};

use crate::http::Api;
use crate::nats::NatsServer;
use crate::postgres::{self, Database};
use crate::tools::{Folder, Program, Running};

/// The platform admin key of every service under test.
pub const ADMIN_KEY: &str = "tdk_admin_only_for_tests_4f8b2c6d9e1a7035";

const START: Duration = Duration::from_mins(1);
const STOP: Duration = Duration::from_mins(1);
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

/// What outlives the process.
#[derive(Debug)]
struct Installation {
    nats: Option<NatsServer>,
    database: Option<Database>,
    folder: Folder,
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
        let installation = Installation {
            nats: Some(nats),
            database: Some(database),
            folder: Folder::new()?,
        };
        Self::start_in(installation, env).await
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
        self.installation.folder.path().join("data")
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
        let mut records = Vec::new();
        loop {
            let after = records.last().map_or(0, |record: &Record| record.sequence);
            let page = log.read(after, None, PAGE).await?;
            if page.is_empty() {
                break;
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

impl Installation {
    async fn new(engine: Engine) -> anyhow::Result<Self> {
        match engine {
            Engine::Embedded => Ok(Self {
                nats: None,
                database: None,
                folder: Folder::new()?,
            }),
            Engine::Cluster => Self::on(postgres::database().await?).await,
        }
    }

    async fn on(database: Database) -> anyhow::Result<Self> {
        Ok(Self {
            nats: Some(NatsServer::start().await?),
            database: Some(database),
            folder: Folder::new()?,
        })
    }

    fn program(&self, log: &std::path::Path, env: &[(String, String)]) -> anyhow::Result<Program> {
        let mut program = Program::new(&binary()?, log, "KILL");
        let command = program.command();
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDINGS_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.folder.path())
            .env("TIDINGS_DATA", self.folder.path().join("data"))
            .env("TIDINGS_LISTEN", "127.0.0.1:0")
            .env("TIDINGS_ADMIN_KEY", ADMIN_KEY)
            .env("TIDINGS_PROFILE", "development");
        if let Some(nats) = &self.nats {
            command.env("TIDINGS_NATS_URL", nats.url());
        }
        if let Some(database) = &self.database {
            command.env("TIDINGS_DATABASE_URL", &database.projector_url);
            command.env("TIDINGS_DATABASE_MIGRATE", "false");
        }
        command.envs(env.iter().map(|(name, value)| (name, value)));
        Ok(program)
    }

    /// On the cluster engine the tables are made beforehand, by their owner, as in production.
    async fn migrate(&self, env: &[(String, String)]) -> anyhow::Result<()> {
        let Some(database) = &self.database else {
            return Ok(());
        };
        let mut program = self.program(&self.folder.path().join("migrate.log"), env)?;
        program
            .command()
            .arg("migrate")
            .env("TIDINGS_DATABASE_URL", &database.owner_url);
        let mut running = program.start()?;
        let status = running.ended(STOP).await?;
        ensure!(
            status.success(),
            "tidings migrate ended with {status}:\n{}",
            running.last_output()
        );
        Ok(())
    }

    /// Starts `tidings serve`, its output in a file of this name, and waits until it is ready.
    async fn serve(&self, name: &str, env: &[(String, String)]) -> anyhow::Result<(Running, String)> {
        let log = self.folder.path().join(format!("{name}.log"));
        let before = std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
        let mut program = self.program(&log, env)?;
        program.command().arg("serve");
        let mut running = program.start()?;
        let url = running
            .until(START, async || address_in(&log, before))
            .await
            .context("tidings serve")?;
        let api = Api::new(&url)?;
        let ready = async || {
            api.get("/health/ready")
                .await
                .ok()
                .filter(|reply| reply.status == 200)
        };
        running
            .until(START, ready)
            .await
            .context("tidings serve, getting ready")?;
        Ok((running, url))
    }
}

/// The address a service prints when it listens, looked for after the first `skip` bytes of its log.
fn address_in(log: &std::path::Path, skip: u64) -> Option<String> {
    let bytes = std::fs::read(log).ok()?;
    let text = String::from_utf8_lossy(bytes.get(usize::try_from(skip).ok()?..)?).into_owned();
    let complete = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    complete
        .filter_map(|line| line.split_once("listening on "))
        .find_map(|(_, rest)| {
            let address: String = rest.chars().take_while(|c| !c.is_whitespace()).collect();
            address.starts_with("http://").then_some(address)
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_taken_from_a_complete_new_line() -> anyhow::Result<()> {
        let folder = Folder::new()?;
        let log = folder.path().join("log");
        std::fs::write(&log, "listening on http://127.0.0.1:1\n")?;
        assert_eq!(address_in(&log, 0).as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(address_in(&log, 32), None);
        std::fs::write(
            &log,
            "listening on http://127.0.0.1:1\nINFO listening on http://127.0.0.1:2",
        )?;
        assert_eq!(address_in(&log, 32), None, "the line may not be complete");
        std::fs::write(
            &log,
            "listening on http://127.0.0.1:1\nINFO listening on http://127.0.0.1:22 now\n",
        )?;
        assert_eq!(address_in(&log, 32).as_deref(), Some("http://127.0.0.1:22"));
        Ok(())
    }
}
