//! Reads what a long run has left. It is much, so nothing is kept twice, and what is read by pages is kept as what it
//! says.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use broker::layout::Log;

use super::collect_webhooks;
use crate::faults::collect;
use crate::faults::evidence::{Evidence, Verified, Webhook};
use crate::faults::history::{Entry, Kind, Step};
use crate::faults::world::World;

/// How long it may take until everything is folded and delivered, and to prove read models of so much.
const PATIENCE: Duration = Duration::from_mins(15);

/// Waits until every read model stands and all that was acknowledged was delivered, or for long enough.
pub(super) async fn caught_up(world: &World, received: &mut Vec<Webhook>) -> anyhow::Result<()> {
    let wanted = published(&world.recorder.entries());
    let deadline = Instant::now() + PATIENCE;
    while !world.settled().await? && Instant::now() < deadline {}
    delivered(world, received, wanted, deadline).await;
    Ok(())
}

/// The ids of events that were acknowledged.
fn published(history: &[Entry]) -> HashSet<String> {
    let mut asked = HashSet::new();
    let mut ids = HashSet::new();
    for entry in history {
        match &entry.step {
            Step::Invoke(of) if of.kind == Kind::Publish => {
                asked.insert(entry.command);
            }
            Step::Ok(id) if asked.contains(&entry.command) => {
                ids.insert(id.clone());
            }
            _ => {}
        }
    }
    ids
}

/// Waits for webhooks of these ids; what does not come is missing from the evidence, where it is judged.
async fn delivered(
    world: &World,
    received: &mut Vec<Webhook>,
    mut wanted: HashSet<String>,
    deadline: Instant,
) {
    let mut seen = 0;
    loop {
        for webhook in received.iter().skip(seen) {
            wanted.remove(&webhook.id);
        }
        seen = received.len();
        if wanted.is_empty() || Instant::now() > deadline {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        collect_webhooks(world, received);
    }
}

/// Brings the run to its end, and answers what is left of it; when the last fault was is for the caller to say.
pub(super) async fn gather(mut world: World, mut received: Vec<Webhook>) -> anyhow::Result<Evidence> {
    caught_up(&world, &mut received).await?;
    world.settled().await?;
    let mut evidence = Evidence::default();
    let (status, said) = world
        .service
        .run_within(&["verify", "--url", world.service.url()], PATIENCE)
        .await?;
    evidence.verified = Verified {
        proved: status.success(),
        said,
    };
    collect::queried(&world, &mut evidence).await?;
    // What nobody was told of, and is there, must be delivered too.
    let listed = evidence.events.iter().map(|(_, id)| id.clone()).collect();
    delivered(&world, &mut received, listed, Instant::now() + PATIENCE).await;
    let status = world.service.terminate().await?;
    ensure!(
        status.success(),
        "the service did not end in order: {status}\n{}",
        world.service.last_output()
    );
    for log in [Log::Events(0), Log::Messages(0)] {
        records(&world, log, &mut evidence).await?;
    }
    collect_webhooks(&world, &mut received);
    evidence.received = received;
    evidence.history = world.recorder.drain();
    evidence.away.clone_from(&world.away);
    evidence.ending.clone_from(&world.ending);
    Ok(evidence)
}

/// Every record of a log, a page at a time.
async fn records(world: &World, log: Log, evidence: &mut Evidence) -> anyhow::Result<()> {
    const PAGE: usize = 500;
    let engine = world.service.engine().await?;
    let reader = engine.log(log);
    let mut after = 0;
    loop {
        let page = reader.read(after, None, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.sequence;
        evidence.log.extend(collect::stored(log, &page, &world.tenants)?);
    }
    engine.close().await;
    Ok(())
}
