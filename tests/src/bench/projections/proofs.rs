//! Proofs that a record is in the log, one at a time: what `GET /v1/audit/proof/{position}` reads and checks.
//!
//! Trees are kept per tenant, so the tenant asked about has the whole log to itself: one tree of ten million leaves.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use domain::TenantId;
use domain::proof::{Outline, verify_inclusion};
use projections::ReadModels;

use super::log::{SEED, Synthetic};
use super::{place, replay};
use crate::bench::Plan;
use crate::bench::load::{BoxedWorker, Worker, measure as load};
use crate::bench::report::{Bar, Report};

pub(super) const NAME: &str = "proof";

/// What a proof must not take longer than, in ms.
const BAR: f64 = 5.0;

/// Measures on PostgreSQL.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let records: u64 = if plan.quick { 500_000 } else { 10_000_000 };
    let log = Arc::new(Synthetic::of_one_tenant(SEED, records));
    let server = place::postgres().await?;
    let database = place::database(&server, "proofs").await?;
    let read_models = place::read_models(&database.projector_url).await?;
    eprintln!("{NAME}: {records} records are replayed for it");
    let logs = place::only_events(Arc::clone(&log) as Arc<dyn broker::EventLog>);
    let replayed = replay::run(&read_models, logs, &["tree".to_owned()]).await?;
    let row = format!("{NAME}: replay of tree for it, from a log that costs no server");
    report.value(&row, replayed.per_second(), "records/s", None);
    let named = log.named();
    let tenant = named.last().context("a sample")?.tenant.clone();
    let its = named.iter().filter(|one| one.tenant == tenant);
    let worker = Proving {
        read_models: read_models.clone(),
        sequences: its.map(|one| one.sequence).collect(),
        tenant,
        turns: 0,
    };
    let workers = vec![Box::new(worker) as BoxedWorker];
    let (_, sample) = load(workers, plan.settle, plan.time * 2).await?;
    let row = format!("{NAME} of any record of {records}, on PostgreSQL");
    eprintln!("{row}: p99 {:.2} ms", sample.millis(0.99));
    report.load(&row, 1, &sample);
    report.value(
        &format!("{row}, p99"),
        sample.millis(0.99),
        "ms",
        Some(Bar::AtMost(BAR)),
    );
    read_models.close().await;
    Ok(())
}

struct Proving {
    read_models: ReadModels,
    tenant: TenantId,
    sequences: Vec<u64>,
    turns: usize,
}

/// Has no factor in common with most numbers of samples, so that its multiples visit them far apart.
const STRIDE: usize = 7_919;

#[async_trait]
impl Worker for Proving {
    async fn turn(&mut self) -> anyhow::Result<u64> {
        self.turns += 1;
        let place = self.turns * STRIDE % self.sequences.len();
        let sequence = *self.sequences.get(place).context("a sample")?;
        let mut tree = self.read_models.tree(&self.tenant, 0).snapshot().await?;
        let leaf = tree.leaf(sequence).await?.context("the record's leaf")?;
        let state = tree.state();
        let outline = Outline::inclusion(leaf.leaf, state.size).context("an outline")?;
        let stored = tree.subtrees(&[&outline]).await?;
        let proof = stored.prove(&outline).context("a proof")?;
        let holds = verify_inclusion(leaf.hash, leaf.leaf, state.size, &proof, state.root);
        ensure!(holds, "the proof of record {sequence} does not hold");
        Ok(1)
    }
}
