//! The suite `projections`: what the read side costs, beside what it could cost.
//!
//! Replays into PostgreSQL and SQLite beside the raw limits of the two things they join, reading a log and writing
//! rows; how far the live models are behind while events arrive, and while a replay runs beside; queries on a large
//! audit trail and proofs in a large log; and the memory of a replay. The logs are made by [`log`]: realistic, and the same from run to run.

mod limits;
mod live;
mod log;
mod memory;
mod place;
mod proofs;
mod queries;
mod replay;

use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use super::Plan;
use super::report::{Bar, Report};
use crate::nats::NatsServer;
use crate::postgres::Postgres;
use crate::tools::Folder;
use place::Filled;
use replay::{Replayed, Request, rate};

pub(super) use replay::{CHILD as REPLAY, serve as measure_replay};

const READ: &str = "raw: ordered consumer reading the log";
const COPY: &str = "raw: COPY and indexes of the audit rows into PostgreSQL";
const AUDIT: &str = "replay of audit into PostgreSQL";
const ALL_POSTGRES: &str = "replay of all projections into PostgreSQL";
const ALL_SQLITE: &str = "replay of all projections into SQLite";

/// Measures the suite; see [`super::SUITES`].
pub(super) fn suite<'a>(plan: &'a Plan, report: &'a mut Report) -> LocalBoxFuture<'a, anyhow::Result<()>> {
    async move {
        if [READ, COPY, AUDIT, ALL_POSTGRES, ALL_SQLITE]
            .iter()
            .any(|row| plan.wants(row))
        {
            replays(plan, report).await?;
        }
        if plan.wants(live::NAME) {
            live::measure(plan, report).await?;
        }
        queries::measure(plan, report).await?;
        if plan.wants(proofs::NAME) {
            proofs::measure(plan, report).await?;
        }
        if plan.wants(memory::NAME) {
            memory::measure(plan, report).await?;
        }
        Ok(())
    }
    .boxed_local()
}

/// How many events a replay goes through.
fn events(plan: &Plan) -> u64 {
    if plan.quick { 100_000 } else { 1_000_000 }
}

/// What was counted, and how long it took, in all rounds.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    count: u64,
    time: Duration,
    peak: f64,
}

impl Total {
    fn add(&mut self, count: u64, time: Duration) {
        self.count += count;
        self.time += time;
    }

    fn replayed(&mut self, count: u64, replayed: Replayed) {
        self.add(count, replayed.time);
        self.peak = self.peak.max(replayed.peak);
    }

    /// Per second; none where nothing was measured.
    fn rate(self) -> Option<f64> {
        (self.count > 0).then(|| rate(self.count, self.time))
    }
}

/// All rows of replays and their limits, in events per second; they take turns.
#[derive(Debug, Default)]
struct Totals {
    read: Total,
    copy: Total,
    index: Duration,
    /// With a live model to compare with, and without.
    audit: Total,
    audit_alone: Total,
    all_postgres: Total,
    all_sqlite: Total,
}

async fn replays(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let events = events(plan);
    eprintln!("filling logs with {events} events on a NATS server and in a folder");
    let (nats, filled) = place::on_nats(events).await?;
    let (folder, _) = if plan.wants(ALL_SQLITE) {
        place::in_folder(events).await?
    } else {
        (Folder::new()?, filled)
    };
    let server = place::postgres().await?;
    let mut totals = Totals::default();
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}: replays and their limits", plan.rounds);
        into_postgres(plan, &nats, &server, filled, round, &mut totals).await?;
        if plan.wants(ALL_SQLITE) {
            eprintln!("round {round} of {}: {ALL_SQLITE}", plan.rounds);
            let read_models = Folder::new()?;
            let replayed = Request::new(place::PREFIX, &[])?
                .on_folder(folder.path())
                .into_folder(read_models.path())
                .run()
                .await?;
            totals
                .all_sqlite
                .replayed(filled.events + filled.traffic, replayed);
        }
    }
    tell(report, filled, &totals);
    Ok(())
}

async fn into_postgres(
    plan: &Plan,
    nats: &NatsServer,
    server: &Postgres,
    filled: Filled,
    round: u32,
    totals: &mut Totals,
) -> anyhow::Result<()> {
    if plan.wants(READ) {
        let (_, time) = limits::read(&nats.url(), place::STREAM).await?;
        totals.read.add(filled.events, time);
    }
    if plan.wants(AUDIT) || plan.wants(COPY) {
        let name = format!("audit_{round}");
        let database = place::database(server, &name).await?;
        let request = || -> anyhow::Result<Request> {
            let request = Request::new(place::PREFIX, &["audit"])?;
            Ok(request
                .on_nats(&nats.url())
                .into_database(&database.projector_url))
        };
        totals
            .audit_alone
            .replayed(filled.events, request()?.run().await?);
        if plan.wants(AUDIT) {
            totals.audit.replayed(filled.events, request()?.run().await?);
        }
        if plan.wants(COPY) {
            let copied = limits::copy(server, &name, "audit").await?;
            totals.copy.add(copied.rows, copied.copy + copied.index);
            totals.index += copied.index;
        }
        server.drop_database(&name).await?;
    }
    if plan.wants(ALL_POSTGRES) {
        let name = format!("all_{round}");
        let database = place::database(server, &name).await?;
        let replayed = Request::new(place::PREFIX, &[])?
            .on_nats(&nats.url())
            .into_database(&database.projector_url)
            .run()
            .await?;
        totals
            .all_postgres
            .replayed(filled.events + filled.traffic, replayed);
        server.drop_database(&name).await?;
    }
    Ok(())
}

fn tell(report: &mut Report, filled: Filled, totals: &Totals) {
    let unit = "events/s";
    let mut row = |name: &str, total: Total, bar: Option<f64>| {
        if let Some(rate) = total.rate() {
            report.value(name, rate, unit, bar.map(Bar::AtLeast));
        }
    };
    let (events, all) = (filled.events, filled.events + filled.traffic);
    row(&format!("{READ} of {events} events"), totals.read, None);
    row(COPY, totals.copy, None);
    row(
        &format!("{AUDIT}, {events} events, nothing live to compare with"),
        totals.audit_alone,
        None,
    );
    row(
        &format!("{AUDIT}, {events} events, compared and switched"),
        totals.audit,
        Some(100_000.0),
    );
    row(
        &format!("{ALL_POSTGRES}, {all} events, messages and facts of deliveries"),
        totals.all_postgres,
        Some(40_000.0),
    );
    row(
        &format!("{ALL_SQLITE}, the same"),
        totals.all_sqlite,
        Some(40_000.0),
    );
    let limit = [totals.read.rate(), totals.copy.rate()]
        .into_iter()
        .flatten()
        .reduce(f64::min);
    if let (Some(limit), Some(audit)) = (limit, totals.audit.rate()) {
        let row = "replay of audit to the slower limit";
        report.value(row, audit / limit, "x", Some(Bar::AtLeast(0.3)));
    }
    for (name, total) in [
        (AUDIT, totals.audit),
        (ALL_POSTGRES, totals.all_postgres),
        (ALL_SQLITE, totals.all_sqlite),
    ] {
        if total.count > 0 {
            let row = format!("{name}, peak memory of its process");
            report.value(&row, total.peak, "MiB", Some(Bar::AtMost(300.0)));
        }
    }
}
