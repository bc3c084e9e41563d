//! How far the read models are behind while events arrive: from the acknowledgement of an append to the moment its
//! rows can be seen.
//!
//! The service is the real binary with the roles `gateway` and `projections`. Events are appended to its log by this
//! program, every [`TICK`] what is due by then in one append, as its own writer groups commands under such a load. A
//! record's rows become visible with the checkpoint that is past it, in one transaction: this program asks for the
//! live checkpoints every [`LOOK`] or so, and counts a record as visible when that answer has come. So a lag is told
//! as up to one look longer than it was, never shorter.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use broker::EventLog;
use broker::layout::Log;
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::log::{Generator, SEED};
use super::{place, replay};
use crate::bench::load::Sample;
use crate::bench::report::{Bar, Report};
use crate::bench::{Plan, commands};
use crate::service::Tidings;

pub(super) const NAME: &str = "live lag";

/// Whose lag is told.
const PROJECTIONS: [&str; 2] = ["audit", "users"];

/// How many events arrive in a second, and how often what is due is appended.
const RATE: u64 = 5_000;
const TICK: Duration = Duration::from_millis(10);
/// How long the reader of checkpoints waits between two looks.
const LOOK: Duration = Duration::from_millis(2);
/// How long events arrive beside a replay at most: it holds back for the live models, and may need longer.
const BESIDE: Duration = Duration::from_mins(1);
/// How long the read models may take to come to the end.
const PATIENCE: Duration = Duration::from_mins(10);

/// What of it was acknowledged when: the sequence of an append's last record, how many events it has, and the time.
type Acknowledged = Vec<(u64, u64, Instant)>;

/// Measures the lag with nothing beside, and while a replay runs.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let (history, time) = if plan.quick {
        (20_000, Duration::from_secs(6))
    } else {
        (1_000_000, Duration::from_secs(30))
    };
    commands::build_service().await?;
    let settings = [
        ("TIDINGS_ROLES", "gateway,projections"),
        ("RUST_LOG", "warn,tidings=info"),
    ];
    let server = place::postgres().await?;
    let database = server.create_database("live").await?;
    let mut service = Tidings::start_on(database, &settings).await?;
    let engine = service.engine().await?;
    let log = engine.log(Log::Events(0));
    let mut generator = Generator::new(SEED);
    eprintln!("{NAME}: a log of {history} events, and read models that are up to date");
    generator.fill(log.as_ref(), history).await?;
    let database = service.database().context("the database")?.clone();
    let mut watcher = Watcher::start(&database.url).await?;
    watcher.reach(log.state().await?.last).await?;

    eprintln!("{NAME}: {RATE} events a second");
    let alone = lag(&mut generator, log.as_ref(), &mut watcher, Until::Time(time)).await?;
    eprintln!("{NAME}: {RATE} events a second, while audit is replayed");
    let nats = service.nats().context("the NATS server")?.url();
    let mut replay = replay::Request::new("tidings", &["audit"])?
        .on_nats(&nats)
        .into_database(&database.projector_url)
        .start()?;
    let beside = lag(
        &mut generator,
        log.as_ref(),
        &mut watcher,
        Until::Ended(&mut replay),
    )
    .await?;
    let replayed = replay.outcome().await?;
    engine.close().await;
    tell(report, &alone, &beside);
    let row =
        format!("{NAME}: replay of audit, of which at most the first minute with {RATE} events/s arriving");
    report.value(&row, replayed.per_second(), "records/s", None);
    Ok(())
}

fn tell(report: &mut Report, alone: &Lags, beside: &Lags) {
    for projection in PROJECTIONS {
        let (Some(alone), Some(beside)) = (alone.get(projection), beside.get(projection)) else {
            continue;
        };
        let row = format!("{NAME} of {projection}, {RATE} events/s arriving");
        report.value(&format!("{row}, p50"), alone.millis(0.5), "ms", None);
        report.value(
            &format!("{row}, p99"),
            alone.millis(0.99),
            "ms",
            Some(Bar::AtMost(100.0)),
        );
        let row = format!("{row}, while audit is replayed");
        report.value(&format!("{row}, p50"), beside.millis(0.5), "ms", None);
        report.value(&format!("{row}, p99"), beside.millis(0.99), "ms", None);
        let times = beside.millis(0.99) / alone.millis(0.99).max(f64::MIN_POSITIVE);
        let row = format!("{NAME} of {projection}, p99 during a replay to that without");
        report.value(&row, times, "x", Some(Bar::AtMost(2.0)));
    }
}

/// How long events arrive.
enum Until<'r> {
    Time(Duration),
    /// Until a replay has ended, or for [`BESIDE`].
    Ended(&'r mut replay::Running),
}

/// The lag of each projection, event by event.
type Lags = BTreeMap<&'static str, Sample>;

/// Lets events arrive, and answers the lags of all of them.
async fn lag(
    generator: &mut Generator,
    log: &dyn EventLog,
    watcher: &mut Watcher,
    until: Until<'_>,
) -> anyhow::Result<Lags> {
    watcher.forget();
    let acknowledged = arrive(generator, log, until).await?;
    let last = acknowledged.last().context("something must have arrived")?.0;
    watcher.reach(last).await?;
    let seen = watcher.seen();
    let mut lags = Lags::new();
    for projection in PROJECTIONS {
        let mut looks = seen
            .iter()
            .filter(|look| look.projection == projection)
            .peekable();
        let sample = lags.entry(projection).or_default();
        for (sequence, events, at) in &acknowledged {
            while looks.next_if(|look| look.sequence < *sequence).is_some() {}
            let look = looks.peek().context("a look past every record")?;
            // Rows can be there before the acknowledgement has come back.
            let lag = look.at.saturating_duration_since(*at);
            sample.add_many(lag, *events);
        }
    }
    Ok(lags)
}

/// Appends at [`RATE`]: an append that takes long is followed by a larger one.
async fn arrive(
    generator: &mut Generator,
    log: &dyn EventLog,
    mut until: Until<'_>,
) -> anyhow::Result<Acknowledged> {
    let mut acknowledged = Acknowledged::new();
    let (began, first) = (Instant::now(), generator.events());
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let over = match &mut until {
            Until::Time(time) => began.elapsed() >= *time,
            Until::Ended(replay) => began.elapsed() >= BESIDE || replay.has_ended()?,
        };
        if over {
            return Ok(acknowledged);
        }
        let due = u64::try_from(began.elapsed().as_millis())? * RATE / 1_000;
        let before = generator.events();
        let batch = generator.batch(first + due)?;
        if batch.is_empty() {
            continue;
        }
        let stored = log.append(batch).await?;
        let sequence = stored.last().context("a stored record")?.sequence;
        acknowledged.push((sequence, generator.events() - before, Instant::now()));
    }
}

/// When a live checkpoint was seen somewhere for the first time.
#[derive(Debug, Clone)]
struct Look {
    projection: String,
    sequence: u64,
    at: Instant,
}

/// Asks for the live checkpoints, again and again.
struct Watcher {
    task: JoinHandle<anyhow::Result<()>>,
    looks: std::sync::Arc<std::sync::Mutex<Vec<Look>>>,
    least: watch::Receiver<u64>,
}

impl Watcher {
    async fn start(url: &str) -> anyhow::Result<Self> {
        let connection = PgConnection::connect(url).await?;
        let looks = std::sync::Arc::default();
        let (tell, least) = watch::channel(0);
        let task = tokio::spawn(watch_checkpoints(connection, std::sync::Arc::clone(&looks), tell));
        Ok(Self { task, looks, least })
    }

    fn forget(&self) {
        self.with(Vec::clear);
    }

    fn seen(&self) -> Vec<Look> {
        self.with(std::mem::take)
    }

    fn with<T>(&self, look: impl FnOnce(&mut Vec<Look>) -> T) -> T {
        look(
            &mut self
                .looks
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    /// Waits until all projections told about are past a record.
    async fn reach(&mut self, sequence: u64) -> anyhow::Result<()> {
        ensure!(!self.task.is_finished(), "the reader of checkpoints has ended");
        let reached = self.least.wait_for(|least| *least >= sequence);
        tokio::time::timeout(PATIENCE, reached)
            .await
            .context("the read models do not come to the end of the log")?
            .context("the reader of checkpoints has ended")?;
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const LIVE: &str = "SELECT projection, sequence FROM checkpoints
    WHERE status = 'live' AND log = 'EVENTS-0' AND projection = ANY ($1)";

async fn watch_checkpoints(
    mut connection: PgConnection,
    looks: std::sync::Arc<std::sync::Mutex<Vec<Look>>>,
    least: watch::Sender<u64>,
) -> anyhow::Result<()> {
    let mut at: BTreeMap<String, u64> = PROJECTIONS.map(|name| (name.to_owned(), 0)).into();
    loop {
        let rows = sqlx::query(LIVE)
            .bind(PROJECTIONS.as_slice())
            .fetch_all(&mut connection)
            .await?;
        let now = Instant::now();
        for row in rows {
            let (projection, sequence): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            let sequence = u64::try_from(sequence)?;
            if at.insert(projection.clone(), sequence) != Some(sequence) {
                let look = Look {
                    projection,
                    sequence,
                    at: now,
                };
                looks
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .push(look);
            }
        }
        least.send_replace(at.values().copied().min().unwrap_or_default());
        tokio::time::sleep(LOOK).await;
    }
}
