//! Whether cost stays flat: the same commands beside a million aggregates, and on an empty log.
//!
//! Each measurement is a process of its own, this program called anew: it begins with an empty cache, and its memory
//! is its own. The processes take turns, one on an empty log, one on the full.

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use broker::embedded::Embedded;
use broker::layout::{Layout, Log};
use broker::{Engine, NewRecord, Subject};
use commands::Dispatcher;
use domain::user::Email;
use domain::{Commit, TenantId, UserId};
use futures::{StreamExt, TryStreamExt};
use ulid::Ulid;

use super::{dispatch, jetstream};
use crate::bench::load::{self, BoxedWorker, Sample, Worker};
use crate::bench::report::{Bar, Report};
use crate::bench::{Options, Plan, machine};
use crate::nats::NatsServer;
use crate::tools::Folder;

pub(super) const NAME: &str = "history";

/// The name by which this program calls itself to measure.
pub(in crate::bench) const CHILD: &str = "history-measurement";

const IN_FLIGHT: usize = 256;

/// Records of one append while a log is filled, and appends at a time.
const PAGE: u64 = 500;
const AT_A_TIME: usize = 4;

/// Of which engine a log is, and how much more memory the process may need beside many aggregates, in MiB: what the
/// engine is configured to cache.
const ENGINES: [(Kind, &str, f64); 2] = [
    (Kind::JetStream, "JetStream", 16.0),
    (Kind::Embedded, "embedded", 96.0),
];

#[derive(Clone, Copy)]
enum Kind {
    JetStream,
    Embedded,
}

/// Where a log is.
enum Place {
    Server(NatsServer),
    Folder(Folder),
}

impl Place {
    async fn make(kind: Kind) -> anyhow::Result<Self> {
        Ok(match kind {
            Kind::JetStream => Self::Server(NatsServer::start().await?),
            Kind::Embedded => Self::Folder(Folder::new()?),
        })
    }

    /// Fills it with the registrations of numbered users.
    async fn fill(&self, aggregates: u64) -> anyhow::Result<()> {
        match self {
            Self::Server(server) => {
                let engine = jetstream(server).await?;
                fill(&engine, aggregates).await?;
                engine.close().await;
            }
            Self::Folder(folder) => {
                let engine = Embedded::open(folder.path(), Layout::default()).await?;
                fill(&engine, aggregates).await?;
                engine.close().await;
            }
        }
        Ok(())
    }

    /// Lets a process measure here; `stored`: it commands the users that fill the log instead of its own.
    async fn measure(&self, plan: &Plan, stored: Option<u64>) -> anyhow::Result<Sample> {
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.arg(CHILD).kill_on_drop(true);
        match self {
            Self::Server(server) => command.args(["--nats", &server.url()]),
            Self::Folder(folder) => command.arg("--data").arg(folder.path()),
        };
        if let Some(stored) = stored {
            command.args(["--stored", &stored.to_string()]);
        }
        if plan.quick {
            command.arg("--quick");
        }
        let done = command.stderr(std::process::Stdio::inherit()).output().await?;
        ensure!(done.status.success(), "a measurement beside history failed");
        serde_json::from_slice(&done.stdout).context("what a measurement beside history printed")
    }
}

/// Measures both engines.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let aggregates = if plan.quick { 50_000 } else { 1_000_000 };
    for (kind, engine, allowance) in ENGINES {
        let name = |what: &str| format!("{NAME}: ours in process, {engine}, {what}");
        let full = Place::make(kind).await?;
        eprintln!("filling a log with {aggregates} aggregates, {engine}");
        full.fill(aggregates).await?;
        let mut samples = [Sample::default(), Sample::default(), Sample::default()];
        for round in 1..=plan.rounds {
            eprintln!("round {round} of {}: {}", plan.rounds, name("flat or not"));
            let empty = Place::make(kind).await?;
            samples[0].merge(empty.measure(plan, None).await?);
            samples[1].merge(full.measure(plan, None).await?);
            samples[2].merge(full.measure(plan, Some(aggregates)).await?);
        }
        let [empty, beside, cold] = samples;
        report.load(&name("empty log"), IN_FLIGHT, &empty);
        report.load(
            &name(&format!("beside {aggregates} aggregates")),
            IN_FLIGHT,
            &beside,
        );
        report.load(
            &name(&format!("each command on another of {aggregates}, loaded first")),
            IN_FLIGHT,
            &cold,
        );
        let part = beside.per_second() / empty.per_second();
        let row = format!("{engine}: throughput beside {aggregates} aggregates to that on an empty log");
        report.value(&row, part, "x", Some(Bar::AtLeast(0.85)));
        if let (Some(beside), Some(empty)) = (beside.peak, empty.peak) {
            let row =
                format!("{engine}: peak memory beside {aggregates} aggregates, more than on an empty log");
            report.value(&row, beside - empty, "MiB", Some(Bar::AtMost(allowance)));
        }
    }
    Ok(())
}

/// Measures in this process and prints the sample as JSON; see [`CHILD`].
pub(in crate::bench) async fn serve(options: &Options, plan: &Plan) -> anyhow::Result<()> {
    let sample = if let Some(folder) = &options.data {
        let engine = Embedded::open(folder, Layout::default()).await?;
        let sample = run(&engine, options.stored, plan).await?;
        engine.close().await;
        sample
    } else {
        let url = options.nats.as_deref().context("--nats or --data is missing")?;
        let engine = super::jetstream_at(url).await?;
        let sample = run(&engine, options.stored, plan).await?;
        engine.close().await;
        sample
    };
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

async fn run(engine: &dyn Engine, stored: Option<u64>, plan: &Plan) -> anyhow::Result<Sample> {
    let workers = match stored {
        None => dispatch::renaming(engine, IN_FLIGHT).await?,
        Some(stored) => strangers(engine, stored),
    };
    let (_, mut sample) = load::measure(workers, plan.settle, plan.time).await?;
    sample.peak = Some(machine::peak_mebibytes(std::process::id())?);
    Ok(sample)
}

/// The tenant whose users fill a log.
fn tenant() -> TenantId {
    TenantId::new(Ulid::from_parts(0, 1))
}

/// The user of a number: registered one a millisecond, as it were.
fn user(number: u64) -> UserId {
    UserId::new(Ulid::from_parts(1_700_000_000_000 + number, u128::from(number)))
}

/// Registers numbered users by records as the dispatcher writes them, in large appends.
async fn fill(engine: &dyn Engine, aggregates: u64) -> anyhow::Result<()> {
    let log = engine.log(Log::Events(0));
    let pages = (0..aggregates / PAGE).map(|page| {
        let log = log.clone();
        async move {
            let records = (page * PAGE..(page + 1) * PAGE).map(registration);
            log.append(records.collect::<anyhow::Result<_>>()?).await?;
            anyhow::Ok(())
        }
    });
    futures::stream::iter(pages)
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await
}

fn registration(number: u64) -> anyhow::Result<NewRecord> {
    let (tenant, user) = (tenant(), user(number));
    let event = dispatch::registered(Email::try_from(format!("{user}@example.org"))?)?;
    Ok(NewRecord {
        subject: Subject::new(Commit::subject(&tenant, "user", user.as_str()))?,
        message_id: format!("{tenant}:{user}"),
        expect: Some(0),
        payload: dispatch::record_of(&tenant, &user, 1, &event, None)?.into(),
    })
}

/// Workers that each rename one stored user after the other, all over the log; none comes twice.
fn strangers(engine: &dyn Engine, stored: u64) -> Vec<BoxedWorker> {
    let dispatcher = dispatch::dispatcher(engine);
    (0..IN_FLIGHT as u64)
        .map(|worker| {
            Box::new(Stranger {
                dispatcher: dispatcher.clone(),
                next: worker,
                stored,
            }) as BoxedWorker
        })
        .collect()
}

struct Stranger {
    dispatcher: Dispatcher,
    next: u64,
    stored: u64,
}

/// Has no factor in common with the number of aggregates, so that its multiples visit each of them.
const STRIDE: u64 = 618_033;

#[async_trait]
impl Worker for Stranger {
    async fn turn(&mut self) -> anyhow::Result<u64> {
        let user = user(self.next.wrapping_mul(STRIDE) % self.stored);
        self.next += IN_FLIGHT as u64;
        dispatch::rename(&self.dispatcher, &tenant(), &user, self.next).await?;
        Ok(1)
    }
}
