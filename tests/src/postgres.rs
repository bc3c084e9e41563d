//! A private PostgreSQL for tests, with the shipped roles, and one database per test.
//!
//! The server listens on a free loopback port, keeps its data in a temporary folder with `fsync` on, and ends
//! with the test process. PostgreSQL refuses to run as root; then another user runs it.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;

use crate::processes;
use crate::tools::{self, Folder, Program, Running};

/// The password of every role of a test server.
pub const PASSWORD: &str = "only-for-tests";

const START: Duration = Duration::from_secs(30);

/// A user and group that may run PostgreSQL.
#[derive(Debug, Clone, Copy)]
struct Account {
    user: u32,
    group: u32,
}

/// A running server; dropped, it is stopped and its data removed.
#[derive(Debug)]
pub struct Postgres {
    running: Option<Running>,
    bin: PathBuf,
    account: Option<Account>,
    settings: Vec<String>,
    port: u16,
    folder: Folder,
}

/// A database of its own for one test.
#[derive(Debug, Clone)]
pub struct Database {
    /// For the superuser, who sees past row-level security: to prepare and to inspect.
    pub url: String,
    /// For `tidings_owner`, who owns the database and runs migrations.
    pub owner_url: String,
    /// For `tidings_projector`, who writes read models.
    pub projector_url: String,
    /// For `tidings_query`, who reads them.
    pub query_url: String,
}

/// A new database on the server that all tests of this process share.
pub async fn database() -> anyhow::Result<Database> {
    static SHARED: OnceCell<Postgres> = OnceCell::const_new();
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let server = SHARED.get_or_try_init(Postgres::start).await?;
    server
        .create_database(&format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed)))
        .await
}

impl Postgres {
    /// Makes a new server and waits until it answers. Its superuser is `postgres`.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// The same with other settings than a test has, as `shared_buffers=1GB`.
    pub async fn start_with(settings: &[&str]) -> anyhow::Result<Self> {
        let bin = tools::postgres_bin()?;
        let folder = Folder::new()?;
        let account = account_for(folder.path())?;
        fs::write(folder.path().join("password"), PASSWORD)?;
        if let Some(account) = account {
            for path in [folder.path().to_path_buf(), folder.path().join("password")] {
                chown(path, Some(account.user), Some(account.group))?;
            }
        }
        let mut server = Self {
            running: None,
            bin,
            account,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            port: tools::free_port()?,
            folder,
        };
        server.initdb()?;
        server.restart().await?;
        Ok(server)
    }

    fn initdb(&self) -> anyhow::Result<()> {
        let mut initdb = Command::new(self.bin.join("initdb"));
        initdb
            .args([
                "--username=postgres",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .arg("--pgdata")
            .arg(self.data())
            .arg("--pwfile")
            .arg(self.folder.path().join("password"))
            .current_dir("/")
            .stdin(Stdio::null());
        if let Some(account) = self.account {
            initdb.uid(account.user).gid(account.group);
        }
        let output = initdb.output().with_context(|| {
            format!(
                "the user for PostgreSQL cannot run {}",
                self.bin.join("initdb").display()
            )
        })?;
        ensure!(
            output.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Where the server, which may be another user, can write files of its own.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn spawn(&self) -> anyhow::Result<Running> {
        let log = self.folder.path().join("log");
        let mut program = Program::new(&self.bin.join("postgres"), &log, "QUIT");
        let socket_folder = self.folder.path().display().to_string();
        program.command().arg("-D").arg(self.data()).current_dir("/");
        for setting in [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={socket_folder}"),
            "fsync=on".to_owned(),
            "max_connections=300".to_owned(),
            "shared_buffers=64MB".to_owned(),
        ] {
            program.command().args(["-c", &setting]);
        }
        // Of a setting named twice the last counts.
        for setting in &self.settings {
            program.command().args(["-c", setting]);
        }
        if let Some(account) = self.account {
            program.run_as(account.user, account.group);
        }
        program.start()
    }

    /// Starts the server again on the same data and port, after [`Self::stop`] or [`Self::kill`].
    ///
    /// After a kill its orphaned processes hold the data for a moment, and a start fails until they are gone.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        if self.running.is_some() {
            self.stop().await?;
        }
        let mut tries = 0;
        loop {
            match self.start_once().await {
                Ok(running) => {
                    self.running = Some(running);
                    return Ok(());
                }
                Err(error) if tries >= 20 => return Err(error),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn start_once(&self) -> anyhow::Result<Running> {
        let mut running = self.spawn()?;
        let url = self.url();
        running
            .until(START, async || PgConnection::connect(&url).await.ok())
            .await?;
        Ok(running)
    }

    /// Ends it in order: open transactions are rolled back, everything is written.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let mut running = self.running.take().context("the server is not running")?;
        running.signal("INT")?;
        running.ended(START).await.map(drop)
    }

    /// Kills its main process (SIGKILL), as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.running
            .take()
            .context("the server is not running")?
            .kill()
            .await
    }

    /// `127.0.0.1:<port>`, the same after a restart.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Holds it still (SIGSTOP), its main process first so that no new one begins, or lets it go on (SIGCONT).
    pub fn signal(&mut self, signal: &str) -> anyhow::Result<()> {
        let running = self.running.as_mut().context("the server is not running")?;
        running.signal(signal)?;
        let children = processes::children(running.pid())?;
        if children.is_empty() {
            return Ok(());
        }
        let status = Command::new("kill")
            .args(["-s", signal])
            .args(children.iter().map(u32::to_string))
            .status()?;
        // A connection's process may have ended in between; the others got it.
        ensure!(
            status.success() || children.len() > 1,
            "SIG{signal} reached none of the server's processes"
        );
        Ok(())
    }

    /// The superuser's connection string, to the database `postgres`.
    pub fn url(&self) -> String {
        self.url_for("postgres", "postgres")
    }

    /// A role's connection string to a database; every role has [`PASSWORD`].
    pub fn url_for(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes a database and, by the shipped script, its roles and their rights.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<Database> {
        ensure!(
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
            "name {name:?}"
        );
        let mut connection = PgConnection::connect(&self.url()).await?;
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        self.run_shipped_script(name).await?;
        Ok(Database {
            url: self.url_for("postgres", name),
            owner_url: self.url_for("tidings_owner", name),
            projector_url: self.url_for("tidings_projector", name),
            query_url: self.url_for("tidings_query", name),
        })
    }

    /// Removes a database and whoever is connected to it.
    pub async fn drop_database(&self, name: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.url()).await?;
        sqlx::query(sqlx::AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)")))
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok(())
    }

    /// Runs `deploy/postgres/init.sh` as the container image does, but over TCP.
    async fn run_shipped_script(&self, database: &str) -> anyhow::Result<()> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.bin.clone()).chain(std::env::split_paths(&path));
        let output = tokio::process::Command::new("sh")
            .arg(tools::repository().join("deploy/postgres/init.sh"))
            .env("PATH", std::env::join_paths(folders)?)
            .envs([
                ("PGHOST", "127.0.0.1"),
                ("PGPASSWORD", PASSWORD),
                ("POSTGRES_USER", "postgres"),
            ])
            .env("PGPORT", self.port.to_string())
            .env("POSTGRES_DB", database)
            .envs(["OWNER", "PROJECTOR", "QUERY"].map(|role| (format!("TIDINGS_{role}_PASSWORD"), PASSWORD)))
            .stdin(Stdio::null())
            .output()
            .await?;
        if !output.status.success() {
            bail!(
                "deploy/postgres/init.sh failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }
}

/// The account to run PostgreSQL under: none but root's needs changing, which the folder's owner tells.
fn account_for(folder: &Path) -> anyhow::Result<Option<Account>> {
    if fs::metadata(folder)?.uid() != 0 {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").context("cannot look for a user to run PostgreSQL")?;
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| account_named(&accounts, name))
        .map(Some)
        .context("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`")
}

fn account_named(accounts: &str, name: &str) -> Option<Account> {
    accounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [found, _, user, group, ..] = fields.as_slice() else {
            return None;
        };
        (*found == name).then(|| {
            Some(Account {
                user: user.parse().ok()?,
                group: group.parse().ok()?,
            })
        })?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let accounts =
            "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:7::/:/bin/sh\npostgres:x:101:104::/:/bin/sh\n";
        let found = account_named(accounts, "postgres").map(|account| (account.user, account.group));
        assert_eq!(found, Some((101, 104)));
        assert!(account_named(accounts, "nobody").is_none());
    }
}
