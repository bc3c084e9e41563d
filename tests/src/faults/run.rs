//! One run of a case: what comes before the fault and after it, and what is gathered in the end.

use std::collections::HashSet;
use std::fmt;

use anyhow::{Context as _, ensure};
use broker::layout::Log;

use super::cases::Case;
use super::collect;
use super::evidence::{Evidence, Verified};
use super::oracles::{Verdict, judge};
use super::world::{PATIENCE, World};
use crate::receiver::Received;
use crate::service::Engine;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What it left behind.
    pub evidence: Evidence,
    /// What that says.
    pub verdict: Verdict,
}

/// Why a case cannot run here, where that is nobody's fault.
#[derive(Debug)]
pub struct Skipped(pub String);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}

/// Runs a case once; an error is a run that could not be brought to its end.
pub async fn run(case: &Case, engine: Engine, seed: u64) -> anyhow::Result<Outcome> {
    let evidence = Box::pin(gather(case, engine, seed)).await?;
    let verdict = judge(&evidence);
    Ok(Outcome { evidence, verdict })
}

/// Runs a case once, and answers what it left behind without judging it.
pub async fn gather(case: &Case, engine: Engine, seed: u64) -> anyhow::Result<Evidence> {
    let mut world = World::start(engine, case.setup, seed).await?;
    world.load();
    let done = (case.fault)(&mut world).await;
    // An error must tell which of many harms it was.
    let notes = world.notes.join("; ");
    let gathered = match done {
        Ok(()) => finish(world).await,
        Err(error) => Err(error),
    };
    match notes.as_str() {
        "" => gathered,
        _ => gathered.with_context(|| notes),
    }
}

async fn finish(mut world: World) -> anyhow::Result<Evidence> {
    world.rest().await?;
    // What does not come in time is missing from the evidence, where it is judged.
    world.settled().await?;
    let mut evidence = Evidence::default();
    for tenant in &world.tenants {
        let api = world.service.tenant(&tenant.key)?;
        evidence
            .events
            .extend(collect::readable(&api, tenant, &world.tenants).await?.events);
    }
    delivered(&world, &evidence).await;
    world.settled().await?;
    evidence.verified = verified(&world).await?;
    evidence.events.clear();
    collect::queried(&world, &mut evidence).await?;
    if let Some(queries) = world.queries.take() {
        evidence.queries_again = queries.await?;
    }
    let status = world.service.terminate().await?;
    ensure!(
        status.success(),
        "the service did not end in order: {status}\n{}",
        world.service.output()
    );
    for log in [Log::Events(0), Log::Messages(0)] {
        let records = world.service.records(log).await?;
        evidence
            .log
            .extend(collect::stored(log, &records, &world.tenants)?);
    }
    evidence.received = collect::received(&world.receiver.received(), &world.tenants, &world.recorder);
    evidence.history = world.recorder.entries();
    evidence.away.clone_from(&world.away);
    evidence.ending.clone_from(&world.ending);
    evidence.healed = world.healed;
    evidence.within = world.within;
    evidence.notes.clone_from(&world.notes);
    evidence.noticed = world.noticed;
    Ok(evidence)
}

/// Waits until every event that queries list has come to the receiver, or for long enough.
async fn delivered(world: &World, evidence: &Evidence) {
    let wanted: HashSet<&str> = evidence.events.iter().map(|(_, id)| id.as_str()).collect();
    let all = world.receiver.wait_until(PATIENCE, |received| {
        let came: HashSet<&str> = received.iter().map(Received::webhook_id).collect();
        wanted.is_subset(&came)
    });
    if let Err(error) = all.await {
        eprintln!("not everything was delivered: {error}");
    }
}

async fn verified(world: &World) -> anyhow::Result<Verified> {
    let (status, said) = world
        .service
        .run(&["verify", "--url", world.service.url()])
        .await?;
    Ok(Verified {
        proved: status.success(),
        said,
    })
}
