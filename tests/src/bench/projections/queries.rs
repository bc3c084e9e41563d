//! Queries on a large audit trail, one at a time, through the functions the API calls.
//!
//! The rows are those of a log that is made while it is read ([`Synthetic`]), replayed by the real fold: ten million
//! records need no server and no room. What is asked for is spread over the whole log: of every 997th record its
//! tenant, its actor and what it happened to. So large tenants are asked about as often as they are large.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use domain::TenantId;
use projections::{AuditFilter, Page, ReadModels};

use super::log::{Named, SEED, Synthetic};
use super::{place, replay};
use crate::bench::Plan;
use crate::bench::load::{BoxedWorker, Worker, measure as load};
use crate::bench::report::{Bar, Report};
use crate::tools::Folder;

const NAME: &str = "query";

/// How many tenants, the largest, deep pages are asked of.
const DEEP_TENANTS: usize = 20;
/// A page counts as deep when so many pages of 200 entries are before it, and how many deep ones there are of each.
const DEEP: usize = 25;
const DEEP_PAGES: usize = 25;

/// What a query must not take longer than, in ms.
const BAR: f64 = 20.0;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Actor,
    Resource,
    Exact,
    Newest,
    Deep,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::Actor, "by actor"),
    (Kind::Resource, "by resource id"),
    (Kind::Exact, "by kind and id of a resource"),
    (Kind::Newest, "newest page"),
    (Kind::Deep, "deep page"),
];

/// Measures on both engines.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let records: u64 = if plan.quick { 500_000 } else { 11_000_000 };
    let engines = ["PostgreSQL", "SQLite"];
    for engine in engines.into_iter().filter(|engine| plan.wants(&name(engine))) {
        let log = Arc::new(Synthetic::new(SEED, records));
        eprintln!("{}: {records} records are replayed for it", name(engine));
        if engine == "PostgreSQL" {
            let server = place::postgres().await?;
            let database = place::database(&server, "queries").await?;
            let read_models = place::read_models(&database.projector_url).await?;
            ask(plan, engine, &read_models, &log, report).await?;
            read_models.close().await;
        } else {
            let folder = Folder::new()?;
            let read_models = place::read_models_in(folder.path()).await?;
            ask(plan, engine, &read_models, &log, report).await?;
            read_models.close().await;
        }
    }
    Ok(())
}

fn name(engine: &str) -> String {
    format!("{NAME} on {engine}")
}

async fn ask(
    plan: &Plan,
    engine: &str,
    read_models: &ReadModels,
    log: &Arc<Synthetic>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let logs = place::only_events(Arc::clone(log) as Arc<dyn broker::EventLog>);
    let replayed = replay::run(read_models, logs, &["audit".to_owned()]).await?;
    let row = format!(
        "{}: replay of audit for it, from a log that costs no server",
        name(engine)
    );
    report.value(&row, replayed.per_second(), "records/s", None);
    let named = Arc::new(log.named());
    let deep = Arc::new(deep_pages(read_models, &named).await?);
    for (kind, text) in KINDS {
        let row = format!("{} of audit, {text}", name(engine));
        let worker = Asking {
            read_models: read_models.clone(),
            named: Arc::clone(&named),
            deep: Arc::clone(&deep),
            kind,
            turns: 0,
        };
        let workers = vec![Box::new(worker) as BoxedWorker];
        let (_, sample) = load(workers, plan.settle, plan.time * 2).await?;
        eprintln!("{row}: p99 {:.2} ms", sample.millis(0.99));
        report.load(&row, 1, &sample);
        report.value(
            &format!("{row}, p99"),
            sample.millis(0.99),
            "ms",
            Some(Bar::AtMost(BAR)),
        );
    }
    Ok(())
}

/// Cursors of pages far back in the trails of the largest tenants.
async fn deep_pages(read_models: &ReadModels, named: &[Named]) -> anyhow::Result<Vec<(TenantId, Page)>> {
    let mut sizes: BTreeMap<&TenantId, usize> = BTreeMap::new();
    for one in named {
        *sizes.entry(&one.tenant).or_default() += 1;
    }
    let mut largest: Vec<_> = sizes.into_iter().collect();
    largest.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let mut pages = Vec::new();
    for (tenant, _) in largest.into_iter().take(DEEP_TENANTS) {
        let mut page = Page {
            limit: Some(Page::MAX),
            cursor: None,
        };
        for number in 0..DEEP + DEEP_PAGES {
            let audit = read_models.audit(tenant);
            let listing = audit.list(&AuditFilter::default(), &page).await?.data;
            let Some(cursor) = listing.next_cursor else { break };
            page.cursor = Some(cursor.clone());
            if number >= DEEP {
                let page = Page {
                    limit: None,
                    cursor: Some(cursor),
                };
                pages.push((tenant.clone(), page));
            }
        }
    }
    Ok(pages)
}

struct Asking {
    read_models: ReadModels,
    named: Arc<Vec<Named>>,
    deep: Arc<Vec<(TenantId, Page)>>,
    kind: Kind,
    turns: usize,
}

/// Has no factor in common with most numbers of samples, so that its multiples visit them far apart.
const STRIDE: usize = 7_919;

#[async_trait]
impl Worker for Asking {
    async fn turn(&mut self) -> anyhow::Result<u64> {
        self.turns += 1;
        let place = self.turns * STRIDE;
        let named = self.named.get(place % self.named.len()).context("a sample")?;
        let (mut filter, mut tenant, mut page) = (AuditFilter::default(), &named.tenant, Page::default());
        match self.kind {
            Kind::Actor => filter.actor = Some(named.actor.clone()),
            Kind::Resource => filter.resource = Some(named.id.clone()),
            Kind::Exact => filter.resource = Some(format!("{}/{}", named.kind, named.id)),
            Kind::Newest => {}
            Kind::Deep => {
                let (of, deep) = self.deep.get(place % self.deep.len()).context("a deep page")?;
                (tenant, page) = (of, deep.clone());
            }
        }
        let found = self.read_models.audit(tenant).list(&filter, &page).await?.data;
        anyhow::ensure!(!found.data.is_empty(), "{filter:?} finds nothing of {tenant}");
        Ok(1)
    }
}
