//! The processes and servers of a run.

use std::path::PathBuf;

use super::REQUEST_TIMEOUT;
use crate::clock::Clock;
use crate::faults::disk::Disk;
use crate::faults::run::Skipped;
use crate::hosts::Hosts;
use crate::nats::{self, NatsServer, Replicas, Sync};
use crate::postgres::{self, Database, Postgres};
use crate::proxy::Proxy;
use crate::service::{Engine, Place, Tidings};

/// Settings of every run: faults are short here, and what waits for them to end must not be long.
const SETTINGS: [(&str, &str); 4] = [
    ("TIDINGS_REQUEST_TIMEOUT", REQUEST_TIMEOUT),
    (
        "TIDINGS_RETRY_SCHEDULE",
        "200ms,500ms,1s,1s,1s,2s,2s,2s,5s,5s,5s,5s",
    ),
    ("TIDINGS_DELIVERY_TIMEOUT", "2s"),
    ("TIDINGS_DELIVERY_BREAKER", "50%,10,10s,1s"),
];
/// Names the program of an earlier version, which a run begins with.
const OLDER: &str = "TIDINGS_OLD_BIN";

/// What a case needs beyond the service and its servers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Setup {
    /// Nothing.
    Plain,
    /// Proxies between the service and its servers, on the cluster engine.
    Links,
    /// A PostgreSQL of its own, which can be stopped.
    Postgres,
    /// A disk of its own for the log, whose power can be cut and which can be full: that of NATS, or the data folder of
    /// the embedded engine.
    Disk {
        /// How NATS syncs on it.
        sync: Sync,
        /// As `truncate` takes it.
        size: &'static str,
    },
    /// Three NATS servers with three copies of every stream.
    Replicas,
    /// Receivers that are found by a name, which can lead elsewhere.
    Names,
    /// A time of day that can be set.
    Clock,
    /// The program of an earlier version at first.
    Older,
}

/// The links between the service and its servers.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) nats: Proxy,
    pub(crate) postgres: Proxy,
}

/// What a case can have beyond the service.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    pub(super) links: Option<Links>,
    pub(super) postgres: Option<Postgres>,
    pub(super) replicas: Option<Replicas>,
    pub(super) hosts: Option<Hosts>,
    pub(super) clock: Option<Clock>,
    pub(super) disk: Option<Disk>,
}

/// The settings of a run and where its service is.
struct Plan {
    place: Place,
    env: Vec<(String, String)>,
    extras: Extras,
}

/// Starts the service with all that the case needs.
pub(super) async fn servers(engine: Engine, setup: Setup) -> anyhow::Result<(Tidings, Extras)> {
    let mut plan = Plan {
        place: Place::default(),
        env: SETTINGS
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        extras: Extras::default(),
    };
    match setup {
        Setup::Disk { size, .. } => plan.extras.disk = Some(Disk::new(size)?),
        Setup::Names => plan.names()?,
        Setup::Clock => plan.clock()?,
        Setup::Older => plan.place.program = Some(older()?),
        Setup::Plain | Setup::Links | Setup::Postgres | Setup::Replicas => {}
    }
    match engine {
        Engine::Embedded => plan.place.data = plan.extras.disk.as_ref().map(|disk| disk.path().join("data")),
        Engine::Cluster => plan.cluster(setup).await?,
    }
    let Plan { place, env, extras } = plan;
    let env: Vec<_> = env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    Ok((Tidings::start_at(place, &env).await?, extras))
}

impl Plan {
    fn names(&mut self) -> anyhow::Result<()> {
        let hosts = Hosts::new()?;
        self.env.extend(hosts.env());
        self.extras.hosts = Some(hosts);
        Ok(())
    }

    fn clock(&mut self) -> anyhow::Result<()> {
        let clock = Clock::new()?;
        self.env.extend(clock.env());
        self.extras.clock = Some(clock);
        Ok(())
    }

    /// The servers of the cluster engine.
    async fn cluster(&mut self, setup: Setup) -> anyhow::Result<()> {
        let (server, mut database) = if matches!(setup, Setup::Links | Setup::Postgres) {
            let server = Postgres::start().await?;
            let database = server.create_database("faults").await?;
            (Some(server), database)
        } else {
            (None, postgres::database().await?)
        };
        let nats = self.nats(setup).await?;
        if let (Some(server), Setup::Links) = (&server, setup) {
            let links = Links {
                nats: Proxy::start(nats.address()).await?,
                postgres: Proxy::start(server.address()).await?,
            };
            database = through(&database, &server.address(), &links.postgres.address());
            self.reach_nats_at(format!("nats://{}", links.nats.address()));
            self.extras.links = Some(links);
        }
        self.extras.postgres = server;
        self.place.servers = Some((nats, database));
        Ok(())
    }

    async fn nats(&mut self, setup: Setup) -> anyhow::Result<NatsServer> {
        if let Setup::Replicas = setup {
            let (first, replicas) = Replicas::start().await?;
            self.reach_nats_at(replicas.url());
            self.env
                .push(("TIDINGS_NATS_REPLICAS".to_owned(), "3".to_owned()));
            self.extras.replicas = Some(replicas);
            return Ok(first);
        }
        let mut options = nats::Options::default();
        if let Setup::Disk { sync, .. } = setup {
            options = options.sync(sync);
        }
        if let Some(disk) = &self.extras.disk {
            options = options.store(disk.path().join("store"));
        }
        options.start().await
    }

    fn reach_nats_at(&mut self, url: String) {
        self.env.push(("TIDINGS_NATS_URL".to_owned(), url));
    }
}

fn older() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os(OLDER).map(PathBuf::from);
    let why = || format!("{OLDER} does not name the program of an earlier version");
    Ok(named
        .filter(|file| file.is_file())
        .ok_or_else(|| Skipped(why()))?)
}

/// A database as the service reaches it through a proxy; who inspects it goes past that.
fn through(database: &Database, server: &str, proxy: &str) -> Database {
    Database {
        url: database.url.clone(),
        owner_url: database.owner_url.clone(),
        projector_url: database.projector_url.replace(server, proxy),
        query_url: database.query_url.replace(server, proxy),
    }
}
