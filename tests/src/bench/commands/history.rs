//! Whether cost stays flat: the same commands on a log that holds a million aggregates, and on an empty one.

use std::collections::BTreeSet;

use broker::layout::Log;
use broker::{Engine, NewRecord, Subject};
use domain::user::{Attributes, Email, UserEvent};
use domain::{Commit, TenantId, Text, UserId};
use futures::{StreamExt, TryStreamExt};
use ulid::Ulid;

use super::{Contender, dispatch, jetstream, sample, take_turns, tell};
use crate::bench::report::{Bar, Report};
use crate::bench::{Plan, machine};
use crate::nats::NatsServer;

pub(super) const NAME: &str = "history";

const EMPTY: &str = "history: ours in process on an empty log";
const FULL: &str = "history: ours in process beside many aggregates";
const IN_FLIGHT: usize = 256;
/// Records of one append while the log is filled.
const PAGE: usize = 500;

/// Fills one of two logs, then lets them take turns.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let aggregates = if plan.quick { 50_000 } else { 1_000_000 };
    let servers = (NatsServer::start().await?, NatsServer::start().await?);
    let engines = (jetstream(&servers.0).await?, jetstream(&servers.1).await?);
    eprintln!("filling a log with {aggregates} aggregates");
    fill(&engines.1, aggregates).await?;
    let mut contenders = Vec::new();
    for (name, engine) in [(EMPTY, &engines.0), (FULL, &engines.1)] {
        contenders.push(Contender {
            name,
            workers: dispatch::renaming(engine, IN_FLIGHT).await?,
            samples: std::collections::BTreeMap::new(),
        });
    }
    take_turns(plan, &mut contenders, &[IN_FLIGHT]).await?;
    tell(&contenders, report);
    if let (Some(empty), Some(full)) = (
        sample(&contenders, EMPTY, IN_FLIGHT),
        sample(&contenders, FULL, IN_FLIGHT),
    ) {
        let part = full.per_second() / empty.per_second();
        let row = format!("throughput beside {aggregates} aggregates to that on an empty log");
        report.value(&row, part, "x", Some(Bar::AtLeast(0.85)));
    }
    let peak = machine::peak_mebibytes(std::process::id())?;
    report.value("peak memory of the process that did this", peak, "MiB", None);
    engines.0.close().await;
    engines.1.close().await;
    Ok(())
}

/// Registers users by records as the dispatcher writes them, in large appends.
async fn fill(engine: &dyn Engine, aggregates: usize) -> anyhow::Result<()> {
    let (log, tenant) = (engine.log(Log::Events(0)), TenantId::new(Ulid::generate()));
    let appends = futures::stream::iter((0..aggregates).step_by(PAGE)).map(|_| {
        let (log, tenant) = (log.clone(), tenant.clone());
        async move {
            let records = (0..PAGE)
                .map(|_| registration(&tenant))
                .collect::<anyhow::Result<_>>()?;
            log.append(records).await?;
            anyhow::Ok(())
        }
    });
    appends.buffer_unordered(4).try_collect::<()>().await
}

fn registration(tenant: &TenantId) -> anyhow::Result<NewRecord> {
    let user = UserId::new(Ulid::generate());
    let event = UserEvent::Registered {
        email: Email::try_from(format!("{user}@example.org"))?,
        name: Text::new("Ada Lovelace")?,
        attributes: Attributes::default(),
        roles: BTreeSet::new(),
    };
    Ok(NewRecord {
        subject: Subject::new(Commit::subject(tenant, "user", user.as_str()))?,
        message_id: format!("{tenant}:{user}"),
        expect: Some(0),
        payload: dispatch::record_of(tenant, &user, 1, &event, None)?.into(),
    })
}
