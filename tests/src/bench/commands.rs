//! The suite `commands`: what a durable command costs, beside what it could cost.
//!
//! In the process: a raw conditional publish, our dispatcher on both engines, and the `cqrs-es` framework on
//! PostgreSQL. Through HTTP: the release binary `tidings serve`, and a bare handler that does one raw publish per
//! request. All rows take turns, so that drift hits them alike; only one is busy at a time.

mod bare;
mod dispatch;
mod framework;
mod history;
mod http;
mod raw;

use std::collections::BTreeMap;

use broker::embedded::Embedded;
use broker::jetstream::{JetStream, Settings};
use broker::layout::Layout;
use broker::{Engine, Token};
use futures::FutureExt;
use futures::future::LocalBoxFuture;

use super::load::{BoxedWorker, Sample, measure};
use super::report::{Bar, Report};
use super::{Plan, machine};
use crate::nats::NatsServer;
use crate::tools::Folder;

pub(super) use bare::{NAME as BARE, serve as serve_bare};
pub(super) use history::{CHILD as HISTORY, serve as measure_history};
pub(super) use http::build as build_service;

/// Operations in flight.
const LEVELS: [usize; 4] = [1, 16, 64, 256];

const RAW: &str = "raw JetStream conditional publish";
const RAW_BATCH: &str = "raw JetStream atomic batches of 256, one after the other";
const JETSTREAM: &str = "ours in process, JetStream";
const EMBEDDED: &str = "ours in process, embedded";
const MIXED: &str = "ours in process, JetStream, 1 registration to 9 renamings";
const MIXED_EMBEDDED: &str = "ours in process, embedded, 1 registration to 9 renamings";
const FRAMEWORK: &str = "cqrs-es with PostgreSQL, 1 registration to 9 renamings";
const BARE_HTTP: &str = "bare axum handler, one raw publish";
const HTTP: &str = "ours through HTTP, JetStream";
const SINGLE: &str = "messages through HTTP, one by one";
const BULK: &str = "messages through HTTP, bulk of 100";

/// One row: as many workers as the highest level, waiting for their turns.
struct Contender {
    name: &'static str,
    workers: Vec<BoxedWorker>,
    levels: &'static [usize],
    /// Whose memory is told.
    process: u32,
    samples: BTreeMap<usize, Sample>,
}

impl Contender {
    fn new(name: &'static str, workers: Vec<BoxedWorker>, process: u32) -> Self {
        Self {
            name,
            workers,
            levels: &LEVELS,
            process,
            samples: BTreeMap::new(),
        }
    }

    async fn measure(&mut self, plan: &Plan, in_flight: usize) -> anyhow::Result<()> {
        let kept = self.workers.split_off(in_flight.min(self.workers.len()));
        let busy = std::mem::take(&mut self.workers);
        machine::forget_peak(self.process);
        let (back, mut sample) = measure(busy, plan.settle, plan.time).await?;
        sample.peak = Some(machine::peak_mebibytes(self.process)?);
        self.workers = back;
        self.workers.extend(kept);
        self.samples.entry(in_flight).or_default().merge(sample);
        Ok(())
    }
}

/// Measures the suite; see [`super::SUITES`].
pub(super) fn suite<'a>(plan: &'a Plan, report: &'a mut Report) -> LocalBoxFuture<'a, anyhow::Result<()>> {
    async move {
        let contenders = in_process(plan, report).await?;
        judge_in_process(&contenders, report);
        let contenders = over_http(plan, report).await?;
        judge_http(&contenders, report);
        if plan.wants(history::NAME) {
            history::measure(plan, report).await?;
        }
        Ok(())
    }
    .boxed_local()
}

/// An engine on a NATS server that syncs before it acknowledges, under the prefix `bench`.
async fn jetstream(server: &NatsServer) -> anyhow::Result<JetStream> {
    jetstream_at(&server.url()).await
}

async fn jetstream_at(url: &str) -> anyhow::Result<JetStream> {
    let settings = Settings::new(url.to_owned(), Token::new("bench")?, Layout::default());
    Ok(JetStream::connect(settings).await?)
}

async fn in_process(plan: &Plan, report: &mut Report) -> anyhow::Result<Vec<Contender>> {
    let most = LEVELS.into_iter().max().unwrap_or(1);
    let folder = Folder::new()?;
    let server = NatsServer::start().await?;
    let (cluster, embedded) = (
        jetstream(&server).await?,
        Embedded::open(folder.path(), Layout::default()).await?,
    );
    let mut contenders = Vec::new();
    let mut add = |name, workers| contenders.push(Contender::new(name, workers, std::process::id()));
    if plan.wants(RAW) {
        add(RAW, raw::workers(&server.url(), most).await?);
    }
    if plan.wants(JETSTREAM) {
        add(JETSTREAM, dispatch::renaming(&cluster, most).await?);
    }
    if plan.wants(EMBEDDED) {
        add(EMBEDDED, dispatch::renaming(&embedded, most).await?);
    }
    if plan.wants(MIXED) {
        add(MIXED, dispatch::mixed(&cluster, most).await?);
    }
    if plan.wants(MIXED_EMBEDDED) {
        add(MIXED_EMBEDDED, dispatch::mixed(&embedded, most).await?);
    }
    if plan.wants(FRAMEWORK) {
        add(FRAMEWORK, framework::workers(most).await?);
    }
    if plan.wants(RAW_BATCH) {
        contenders.push(Contender {
            levels: &[256],
            ..Contender::new(RAW_BATCH, raw::batching(&server.url()).await?, std::process::id())
        });
    }
    take_turns(plan, &mut contenders).await?;
    tell(&contenders, report);
    cluster.close().await;
    embedded.close().await;
    Ok(contenders)
}

async fn over_http(plan: &Plan, report: &mut Report) -> anyhow::Result<Vec<Contender>> {
    if ![BARE_HTTP, HTTP, SINGLE, BULK].iter().any(|row| plan.wants(row)) {
        return Ok(Vec::new());
    }
    let most = LEVELS.into_iter().max().unwrap_or(1);
    let service = http::Service::start().await?;
    let bare = bare::Server::start().await?;
    let mut contenders = Vec::new();
    let mut add = |name, workers, process| contenders.push(Contender::new(name, workers, process));
    if plan.wants(BARE_HTTP) {
        add(BARE_HTTP, bare.workers(most).await?, bare.pid());
    }
    if plan.wants(HTTP) {
        add(HTTP, service.renaming(most).await?, service.pid());
    }
    if plan.wants(SINGLE) {
        add(SINGLE, service.publishing(most, 1).await?, service.pid());
    }
    if plan.wants(BULK) {
        add(BULK, service.publishing(most, 100).await?, service.pid());
    }
    take_turns(plan, &mut contenders).await?;
    tell(&contenders, report);
    Ok(contenders)
}

/// Every row at each of its levels, then all again.
async fn take_turns(plan: &Plan, contenders: &mut [Contender]) -> anyhow::Result<()> {
    for round in 1..=plan.rounds {
        for level in plan.levels(&LEVELS) {
            for contender in contenders.iter_mut().filter(|row| row.levels.contains(&level)) {
                eprintln!(
                    "round {round} of {}: {}, {level} in flight",
                    plan.rounds, contender.name
                );
                contender.measure(plan, level).await?;
            }
        }
    }
    Ok(())
}

fn tell(contenders: &[Contender], report: &mut Report) {
    for contender in contenders {
        for (in_flight, sample) in &contender.samples {
            report.load(contender.name, *in_flight, sample);
        }
    }
}

/// A row's sample at a level, if it was measured.
fn sample<'a>(contenders: &'a [Contender], name: &str, in_flight: usize) -> Option<&'a Sample> {
    let contender = contenders.iter().find(|contender| contender.name == name)?;
    contender.samples.get(&in_flight)
}

fn judge_in_process(contenders: &[Contender], report: &mut Report) {
    let at = |name, in_flight| sample(contenders, name, in_flight);
    if let (Some(ours), Some(raw)) = (at(JETSTREAM, 256), at(RAW, 256)) {
        let times = ours.per_second() / raw.per_second();
        report.value(
            "ours on JetStream to raw, throughput at 256 in flight",
            times,
            "x",
            Some(Bar::AtLeast(4.0)),
        );
    }
    if let (Some(ours), Some(raw)) = (at(JETSTREAM, 1), at(RAW, 1)) {
        let times = ours.millis(0.5) / raw.millis(0.5);
        report.value(
            "ours on JetStream to raw, p50 alone",
            times,
            "x",
            Some(Bar::AtMost(1.5)),
        );
    }
    if let Some(ours) = at(EMBEDDED, 256) {
        let bar = Some(Bar::AtLeast(15_000.0));
        report.value(
            "ours on the embedded engine, 256 in flight",
            ours.per_second(),
            "1/s",
            bar,
        );
    }
    for (name, engine) in [
        (MIXED, "on JetStream"),
        (MIXED_EMBEDDED, "on the embedded engine"),
    ] {
        if let (Some(ours), Some(theirs)) = (at(name, 256), at(FRAMEWORK, 256)) {
            let times = ours.per_second() / theirs.per_second();
            let row = format!("ours {engine} to cqrs-es, throughput at 256 in flight");
            report.value(&row, times, "x", Some(Bar::AtLeast(10.0)));
        }
    }
}

fn judge_http(contenders: &[Contender], report: &mut Report) {
    let at = |name, in_flight| sample(contenders, name, in_flight);
    if let Some(ours) = at(HTTP, 256) {
        let bar = Some(Bar::AtLeast(8_000.0));
        report.value("ours through HTTP, 256 in flight", ours.per_second(), "1/s", bar);
        if let Some(bare) = at(BARE_HTTP, 256) {
            let times = ours.per_second() / bare.per_second();
            report.value(
                "ours through HTTP to the bare handler, 256 in flight",
                times,
                "x",
                Some(Bar::AtLeast(1.5)),
            );
        }
    }
    if let Some(bulk) = at(BULK, 64) {
        let bar = Some(Bar::AtLeast(40_000.0));
        report.value(
            "messages in bulk through HTTP, 64 in flight",
            bulk.per_second(),
            "events/s",
            bar,
        );
    }
}
