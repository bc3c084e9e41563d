//! The long run: mixed load at half of what was measured as the maximum, a fault again and again, and in the end
//! every promise judged over the whole history, and whether memory, handles, lag and latency are flat.
//!
//! [`load`] offers, [`deck`] deals the faults, which are those of the [cases](super::cases), [`sampler`] looks at the
//! service every few seconds, [`gather`] reads what is left, [`flat`] holds quarters of the run against each other,
//! and [`report`] prints. What is flat, and which faults are dealt when, is written down in `docs/reliability.md`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Span, Webhook};
use super::oracles::{self, Verdict};
use super::world::World;
use super::{cases, collect, engine_name};
use crate::service::Engine;

mod deck;
pub mod flat;
mod gather;
mod load;
pub mod measures;
pub mod recovery;
pub mod report;
mod sampler;

use deck::Deck;
use flat::{Finding, Rules};
use load::{Asker, Load};
use sampler::{Sample, Sampler};

/// How a run is led.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// On which engine.
    pub engine: Engine,
    /// Where all draws begin.
    pub seed: u64,
    /// How long load is offered, after the maximum was measured.
    pub length: Duration,
    /// How often there is a fault.
    pub every: Duration,
    /// How long the maximum is measured.
    pub measuring: Duration,
    /// What share of the maximum is offered.
    pub share: f64,
    /// Whether only faults come that are over in seconds.
    pub quick: bool,
    /// What counts as flat.
    pub rules: Rules,
}

impl Plan {
    /// As the program runs it: half of the maximum, a fault each minute.
    pub fn new(engine: Engine, seed: u64, length: Duration) -> Self {
        Self {
            engine,
            seed,
            length,
            every: Duration::from_mins(1),
            measuring: Duration::from_secs(20),
            share: 0.5,
            quick: false,
            rules: Rules::LONG,
        }
    }

    /// Short enough for every build, on a machine that may do other things beside: less is offered, faults come
    /// sooner, and only what grows a lot counts as growing.
    pub fn short(engine: Engine, seed: u64) -> Self {
        Self {
            length: Duration::from_secs(150),
            every: Duration::from_secs(16),
            measuring: Duration::from_secs(5),
            share: 0.25,
            quick: true,
            rules: Rules::SHORT,
            ..Self::new(engine, seed, Duration::ZERO)
        }
    }

    /// From when on after the beginning the process of the service stays the same: what it keeps can only be seen to
    /// grow in a process that lives.
    fn one_process_from(&self) -> Duration {
        self.length / 4
    }
}

/// A fault as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Harm {
    /// The case.
    pub name: String,
    /// From its beginning until things worked again.
    pub span: Span,
    /// When it was taken away.
    pub healed: Duration,
    /// How long after that a query knew everything acknowledged before.
    pub queries_again: Option<Duration>,
}

/// A query that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// When it was sent.
    pub at: Duration,
    /// How long its answer took; none if it was not answered as it must be.
    pub took: Option<Duration>,
}

/// What was seen of the service while it ran; with the [`Evidence`] enough to judge the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Operations a second that were measured as the maximum: asked for, folded and delivered.
    pub maximum: f64,
    /// Operations a second that were offered.
    pub offered: f64,
    /// Operations that were due and not sent, since too many were waiting for an answer.
    pub skipped: u64,
    /// When load was offered.
    pub span: Span,
    /// The faults, in order.
    pub harms: Vec<Harm>,
    /// What was seen of the process.
    pub samples: Vec<Sample>,
    /// The queries.
    pub queries: Vec<Query>,
    /// Why the run was ended before its time, if it was.
    pub cut_short: Option<String>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What was seen.
    pub course: Course,
    /// What was left.
    pub evidence: Evidence,
    /// Whether promises were kept.
    pub verdict: Verdict,
    /// Whether it was flat.
    pub findings: Vec<Finding>,
}

impl Outcome {
    /// Everything that is wrong, in words.
    pub fn failures(&self) -> Vec<String> {
        let broken = self.verdict.violations.iter().map(ToString::to_string);
        let grown = self.findings.iter().filter_map(Finding::complaint);
        let cut = self.course.cut_short.iter().cloned();
        cut.chain(broken).chain(grown).collect()
    }
}

/// Runs it; an error is a run of which nothing can be judged.
pub async fn run(plan: &Plan) -> anyhow::Result<Outcome> {
    // A whole run is a large future.
    Box::pin(whole(plan)).await
}

async fn whole(plan: &Plan) -> anyhow::Result<Outcome> {
    // Of one with links, all servers can be harmed.
    let linked = cases::find("nats-reset").context("the case of links")?;
    let mut world = World::start(plan.engine, linked.setup, plan.seed).await?;
    let askers = askers(&world)?;
    let mut received = Vec::new();
    let maximum = maximum(plan, &world, &askers, &mut received).await?;
    let offered = maximum * plan.share;
    eprintln!("  at most {maximum:.0} operations a second; {offered:.0} are offered");

    let mut course = Course {
        maximum,
        offered,
        ..Course::default()
    };
    course.span.from = world.recorder.now();
    let load = Load::offer(askers, offered, plan.seed);
    let sampler = Sampler::start(&world, plan.every / 40)?;
    if let Err(error) = harm(plan, &mut world, &mut course, &mut received, &sampler).await {
        course.cut_short = Some(format!("the run was cut short: {error:#}"));
    }
    course.span.to = world.recorder.now();
    course.samples = sampler.stop().await?;
    (course.queries, course.skipped) = load.stop().await?;

    let mut evidence = gather::gather(world, received)
        .await
        .with_context(|| course.cut_short.clone().unwrap_or_default())?;
    if let Some(last) = course.harms.last() {
        evidence.healed = last.healed;
        evidence.queries_again = last.queries_again;
    }
    let mut verdict = oracles::judge(&evidence);
    recovery::judge(&mut verdict, &evidence, &course);
    let findings = measures::findings(&evidence, &course, &plan.rules);
    Ok(Outcome {
        course,
        evidence,
        verdict,
        findings,
    })
}

fn askers(world: &World) -> anyhow::Result<Vec<Arc<Asker>>> {
    let tenants = 0..world.tenants.len();
    tenants
        .map(|tenant| Ok(Arc::new(Asker::new(world.caller(tenant)?.clone()))))
        .collect()
}

/// What the service can bear for good: operations that clients who do not wait got done in a while, by the time until
/// everything of them was folded and delivered too.
async fn maximum(
    plan: &Plan,
    world: &World,
    askers: &[Arc<Asker>],
    received: &mut Vec<Webhook>,
) -> anyhow::Result<f64> {
    let began = world.recorder.now();
    let done = load::as_many_as_possible(askers, plan.measuring, plan.seed).await?;
    gather::caught_up(world, received).await?;
    let took = world.recorder.now().saturating_sub(began);
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    Ok(done as f64 / took.as_secs_f64())
}

/// Does a fault after the other, each in its minute, until the time is over; the last has more than a minute behind it,
/// so that something can be seen of the run's end.
async fn harm(
    plan: &Plan,
    world: &mut World,
    course: &mut Course,
    received: &mut Vec<Webhook>,
    sampler: &Sampler,
) -> anyhow::Result<()> {
    let began = course.span.from;
    let mut deck = Deck::new(plan.engine, plan.quick, plan.seed);
    for number in 0.. {
        let due = plan.every * number + plan.every / 4;
        if due + plan.every * 5 / 4 > plan.length {
            break;
        }
        // One that took longer than its minute takes the next one's place too.
        let now = world.recorder.now().saturating_sub(began);
        if now > due + plan.every / 4 {
            continue;
        }
        tokio::time::sleep(due.saturating_sub(now)).await;
        collect_webhooks(world, received);
        let name = deck.deal(due + plan.every <= plan.one_process_from());
        let at = world.recorder.now().saturating_sub(began).as_secs();
        eprintln!("  {at:>5} s  {name}");
        course.harms.push(one(world, name).await.context(name)?);
        sampler.look_at(world.service.pid());
        collect_webhooks(world, received);
    }
    let left = (began + plan.length).saturating_sub(world.recorder.now());
    tokio::time::sleep(left).await;
    Ok(())
}

async fn one(world: &mut World, name: &str) -> anyhow::Result<Harm> {
    let case = cases::find(name).with_context(|| format!("there is no case {name}"))?;
    let from = world.recorder.now();
    (case.fault)(world).await?;
    let queries_again = match world.queries.take() {
        Some(queries) => queries.await?,
        None => None,
    };
    Ok(Harm {
        name: name.to_owned(),
        span: Span {
            from,
            to: world.recorder.now(),
        },
        healed: world.healed,
        queries_again,
    })
}

/// Takes what came to the receiver: as it is kept it takes less, and a signature can be verified for five minutes only.
fn collect_webhooks(world: &World, received: &mut Vec<Webhook>) {
    let came = world.receiver.drain();
    received.extend(collect::received(&came, &world.tenants, &world.recorder));
}

/// How to run it again.
pub fn repeat(plan: &Plan) -> String {
    format!(
        "repeat it with: faults --long {}s --engine {} --seed {}",
        plan.length.as_secs(),
        engine_name(plan.engine),
        plan.seed
    )
}
