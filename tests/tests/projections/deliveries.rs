//! Queries on deliveries, attempts and dead letters, after facts that came late and twice.

use domain::{DeliveryFact, DeliveryId, Next};
use projections::DeliveryStatus::{Dead, Delivered, Failed, Pending};
use projections::{DeliveryFilter, DeliveryRow, ReadModels, StatusCounts};

use crate::queries::{folded, page};
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
    for endpoint in [None, Some(&endpoint_id(1))] {
        let dead = deliveries.dead_letters(endpoint, &page(50)).await?.data.data;
        assert_eq!(
            dead.iter().map(|row| row.id.clone()).collect::<Vec<_>>(),
            [id_of(2)]
        );
    }
    let lanes = deliveries.dead_letter_endpoints().await?.data;
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
