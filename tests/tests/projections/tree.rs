//! The tree over each tenant's records, and what is read of it.

use broker::layout::Log;
use domain::proof::{Frontier, Hash, Leaf, Outline, verify_consistency, verify_inclusion};
use domain::{ClaimRecord, Position, Source};
use projections::{Fact, Incoming, ReadModels, Seed};

use crate::queries::folded;
use crate::world::{Store, World, at, tenant};

/// Claims are leaves, and what cannot be read is one too; nobody's tree stops at it.
pub(crate) async fn every_record_is_a_leaf(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    for number in 0..40 {
        let tenant = tenant(number % 2 + 1);
        world.register(&tenant, number).await?;
        let claim = ClaimRecord {
            v: ClaimRecord::VERSION,
            tenant: tenant.to_string(),
            kind: "email".to_owned(),
            holder: None,
        };
        let subject = ClaimRecord::subject(&tenant, "email", &format!("h{number}"));
        let id = format!("{tenant}:claim-{number}");
        world.append(Log::Events(0), subject, id, claim.encode()).await?;
        if number == 20 {
            let subject = format!("ev.{tenant}.user.usr_1");
            let id = format!("{tenant}:unreadable");
            world
                .append(Log::Events(0), subject, id, b"\xc1".to_vec())
                .await?;
        }
    }
    let read_models = folded(&world).await?;
    let log = world.engine.log(Log::Events(0));
    let records = log.read(0, None, 1_000).await?;
    for (number, expected) in [(1, 41), (2, 40)] {
        let tenant = tenant(number);
        let mut tree = Frontier::default();
        let mut snapshot = read_models.tree(&tenant, 0).snapshot().await?;
        for record in &records {
            if record.subject.as_str().split('.').nth(1) != Some(tenant.as_str()) {
                continue;
            }
            let leaf = Leaf {
                position: position(record.sequence),
                subject: record.subject.as_str(),
                message_id: &record.message_id,
                payload: &record.payload,
            };
            let kept = snapshot.leaf(record.sequence).await?;
            assert_eq!(
                kept.map(|kept| (kept.leaf, kept.hash)),
                Some((tree.size(), leaf.hash()?))
            );
            tree.push(leaf.hash()?, |_, _| {});
        }
        let state = snapshot.state();
        assert_eq!((state.size, state.root), (expected, tree.root()));
        let all = snapshot.leaves(0, u64::MAX, 1_000).await?;
        assert_eq!(all.last().map(|leaf| leaf.sequence), Some(state.last));
        snapshot.answer(()).await?;
    }
    read_models.close().await;
    Ok(())
}

fn position(sequence: u64) -> Position {
    Position {
        source: Source::Events,
        shard: 0,
        sequence,
    }
}

/// Fills a tree with so many leaves, every third record being the tenant's; answers the roots on the way.
async fn fill(read_models: &ReadModels, size: u64) -> anyhow::Result<Vec<(Hash, Hash)>> {
    let mut seed = Seed::new(read_models, "tree").ok_or_else(|| anyhow::anyhow!("no tree"))?;
    let (mut tree, mut roots) = (Frontier::default(), Vec::new());
    let records: Vec<_> = (0..size)
        .map(|number| Incoming {
            position: position(number * 3 + 1),
            tenant: tenant(1).to_string(),
            subject: format!("ev.{}.user.u{number}", tenant(1)),
            message_id: format!("{}:{number}", tenant(1)),
            stored_at: at(0),
            payload: number.to_be_bytes().to_vec().into(),
            fact: Fact::Unreadable,
        })
        .collect();
    for record in &records {
        let leaf = Leaf {
            position: record.position,
            subject: &record.subject,
            message_id: &record.message_id,
            payload: &record.payload,
        };
        tree.push(leaf.hash()?, |_, _| {});
        roots.push((leaf.hash()?, tree.root()));
    }
    for batch in records.chunks(1_000) {
        seed.add(batch).await?;
    }
    Ok(roots)
}

/// In a tree of several levels: any record, in any size it ever had, and any two sizes.
pub(crate) async fn whatever_was_in_the_tree_can_be_proved(store: Store) -> anyhow::Result<()> {
    const SIZE: u64 = 5_003;
    let world = World::new(store).await?;
    let read_models = world.open().await?;
    let roots = fill(&read_models, SIZE).await?;
    let root = |size: u64| {
        usize::try_from(size)
            .ok()
            .and_then(|size| roots.get(size - 1))
            .map(|(_, root)| *root)
    };
    let tenant = tenant(1);
    let mut snapshot = read_models.tree(&tenant, 0).snapshot().await?;
    assert_eq!(Some(snapshot.state().root), root(SIZE));
    assert_eq!(snapshot.leaf(2).await?, None);
    for (index, size) in [
        (0, 1),
        (0, SIZE),
        (15, 16),
        (16, 17),
        (255, 4_096),
        (4_095, 4_097),
        (4_999, 5_000),
        (5_002, SIZE),
    ] {
        let outline = Outline::inclusion(index, size).ok_or_else(|| anyhow::anyhow!("no outline"))?;
        let proof = snapshot.subtrees(&[&outline]).await?.prove(&outline);
        let proof = proof.ok_or_else(|| anyhow::anyhow!("{index} of {size}: something is not kept"))?;
        let leaf = snapshot
            .leaf(index * 3 + 1)
            .await?
            .ok_or_else(|| anyhow::anyhow!("no leaf"))?;
        assert_eq!(leaf.leaf, index);
        let held = root(size).is_some_and(|root| verify_inclusion(leaf.hash, index, size, &proof, root));
        assert!(held, "{index} of {size}");
    }
    for (old, new) in [
        (1, 2),
        (1, SIZE),
        (16, SIZE),
        (17, 4_096),
        (4_095, 4_097),
        (5_002, SIZE),
        (SIZE, SIZE),
    ] {
        let outline = Outline::consistency(old, new).ok_or_else(|| anyhow::anyhow!("no outline"))?;
        let proof = snapshot.subtrees(&[&outline]).await?.prove(&outline);
        let proof = proof.ok_or_else(|| anyhow::anyhow!("{old} to {new}: something is not kept"))?;
        let roots = root(old).zip(root(new));
        let held = roots.is_some_and(|(before, after)| verify_consistency(old, before, new, after, &proof));
        assert!(held, "{old} to {new}");
    }
    for (from, until, limit, expected) in [
        (0, SIZE, 3, 0..3),
        (14, SIZE, 5, 14..19),
        (5_000, SIZE, 9, 5_000..SIZE),
        (100, 102, 9, 100..102),
    ] {
        let leaves = snapshot.leaves(from, until, limit).await?;
        assert!(
            leaves.iter().map(|leaf| leaf.leaf).eq(expected),
            "{from}..{until} at most {limit}"
        );
    }
    snapshot.answer(()).await?;
    read_models.close().await;
    Ok(())
}
