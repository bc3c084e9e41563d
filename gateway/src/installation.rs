//! Opening what an installation keeps: the engine, the keys and the read models.

use std::sync::Arc;

use broker::embedded::Embedded;
use broker::jetstream::{self, JetStream};
use broker::{Engine, Repair};
use delivery::{EgressPolicy, Ports, Schemes};
use projections::{ReadModels, Target};

use crate::cli::Failure;
use crate::config::{Cluster, Config, EngineChoice, Profile};
use crate::keys::Keys;

/// The engine and the keys.
pub(crate) struct Installation {
    /// Logs, queue and buckets.
    pub(crate) engine: Arc<dyn Engine>,
    /// Keys.
    pub(crate) keys: Keys,
}

impl Installation {
    /// Opens or, at the first start, makes them. The engine comes first: the embedded one locks the data folder.
    pub(crate) async fn open(config: &Config) -> Result<Self, Failure> {
        let engine = open_engine(config).await?;
        match Keys::open(config) {
            Ok(keys) => Ok(Self { engine, keys }),
            Err(failure) => {
                engine.close().await;
                Err(failure)
            }
        }
    }
}

/// Opens the engine alone.
pub(crate) async fn open_engine(config: &Config) -> Result<Arc<dyn Engine>, Failure> {
    Ok(open_repair(config).await?)
}

/// The same for whoever repairs it.
pub(crate) async fn open_repair(config: &Config) -> Result<Arc<dyn Repair>, Failure> {
    let layout = config.storage.layout.clone();
    match &config.storage.engine {
        EngineChoice::Embedded => {
            let engine = Embedded::open(&config.storage.data, layout).await?;
            Ok(Arc::new(engine))
        }
        EngineChoice::Cluster(cluster) => Ok(Arc::new(JetStream::connect(settings(config, cluster)).await?)),
    }
}

fn settings(config: &Config, cluster: &Cluster) -> jetstream::Settings {
    let layout = config.storage.layout.clone();
    jetstream::Settings {
        replicas: cluster.replicas,
        require_sync_always: config.profile == Profile::Production,
        manage: cluster.manage,
        monitors: cluster.monitors.clone(),
        ..jetstream::Settings::new(cluster.nats_url.expose(), cluster.prefix.clone(), layout)
    }
}

/// Opens the read models; migrates them first where that is this process's task.
pub(crate) async fn open_read_models(config: &Config) -> Result<ReadModels, Failure> {
    let (target, owner, migrate) = targets(config)?;
    if let Some(owner) = owner.filter(|_| migrate) {
        ReadModels::migrate(&owner).await?;
    }
    Ok(ReadModels::open(projections::Settings { target, migrate }).await?)
}

/// Brings the read database up to date with the owner's credentials.
pub(crate) async fn migrate_read_models(config: &Config) -> Result<(), Failure> {
    let (target, owner, _) = targets(config)?;
    Ok(ReadModels::migrate(&owner.unwrap_or(target)).await?)
}

/// Where the read models are, the same as their owner if that is another login, and whether to migrate.
fn targets(config: &Config) -> Result<(Target, Option<Target>, bool), Failure> {
    let cluster = match &config.storage.engine {
        EngineChoice::Embedded => {
            return Ok((
                Target::Sqlite {
                    folder: config.storage.data.clone(),
                },
                None,
                true,
            ));
        }
        EngineChoice::Cluster(cluster) => cluster,
    };
    let target = |url: &crate::config::Secret| Target::Postgres {
        url: url.expose().to_owned(),
    };
    let owner = cluster.database_owner_url.as_ref().map(target);
    match cluster
        .database_url
        .as_ref()
        .map(target)
        .or_else(|| owner.clone())
    {
        Some(login) => Ok((login, owner, cluster.migrate)),
        None => Err(Failure::new(
            "no database is configured",
            "set TIDINGS_DATABASE_URL",
        )),
    }
}

/// Where receivers may be in this installation.
pub(crate) fn egress(config: &Config) -> EgressPolicy {
    let policy = config.sending.egress.clone();
    let (policy, schemes, ports) = match config.profile {
        Profile::Development => (policy.with_loopback(), Schemes::ALL, Ports::any()),
        Profile::Production => (policy, Schemes::HTTPS, Ports::of_the_web()),
    };
    let ports = config.sending.egress_ports.clone().unwrap_or(ports);
    policy
        .by(config.sending.egress_schemes.unwrap_or(schemes))
        .at(ports)
}

/// An error and all that is behind it, in one line.
pub(crate) fn in_full(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in std::iter::successors(Some(error), |&cause| cause.source()) {
        let text = cause.to_string();
        // Many errors repeat what is behind them.
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

impl From<broker::OpenError> for Failure {
    fn from(error: broker::OpenError) -> Self {
        match &error {
            broker::OpenError::Unreachable { what, advice, cause } => Self::new(
                format!("cannot reach {what}: {}", in_full(cause.as_ref())),
                advice,
            ),
            broker::OpenError::Unfit { what, advice } => Self::new(format!("{what} cannot be used"), advice),
        }
    }
}

impl From<projections::OpenError> for Failure {
    fn from(error: projections::OpenError) -> Self {
        Self::new(
            in_full(&error),
            "`tidings doctor` checks the read database in detail; `tidings migrate` brings it up to date",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let error = broker::ReadError::Unavailable("connection refused".into());
        assert_eq!(in_full(&error), "the log is unavailable: connection refused");
    }
}
