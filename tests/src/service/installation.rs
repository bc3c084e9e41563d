//! What a service needs and leaves behind: its servers, its data, and the program that is started on them.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::{ADMIN_KEY, Engine, START, STOP, binary};
use crate::http::Api;
use crate::nats::NatsServer;
use crate::postgres::{self, Database};
use crate::tools::{Folder, Program, Running};

/// Where a service is started, if not in a place of its own.
#[derive(Debug, Default)]
pub struct Place {
    /// The servers of the cluster engine; without them it is the embedded one.
    pub servers: Option<(NatsServer, Database)>,
    /// The folder for its data, which the caller removes.
    pub data: Option<PathBuf>,
    /// The program, if not the one that is tested.
    pub program: Option<PathBuf>,
}

/// What outlives the process.
#[derive(Debug)]
pub(super) struct Installation {
    pub(super) nats: Option<NatsServer>,
    pub(super) database: Option<Database>,
    pub(super) data: PathBuf,
    /// The program that is started, if not the one that is tested.
    pub(super) program: Option<PathBuf>,
    pub(super) folder: Folder,
}

impl Installation {
    pub(super) async fn new(engine: Engine) -> anyhow::Result<Self> {
        match engine {
            Engine::Embedded => Self::at(Place::default()),
            Engine::Cluster => Self::on(postgres::database().await?).await,
        }
    }

    pub(super) async fn on(database: Database) -> anyhow::Result<Self> {
        Self::at(Place {
            servers: Some((NatsServer::start().await?, database)),
            ..Place::default()
        })
    }

    pub(super) fn at(place: Place) -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let (nats, database) = place.servers.unzip();
        Ok(Self {
            nats,
            database,
            data: place.data.unwrap_or_else(|| folder.path().join("data")),
            program: place.program,
            folder,
        })
    }

    pub(super) fn program(&self, log: &Path, env: &[(String, String)]) -> anyhow::Result<Program> {
        let tested = || self.program.clone().map_or_else(binary, Ok);
        let mut program = Program::new(&tested()?, log, "KILL");
        let command = program.command();
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDINGS_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.folder.path())
            .env("TIDINGS_DATA", &self.data)
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
    pub(super) async fn migrate(&self, env: &[(String, String)]) -> anyhow::Result<()> {
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
    pub(super) async fn serve(
        &self,
        name: &str,
        env: &[(String, String)],
    ) -> anyhow::Result<(Running, String)> {
        let (mut running, url) = self.listen(name, env).await?;
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

    /// The same, and waits only until it listens.
    pub(super) async fn listen(
        &self,
        name: &str,
        env: &[(String, String)],
    ) -> anyhow::Result<(Running, String)> {
        let log = self.folder.path().join(format!("{name}.log"));
        let before = std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
        let mut program = self.program(&log, env)?;
        program.command().arg("serve");
        let mut running = program.start()?;
        let url = running
            .until(START, async || address_in(&log, before))
            .await
            .context("tidings serve")?;
        Ok((running, url))
    }
}

/// The address a service prints when it listens, looked for after the first `skip` bytes of its log.
fn address_in(log: &Path, skip: u64) -> Option<String> {
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
