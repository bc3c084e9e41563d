//! Queries on deliveries, attempts and dead letters, after facts that came late and twice.

use std::time::Duration;

use domain::{DeliveryFact, DeliveryId, ErrorClass, Next};
use projections::DeliveryStatus::{Dead, Delivered, Failed, Pending};
use projections::rebuild::Plan;
use projections::{
    DeadLetterFilter, DeliveryFilter, DeliveryRow, ReadModels, StatusCounts, forget_deliveries,
};
use tokio_util::sync::CancellationToken;

use crate::queries::{folded, page};
use crate::rebuild::{plan, rebuild};
use crate::world::{Store, World, at, delivery, endpoint_id, event_id, tenant, tried};

/// 1 arrives at the second try; 2 dies; 3 dies and is discarded; 4 waits; 5 dies and is redriven. Some facts come
/// late, some twice.
async fn lived(world: &mut World) -> anyhow::Result<ReadModels> {
    let again = || tried(1, Next::Again { due: at(9_000) });
    let facts: Vec<(u64, u32, DeliveryFact)> = vec![
        (1, 1, DeliveryFact::Created),
        (1, 1, again()),
        (1, 1, tried(2, Next::Delivered)),
        (1, 1, again()),
        (2, 1, DeliveryFact::Created),
        (2, 1, tried(1, Next::Dead)),
        (3, 1, DeliveryFact::Created),
        (3, 1, tried(1, Next::Dead)),
        (3, 1, DeliveryFact::Discarded),
        (4, 1, DeliveryFact::Created),
        (4, 1, again()),
        (5, 1, tried(1, Next::Dead)),
        (5, 1, DeliveryFact::Created),
        (5, 2, DeliveryFact::Redriven),
    ];
    for (number, (event, run, fact)) in facts.into_iter().enumerate() {
        let record = delivery(&tenant(1), event, run, i64::try_from(number)?, fact);
        world.deliver(record).await?;
    }
    folded(world).await
}

fn id_of(event: u64) -> DeliveryId {
    DeliveryId::derive(&tenant(1), &event_id(event), &endpoint_id(1))
}

pub(crate) async fn deliveries_by_status(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let read_models = lived(&mut world).await?;
    let acme = tenant(1);
    let list = async |filter: DeliveryFilter| -> anyhow::Result<Vec<DeliveryRow>> {
        let listed = read_models.deliveries(&acme).list(&filter, &page(50)).await?;
        Ok(listed.data.data)
    };
    let all = list(DeliveryFilter::default()).await?;
    let shown: Vec<_> = all
        .iter()
        .map(|row| (row.id.clone(), row.status, row.attempts))
        .collect();
    let expected = [
        (5, Pending, 1),
        (4, Failed, 1),
        (3, Dead, 1),
        (2, Dead, 1),
        (1, Delivered, 3),
    ];
    assert_eq!(
        shown,
        expected.map(|(event, status, tries)| (id_of(event), status, tries))
    );
    assert_eq!(
        (all[1].next_due, all[1].last_status),
        (Some(at(9_000)), Some(503))
    );

    let mut filter = DeliveryFilter {
        status: Some(Dead),
        ..DeliveryFilter::default()
    };
    assert_eq!(list(filter.clone()).await?.len(), 2);
    filter.event = Some(event_id(2));
    assert_eq!(list(filter.clone()).await?.len(), 1);
    filter.endpoint = Some(endpoint_id(2));
    assert_eq!(list(filter).await?.len(), 0);

    let by_status = read_models.stats(&acme).get(at(0)).await?.data.events_by_status;
    let expected = StatusCounts {
        pending: 1,
        delivered: 1,
        failed: 1,
        dead: 2,
    };
    assert_eq!(by_status, expected);
    Ok(())
}

pub(crate) async fn attempts_and_dead_letters(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let read_models = lived(&mut world).await?;
    let (acme, other) = (tenant(1), tenant(2));
    let deliveries = read_models.deliveries(&acme);
    let (all, kind) = (DeadLetterFilter::default(), "invoice.paid".parse()?);
    let one = DeadLetterFilter {
        endpoint: Some(endpoint_id(1)),
        event_types: vec!["user.left".parse()?, kind],
        errors: vec![ErrorClass::Dns, ErrorClass::Status],
        ..DeadLetterFilter::default()
    };
    for filter in [&all, &one] {
        let dead = deliveries.dead_letters(filter, &page(50)).await?.data.data;
        assert_eq!(
            dead.iter().map(|row| row.id.clone()).collect::<Vec<_>>(),
            [id_of(2)]
        );
    }
    let died = deliveries
        .get(&id_of(2))
        .await?
        .data
        .expect("the delivery")
        .completed_at;
    let died = died.expect("the time of its end");
    let others = [
        DeadLetterFilter {
            event_types: vec!["user.left".parse()?],
            ..all.clone()
        },
        DeadLetterFilter {
            errors: vec![ErrorClass::Dns],
            ..all.clone()
        },
        DeadLetterFilter {
            until: Some(died),
            ..all.clone()
        },
        DeadLetterFilter {
            since: Some(died.saturating_add(Duration::from_millis(1))),
            ..all.clone()
        },
    ];
    for filter in others {
        let dead = deliveries.dead_letters(&filter, &page(50)).await?.data.data;
        assert!(dead.is_empty(), "{filter:?}: {dead:?}");
    }
    let lanes = deliveries.dead_letter_endpoints(&one).await?.data;
    assert_eq!((lanes.len(), lanes[0].dead_letters), (1, 1));
    let discarded = deliveries.get(&id_of(3)).await?.data.expect("the delivery");
    assert!(discarded.discarded_at.is_some());

    let attempts = deliveries.attempts(&id_of(1)).await?.data.expect("the delivery");
    let numbers: Vec<_> = attempts.iter().map(|row| row.attempt).collect();
    assert_eq!(numbers, [1, 1, 2]);
    assert_eq!(attempts[0].response_body.as_deref(), Some("a NUL\u{fffd} in it"));
    assert_eq!(deliveries.attempts(&id_of(9)).await?.data, None);
    assert_eq!(read_models.deliveries(&other).get(&id_of(1)).await?.data, None);
    Ok(())
}

/// What came to its end is forgotten with its attempts once it is old; dead letters and what is under way are not.
pub(crate) async fn deliveries_are_forgotten_by_age(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let read_models = lived(&mut world).await?;
    let acme = tenant(1);
    let deliveries = read_models.deliveries(&acme);
    assert_eq!(forget_deliveries(&read_models, at(0)).await?, 0);
    assert!(deliveries.attempts(&id_of(1)).await?.data.is_some());
    // 1 arrived and 3 was discarded; 2 is a dead letter, 4 and 5 are under way.
    assert_eq!(forget_deliveries(&read_models, at(1_000_000)).await?, 2);
    for (event, there) in [(1, false), (2, true), (3, false), (4, true), (5, true)] {
        let found = deliveries.get(&id_of(event)).await?.data;
        assert_eq!(found.is_some(), there, "{event}");
    }
    let attempts = deliveries.attempts(&id_of(2)).await?.data.expect("the delivery");
    assert_eq!(attempts.len(), 1);
    let left = "SELECT count(*) FROM attempts WHERE delivery NOT IN (SELECT id FROM deliveries)";
    assert_eq!(
        world.count(left).await?,
        0,
        "attempts of forgotten deliveries are left"
    );
    assert_eq!(forget_deliveries(&read_models, at(1_000_000)).await?, 0);
    // What was forgotten is no difference from the log, which still has it.
    world.assert_folded(&read_models).await?;
    let look = Plan {
        switch: false,
        ..plan(&["deliveries"])
    };
    let rebuilding = rebuild(&world, &read_models);
    let outcome = rebuilding.run("rpl_1", &look, &CancellationToken::new()).await?;
    assert_eq!(outcome.differences, Some(Vec::new()));
    world.sql("DELETE FROM deliveries_forgotten").await?;
    let outcome = rebuilding.run("rpl_2", &look, &CancellationToken::new()).await?;
    let found = outcome.differences.unwrap_or_default();
    let tables: Vec<_> = found.iter().map(|found| found.table.as_str()).collect();
    assert_eq!(
        tables,
        ["deliveries", "attempts"],
        "rows that are missing are not noticed"
    );
    Ok(())
}
