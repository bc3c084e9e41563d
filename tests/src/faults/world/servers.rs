//! The processes and servers of a run.

use super::REQUEST_TIMEOUT;
use crate::faults::disk::Disk;
use crate::nats::{self, Sync};
use crate::postgres::{self, Database, Postgres};
use crate::proxy::Proxy;
use crate::service::{Engine, Tidings};

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
/// What a case needs beyond the service.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setup {
    /// Proxies between the service and its servers, on the cluster engine.
    pub links: bool,
    /// A PostgreSQL of its own, which can be stopped.
    pub postgres: bool,
    /// NATS on a disk of its own, whose power can be cut, and how it syncs.
    pub disk: Option<Sync>,
}

/// The links between the service and its servers.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) nats: Proxy,
    pub(crate) postgres: Proxy,
}

/// The service and what it works on; dropped in this order.
pub(super) struct Servers {
    pub(super) service: Tidings,
    pub(super) links: Option<Links>,
    pub(super) postgres: Option<Postgres>,
    pub(super) disk: Option<Disk>,
}

/// Starts the service, with proxies, a PostgreSQL or a disk of its own where they are wanted.
pub(super) async fn servers(engine: Engine, setup: Setup) -> anyhow::Result<Servers> {
    if engine == Engine::Embedded {
        return Ok(Servers {
            service: Tidings::start_with(engine, &SETTINGS).await?,
            links: None,
            postgres: None,
            disk: None,
        });
    }
    let (postgres, mut database) = if setup.postgres || setup.links {
        let server = Postgres::start().await?;
        let database = server.create_database("faults").await?;
        (Some(server), database)
    } else {
        (None, postgres::database().await?)
    };
    let disk = setup.disk.map(|_| Disk::new()).transpose()?;
    let mut options = nats::Options::default().sync(setup.disk.unwrap_or(Sync::Always));
    if let Some(disk) = &disk {
        options = options.store(disk.path().join("store"));
    }
    let nats = options.start().await?;
    let mut env = SETTINGS.to_vec();
    let mut links = None;
    let url;
    if let (Some(server), true) = (&postgres, setup.links) {
        let made = Links {
            nats: Proxy::start(nats.address()).await?,
            postgres: Proxy::start(server.address()).await?,
        };
        database = through(&database, &server.address(), &made.postgres.address());
        url = format!("nats://{}", made.nats.address());
        env.push(("TIDINGS_NATS_URL", &url));
        links = Some(made);
    }
    Ok(Servers {
        service: Tidings::start_between(nats, database, &env).await?,
        links,
        postgres,
        disk,
    })
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
