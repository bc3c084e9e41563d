//! A replay as a process of its own, this program called anew: so its memory is its own, and nothing is warm.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use broker::Engine;
use broker::embedded::Embedded;
use broker::layout::Layout;
use projections::rebuild::{Plan, Rebuild};
use projections::{Control, ReadModels};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::place;
use crate::bench::{Options, machine};

/// The name by which this program calls itself to replay.
pub(in crate::bench) const CHILD: &str = "replay-measurement";

/// What a replay was.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Replayed {
    /// Records gone past, of all logs.
    pub(super) records: u64,
    /// From its start to the switch.
    pub(super) time: Duration,
    /// The most memory the process had, in MiB.
    pub(super) peak: f64,
    /// Whether there was a live model to compare with, and nothing that differed.
    pub(super) compared: bool,
}

impl Replayed {
    /// Records per second.
    pub(super) fn per_second(&self) -> f64 {
        rate(self.records, self.time)
    }
}

/// So many in a time, per second.
#[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
pub(super) fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// What shall be replayed, and where.
#[derive(Debug)]
pub(super) struct Request(Command);

impl Request {
    /// These projections of the installation of this prefix; all, where none is named.
    pub(super) fn new(prefix: &str, projections: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(CHILD).args(["--prefix", prefix]).kill_on_drop(true);
        for projection in projections {
            command.args(["--only", projection]);
        }
        Ok(Self(command))
    }

    /// From the logs of a NATS server.
    pub(super) fn on_nats(mut self, url: &str) -> Self {
        self.0.args(["--nats", url]);
        self
    }

    /// From the logs of a data folder.
    pub(super) fn on_folder(mut self, folder: &Path) -> Self {
        self.0.arg("--data").arg(folder);
        self
    }

    /// Into PostgreSQL.
    pub(super) fn into_database(mut self, url: &str) -> Self {
        self.0.args(["--database", url]);
        self
    }

    /// Into SQLite.
    pub(super) fn into_folder(mut self, folder: &Path) -> Self {
        self.0.arg("--read-models").arg(folder);
        self
    }

    pub(super) fn start(mut self) -> anyhow::Result<Running> {
        self.0.stdout(Stdio::piped()).stderr(Stdio::inherit());
        Ok(Running(self.0.spawn()?))
    }

    /// Replays, and waits for it.
    pub(super) async fn run(self) -> anyhow::Result<Replayed> {
        self.start()?.outcome().await
    }
}

/// A replay under way.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Running {
    pub(super) fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    pub(super) async fn outcome(self) -> anyhow::Result<Replayed> {
        let done = self.0.wait_with_output().await?;
        ensure!(done.status.success(), "a replay failed");
        serde_json::from_slice(&done.stdout).context("what a replay printed")
    }
}

/// Replays in this process and prints what it was as JSON; see [`CHILD`].
pub(in crate::bench) async fn serve(options: &Options) -> anyhow::Result<()> {
    let engine: Box<dyn Engine> = match (&options.nats, &options.data) {
        (Some(url), _) => {
            let prefix = options.prefix.as_deref().context("--prefix is missing")?;
            Box::new(place::jetstream(url, prefix).await?)
        }
        (None, Some(folder)) => Box::new(Embedded::open(folder, Layout::default()).await?),
        (None, None) => anyhow::bail!("--nats or --data is missing"),
    };
    let read_models = match (&options.database, &options.read_models) {
        (Some(url), _) => place::read_models(url).await?,
        (None, Some(folder)) => place::read_models_in(folder).await?,
        (None, None) => anyhow::bail!("--database or --read-models is missing"),
    };
    let replayed = run(&read_models, place::logs(engine.as_ref()), &options.only).await?;
    read_models.close().await;
    engine.close().await;
    println!("{}", serde_json::to_string(&replayed)?);
    Ok(())
}

/// Replays in this process.
pub(super) async fn run(
    read_models: &ReadModels,
    logs: projections::Logs,
    wanted: &[String],
) -> anyhow::Result<Replayed> {
    let plan = if wanted.is_empty() {
        let all = projections::models::all();
        let views = all.iter().filter(|projection| !projection.lasting());
        Plan::of(views.map(|view| view.name()))
    } else {
        Plan::of(wanted)
    };
    let rebuild = Rebuild::new(read_models.clone(), logs, Control::default());
    let began = Instant::now();
    let outcome = rebuild
        .run(&Ulid::generate().to_string(), &plan, &CancellationToken::new())
        .await?;
    let time = began.elapsed();
    let differences = outcome.differences.as_deref().unwrap_or_default();
    ensure!(differences.is_empty(), "the replay differs: {differences:?}");
    Ok(Replayed {
        records: outcome.records,
        time,
        peak: machine::peak_mebibytes(std::process::id())?,
        compared: outcome.differences.is_some(),
    })
}
