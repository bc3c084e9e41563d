//! `tidings restore`: builds the logs of events again from the archive, and proves them equal; or only compares.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::layout::{Log, Retention, Shard};
use broker::{Engine, LogState, Repair};
use projections::ReadModels;
use projections::restore::{Proof, Restore, RestoreError, Step};

use crate::cli::Failure;
use crate::config::{Config, EngineChoice};
use crate::installation::{in_full, open_engine, open_read_models, open_repair};

/// How often progress is told.
const TELL: Duration = Duration::from_secs(2);

/// Compares every log of events with its archive.
pub(crate) async fn check(config: &Config) -> Result<ExitCode, Failure> {
    let engine = open_engine(config).await?;
    let checked = check_all(config, engine.as_ref()).await;
    engine.close().await;
    checked.map(|()| ExitCode::SUCCESS)
}

async fn check_all(config: &Config, engine: &dyn Engine) -> Result<(), Failure> {
    let read_models = open_read_models(config).await?;
    for shard in 0..engine.layout().shards {
        let log = engine.log(Log::Events(shard));
        let restore = Restore::new(&read_models, log.as_ref(), shard);
        let checked = restore.check(&mut Progress::of(shard).tell()).await;
        told(shard, &checked.map_err(|error| failure(config, shard, &error))?);
    }
    read_models.close().await;
    Ok(())
}

/// Restores every log of events, then settles what depends on their ends.
pub(crate) async fn run(config: &Config, set_aside: bool) -> Result<ExitCode, Failure> {
    let mut engine = open_repair(config).await?;
    if set_aside {
        engine = put_aside(config, engine).await?;
    }
    let restored = restore_all(config, engine.as_ref()).await;
    engine.close().await;
    restored.map(|()| ExitCode::SUCCESS)
}

/// Makes room for logs in the place of those that differ from the archive; sound ones stay.
async fn put_aside(config: &Config, engine: Arc<dyn Repair>) -> Result<Arc<dyn Repair>, Failure> {
    let read_models = open_read_models(config).await?;
    for shard in 0..engine.layout().shards {
        let log = engine.log(Log::Events(shard));
        let restore = Restore::new(&read_models, log.as_ref(), shard);
        match restore.check(&mut |_, _, _| {}).await {
            Err(RestoreError::Differs { .. } | RestoreError::Beheaded { .. }) => {
                let aside = engine.set_aside(Log::Events(shard)).await?;
                println!("EVENTS-{shard}: it was put aside as `{aside}`");
            }
            _ => println!("EVENTS-{shard}: it holds nothing that differs from the archive, and stays"),
        }
    }
    read_models.close().await;
    engine.close().await;
    drop(engine);
    open_repair(config).await
}

async fn restore_all(config: &Config, engine: &dyn Repair) -> Result<(), Failure> {
    let read_models = open_read_models(config).await?;
    let mut lost = false;
    for shard in 0..engine.layout().shards {
        let log = engine.log(Log::Events(shard));
        let before = log.state().await.map_err(|error| unreadable(&error))?;
        let restore = Restore::new(&read_models, log.as_ref(), shard);
        let proof = match restore.run(&mut Progress::of(shard).tell()).await {
            Err(RestoreError::Empty) if before.last == 0 => {
                println!("EVENTS-{shard}: neither the log nor the archive holds a record");
                continue;
            }
            proof => proof.map_err(|error| failure(config, shard, &error))?,
        };
        told(shard, &proof);
        let end = proof.records + proof.ahead;
        let made = restore
            .drop_ahead(end)
            .await
            .map_err(|error| failure(config, shard, &error))?;
        if !made.is_empty() {
            println!(
                "EVENTS-{shard}: records after {end} were lost before they were archived; what knew of them is made anew \
                 at the next start: {}",
                made.join(", ")
            );
        }
        lost |= before.last < proof.records;
        settle_requests(engine, shard, end, &before).await?;
    }
    settle_others(engine, &read_models).await?;
    read_models.close().await;
    println!(
        "{}",
        if lost {
            "restored: `tidings serve` can be started again"
        } else {
            "nothing had to be restored; the logs are taken as they are: `tidings serve` can be started"
        }
    );
    Ok(())
}

/// What was asked of deliveries before the end of a restored log has been carried out, or was lost with the queue: none
/// of it happens again.
async fn settle_requests(
    engine: &dyn Repair,
    shard: Shard,
    end: u64,
    before: &LogState,
) -> Result<(), Failure> {
    let log = Log::Events(shard);
    let places = delivery::cursors::places(engine)
        .await
        .map_err(|error| unmoved(&error))?;
    let at = places.get(&log).copied().unwrap_or_default();
    let all_was_lost = before.last == 0 && at == 0;
    if at > end || all_was_lost {
        let put = delivery::cursors::put(engine, log, end).await;
        put.map_err(|error| unmoved(&error))?;
    }
    Ok(())
}

/// Logs that are kept for a time have no archive: where they lost records, these are gone, but their numbers are not
/// given out again, since read models and deliveries go by them.
async fn settle_others(engine: &dyn Repair, read_models: &ReadModels) -> Result<(), Failure> {
    let mut ends = read_models.folded().await.map_err(|error| unreadable(&error))?;
    for (log, at) in delivery::cursors::places(engine)
        .await
        .map_err(|error| unmoved(&error))?
    {
        let end = ends.entry(log).or_default();
        *end = (*end).max(at);
    }
    for log in engine.layout().logs() {
        if engine.layout().retention(log) == Retention::Forever || matches!(log, Log::Events(_)) {
            continue;
        }
        let end = ends.get(&log).copied().unwrap_or_default();
        let state = engine
            .log(log)
            .state()
            .await
            .map_err(|error| unreadable(&error))?;
        if state.last < end {
            engine.begin_after(log, end).await?;
            println!(
                "{log}: records {} to {end} are lost, which nothing restores; it goes on after them",
                state.last + 1
            );
            let put = delivery::cursors::put(engine, log, end).await;
            put.map_err(|error| unmoved(&error))?;
        }
    }
    Ok(())
}

fn told(shard: Shard, proof: &Proof) {
    let Proof {
        records,
        ahead,
        digest,
    } = proof;
    let digest = hex::encode(digest);
    println!(
        "EVENTS-{shard}: equal to the archive: {records} records, the last is {records}, SHA-256 over all {digest}"
    );
    if *ahead > 0 {
        println!(
            "EVENTS-{shard}: {ahead} more records are in the log and will be archived at the next start"
        );
    }
}

/// What is told while a log is worked at.
struct Progress {
    shard: Shard,
    step: Option<Step>,
    began: (Instant, u64),
    told: Instant,
}

impl Progress {
    fn of(shard: Shard) -> Self {
        let now = Instant::now();
        Self {
            shard,
            step: None,
            began: (now, 0),
            told: now,
        }
    }

    fn tell(mut self) -> impl FnMut(Step, u64, u64) + Send {
        move |step, done, total| {
            let now = Instant::now();
            if self.step != Some(step) {
                self.step = Some(step);
                self.began = (now, done);
            }
            if now - self.told >= TELL {
                self.told = now;
                println!("{}", self.line(step, done, total, now));
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    fn line(&self, step: Step, done: u64, total: u64, now: Instant) -> String {
        let (since, from) = self.began;
        let rate = (done - from) as f64 / (now - since).as_secs_f64().max(0.001);
        let left = (total - done) as f64 / rate.max(1.0);
        let word = match step {
            Step::Comparing => "compared",
            Step::Appending => "appended",
        };
        let shard = self.shard;
        format!("EVENTS-{shard}: {done} of {total} records {word}, {rate:.0}/s, {left:.0} s left")
    }
}

fn failure(config: &Config, shard: Shard, error: &RestoreError) -> Failure {
    let embedded = matches!(config.storage.engine, EngineChoice::Embedded);
    let help = match error {
        RestoreError::Differs { .. } | RestoreError::Beheaded { .. } if embedded => {
            "nothing was changed. Find out who or what changed the log; then `tidings restore --set-aside` keeps it in \
             log.db under another name and restores a new one from the archive"
        }
        RestoreError::Differs { .. } | RestoreError::Beheaded { .. } => {
            "nothing was changed. Find out who or what changed the log; then keep a copy (`nats stream backup`), remove \
             the stream (`nats stream rm`), have `tidings migrate` make an empty one, and run this again"
        }
        RestoreError::Empty => {
            "without an archive nothing can be restored or compared; put back a backup of the read database, or of the log"
        }
        RestoreError::Gap { .. } => {
            "put back a backup of the read database, or of the log, which has that record"
        }
        RestoreError::Short { .. } => "`tidings restore` without --check appends what is missing",
        _ => "run it again: it goes on where it stood; `tidings doctor` checks the log and the read database",
    };
    Failure::new(format!("EVENTS-{shard}: {}", in_full(error)), help)
}

fn unreadable(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(
        in_full(error),
        "`tidings doctor` checks the log and the read database in detail",
    )
}

fn unmoved(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(
        in_full(error),
        "the events are restored; run this again with a NATS user that may write the bucket `cursors`, so that nothing is delivered twice",
    )
}
