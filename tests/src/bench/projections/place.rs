//! Where the suite's logs and read models are.

use std::sync::Arc;

use broker::embedded::Embedded;
use broker::jetstream::{JetStream, Settings};
use broker::layout::{Layout, Log};
use broker::{Engine, Token};
use projections::{ReadModels, Target};

use super::log::{Generator, SEED, Traffic};
use crate::nats::{NatsServer, Options, Sync};
use crate::postgres::{Database, Postgres};
use crate::tools::Folder;

/// The stream of events of the suite's installation.
pub(super) const STREAM: &str = "BENCH_EVENTS-0";

/// What an operator would give a server of this size; a test's own settings are for many small servers.
const SERVER: [&str; 4] = [
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "maintenance_work_mem=128MB",
    "checkpoint_timeout=15min",
];

/// How much is in the logs of an installation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled {
    /// Events in the log of events.
    pub(super) events: u64,
    /// Messages, and facts of deliveries.
    pub(super) traffic: u64,
}

/// The prefix of the suite's own installations.
pub(super) const PREFIX: &str = "bench";

/// An installation on a server.
pub(super) async fn jetstream(url: &str, prefix: &str) -> anyhow::Result<JetStream> {
    let settings = Settings::new(url.to_owned(), Token::new(prefix)?, Layout::default());
    Ok(JetStream::connect(settings).await?)
}

/// Fills all logs of an installation: so many events, and beside ten of them a message with its deliveries.
pub(super) async fn fill(engine: &dyn Engine, events: u64) -> anyhow::Result<Filled> {
    let mut generator = Generator::new(SEED);
    generator
        .fill(engine.log(Log::Events(0)).as_ref(), events)
        .await?;
    let mut traffic = Traffic::of(&generator, SEED)?;
    let (messages, attempts) = (engine.log(Log::Messages(0)), engine.log(Log::Attempts));
    traffic
        .fill(messages.as_ref(), attempts.as_ref(), events / 10)
        .await?;
    Ok(Filled {
        events: generator.events(),
        traffic: traffic.records(),
    })
}

/// The same logs on a NATS server, and in a folder. The server does not sync what is stored at once: these logs are
/// only read afterwards.
pub(super) async fn on_nats(events: u64) -> anyhow::Result<(NatsServer, Filled)> {
    let server = Options::default().sync(Sync::Default).start().await?;
    let engine = jetstream(&server.url(), PREFIX).await?;
    let filled = fill(&engine, events).await?;
    engine.close().await;
    Ok((server, filled))
}

/// See [`on_nats`].
pub(super) async fn in_folder(events: u64) -> anyhow::Result<(Folder, Filled)> {
    let folder = Folder::new()?;
    let engine = Embedded::open(folder.path(), Layout::default()).await?;
    let filled = fill(&engine, events).await?;
    engine.close().await;
    Ok((folder, filled))
}

/// A PostgreSQL server of the suite's own.
pub(super) async fn postgres() -> anyhow::Result<Postgres> {
    Postgres::start_with(&SERVER).await
}

/// A database with the tables of read models, all empty.
pub(super) async fn database(server: &Postgres, name: &str) -> anyhow::Result<Database> {
    let database = server.create_database(name).await?;
    let owner = Target::Postgres {
        url: database.owner_url.clone(),
    };
    ReadModels::migrate(&owner).await?;
    Ok(database)
}

/// Opens read models in a database whose tables are there.
pub(super) async fn read_models(url: &str) -> anyhow::Result<ReadModels> {
    let target = Target::Postgres { url: url.to_owned() };
    let settings = projections::Settings {
        target,
        migrate: false,
    };
    Ok(ReadModels::open(settings).await?)
}

/// Opens read models in a folder.
pub(super) async fn read_models_in(folder: &std::path::Path) -> anyhow::Result<ReadModels> {
    let target = Target::Sqlite {
        folder: folder.to_path_buf(),
    };
    let settings = projections::Settings {
        target,
        migrate: true,
    };
    Ok(ReadModels::open(settings).await?)
}

/// All logs of an engine.
pub(super) fn logs(engine: &dyn Engine) -> projections::Logs {
    let logs = engine.layout().logs().into_iter();
    logs.map(|log| (log, engine.log(log))).collect()
}

/// One log of events, wherever it is.
pub(super) fn only_events(log: Arc<dyn broker::EventLog>) -> projections::Logs {
    vec![(Log::Events(0), log)]
}
