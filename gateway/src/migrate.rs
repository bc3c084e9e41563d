//! `tidings migrate`: creates what is missing in the log and the read database; repeating it changes nothing.

use std::process::ExitCode;

use crate::cli::Failure;
use crate::config::{Config, EngineChoice};
use crate::installation::{migrate_read_models, open_engine};

/// Runs the subcommand, with credentials that may create streams and tables.
pub(crate) async fn run(mut config: Config) -> Result<ExitCode, Failure> {
    if let EngineChoice::Cluster(cluster) = &mut config.storage.engine {
        // Creating is what this subcommand is for, whatever the serving processes may.
        cluster.manage = true;
    }
    let engine = open_engine(&config).await?;
    println!(
        "the logs, the queue and the buckets are there ({})",
        engine.name()
    );
    engine.close().await;
    migrate_read_models(&config).await?;
    println!("the read models' tables are up to date");
    Ok(ExitCode::SUCCESS)
}
