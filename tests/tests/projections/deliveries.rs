//! Queries on deliveries, attempts and dead letters, after facts that came late and twice.

use domain::{DeliveryFact, DeliveryId, Next};
use projections::DeliveryStatus::{Dead, Delivered, Failed, Pending};
use projections::{DeliveryFilter, StatusCounts};

use crate::queries::{folded, page};
use crate::world::{Store, World, at, delivery, endpoint_id, event_id, tenant, tried};

pub(crate) async fn attempts_and_dead_letters(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let acme = tenant(1);
    let again = || tried(1, Next::Again { due: at(9_000) });
    // 1 arrives at the second try; 2 dies; 3 dies and is discarded; 4 waits; 5 dies and is redriven.
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
        world
            .deliver(delivery(&acme, event, run, i64::try_from(number)?, fact))
            .await?;
    }
    let read_models = folded(&world).await?;
    let deliveries = read_models.deliveries(&acme);
    let all = deliveries
        .list(&DeliveryFilter::default(), &page(50))
        .await?
        .data
        .data;
    let statuses: Vec<_> = all
        .iter()
        .map(|row| (row.event.clone(), row.status, row.attempts))
        .collect();
    let expected = [
        (5, Pending, 1),
        (4, Failed, 1),
        (3, Dead, 1),
        (2, Dead, 1),
        (1, Delivered, 3),
    ]
    .map(|(event, status, tries)| (event_id(event), status, tries));
    assert_eq!(statuses, expected);
    assert_eq!(
        (all[1].next_due, all[1].last_status),
        (Some(at(9_000)), Some(503))
    );

    let of = |event| DeliveryId::derive(&acme, &event_id(event), &endpoint_id(1));
    let count = async |filter: DeliveryFilter| -> anyhow::Result<usize> {
        Ok(deliveries.list(&filter, &page(50)).await?.data.data.len())
    };
    assert_eq!(
        count(DeliveryFilter {
            status: Some(Dead),
            ..DeliveryFilter::default()
        })
        .await?,
        2
    );
    assert_eq!(
        count(DeliveryFilter {
            event: Some(event_id(4)),
            ..DeliveryFilter::default()
        })
        .await?,
        1
    );
    assert_eq!(
        count(DeliveryFilter {
            endpoint: Some(endpoint_id(2)),
            ..DeliveryFilter::default()
        })
        .await?,
        0
    );

    let dead = deliveries
        .dead_letters(Some(&endpoint_id(1)), &page(50))
        .await?
        .data
        .data;
    assert_eq!(dead.iter().map(|row| row.id.clone()).collect::<Vec<_>>(), [of(2)]);
    let lanes = deliveries.dead_letter_endpoints().await?.data;
    assert_eq!((lanes.len(), lanes[0].dead_letters), (1, 1));
    assert!(
        deliveries
            .get(&of(3))
            .await?
            .data
            .expect("the delivery")
            .discarded_at
            .is_some()
    );

    let attempts = deliveries.attempts(&of(1)).await?.data.expect("the delivery");
    assert_eq!(
        attempts.iter().map(|row| row.attempt).collect::<Vec<_>>(),
        [1, 1, 2]
    );
    assert_eq!(attempts[0].response_body.as_deref(), Some("a NUL\u{fffd} in it"));
    assert_eq!(deliveries.attempts(&of(9)).await?.data, None);
    assert_eq!(read_models.deliveries(&tenant(2)).get(&of(1)).await?.data, None);

    let by_status = read_models.stats(&acme).get(at(0)).await?.data.events_by_status;
    assert_eq!(
        by_status,
        StatusCounts {
            pending: 1,
            delivered: 1,
            failed: 1,
            dead: 2
        }
    );
    Ok(())
}
