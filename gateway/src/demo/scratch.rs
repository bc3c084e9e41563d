//! Where the demo keeps its data: a folder, and on the cluster engine streams and a database of its own, so that it
//! never meets the data of a real installation. All of it goes when the demo ends.

use std::path::Path;

use broker::Token;
use broker::jetstream::{JetStream, Settings};
use broker::layout::Layout;
use ulid::Ulid;

use crate::cli::Failure;

/// The demo's own data.
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
    name: String,
    cluster: Option<Cluster>,
}

struct Cluster {
    nats: String,
    server: String,
    database: String,
}

impl Scratch {
    /// Makes it; on the cluster engine where the URLs of a NATS and a PostgreSQL server are given.
    pub(crate) async fn new(servers: Option<(String, String)>) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("tidings-demo-")
            .tempdir()
            .map_err(|error| {
                Failure::new(
                    format!("no temporary folder can be made: {error}"),
                    "free some space or set TMPDIR",
                )
            })?;
        let name = format!("demo_{}", Ulid::generate().to_string().to_lowercase());
        let cluster = match servers {
            None => None,
            Some((nats, server)) => {
                let database = projections::create_database(&server, &name)
                    .await
                    .map_err(|error| {
                        Failure::new(
                            error.to_string(),
                            "name a PostgreSQL server where you may create databases",
                        )
                    })?;
                Some(Cluster {
                    nats,
                    server,
                    database,
                })
            }
        };
        Ok(Self {
            folder,
            name,
            cluster,
        })
    }

    /// The engine, in words.
    pub(crate) fn engine(&self) -> &'static str {
        match self.cluster {
            None => "embedded engine (SQLite)",
            Some(_) => "cluster engine (NATS JetStream, PostgreSQL)",
        }
    }

    /// The folder the service works in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The service's settings, as environment variables.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![(
            "TIDINGS_DATA",
            self.folder.path().join("data").display().to_string(),
        )];
        if let Some(cluster) = &self.cluster {
            settings.push(("TIDINGS_NATS_URL", cluster.nats.clone()));
            settings.push(("TIDINGS_NATS_PREFIX", self.name.clone()));
            settings.push(("TIDINGS_DATABASE_URL", cluster.database.clone()));
        }
        settings
    }

    /// Removes all of it.
    pub(crate) async fn remove(self) -> Result<(), Failure> {
        let Some(cluster) = self.cluster else {
            return Ok(());
        };
        let left = |what: &str, error: &dyn std::error::Error| {
            Failure::new(
                format!("the demo's {what} {} is left: {error}", self.name),
                "remove it by hand",
            )
        };
        let prefix = Token::new(&self.name).map_err(|error| left("installation", &error))?;
        let mut settings = Settings::new(cluster.nats, prefix, Layout::default());
        settings.require_sync_always = false;
        JetStream::remove(&settings)
            .await
            .map_err(|error| left("streams", &error))?;
        projections::drop_database(&cluster.server, &self.name)
            .await
            .map_err(|error| left("database", &error))
    }
}
