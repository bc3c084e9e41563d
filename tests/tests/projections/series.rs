//! Time series, against a recount of what was appended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use broker::layout::Log;
use domain::{AttemptOutcome, Commit, DeliveryFact, Next, TenantId, Timestamp};
use projections::{
    DeliveryFigures, Interval, Metric, Point, Points, Quantiles, ReadModels, Series, SeriesQuery,
};
use serde_json::json;

use crate::history::Dice;
use crate::queries::folded;
use crate::world::{Store, World, at, delivery, endpoint_id, tenant, user_id};

const HOUR: i64 = 3_600_000;

/// The beginning of a day.
fn midnight() -> Timestamp {
    Timestamp::from_millis(at(0).as_millis().div_euclid(24 * HOUR) * 24 * HOUR)
}

fn asked(metric: Metric, interval: Interval, series: Series, hours: u64) -> anyhow::Result<SeriesQuery> {
    let until = midnight().saturating_add(Duration::from_secs(hours * 3_600));
    Ok(SeriesQuery::new(
        metric,
        interval,
        series,
        Some(midnight()),
        until,
    )?)
}

/// Two days of hours.
async fn hours(
    read_models: &ReadModels,
    tenant: &TenantId,
    metric: Metric,
    series: Series,
) -> anyhow::Result<Vec<Point>> {
    let query = asked(metric, Interval::Hour, series, 48)?;
    let points = read_models.series(tenant).get(&query).await?.data;
    assert_eq!(points.buckets.len(), 48);
    Ok(points.buckets.into_iter().map(|(_, point)| point).collect())
}

async fn days(
    read_models: &ReadModels,
    tenant: &TenantId,
    metric: Metric,
    series: Series,
) -> anyhow::Result<Points> {
    let query = asked(metric, Interval::Day, series, 48)?;
    Ok(read_models.series(tenant).get(&query).await?.data)
}

/// Hours after the midnight from which everything is counted, in the time the world counts from.
fn when(hours: i64) -> i64 {
    midnight().as_millis() - at(0).as_millis() + hours * HOUR
}

fn tried(millis: u64, next: Next) -> DeliveryFact {
    DeliveryFact::Attempted {
        attempt: 1,
        outcome: AttemptOutcome {
            status: Some(200),
            error: None,
            detail: None,
            response_body: None,
            duration_ms: millis,
            ..AttemptOutcome::default()
        },
        next,
    }
}

/// Three events in an hour, one a day later; a delivery that arrives at its second attempt, and one that dies and
/// arrives when it is redriven.
async fn lived(world: &mut World, tenant: &TenantId) -> anyhow::Result<()> {
    for (number, hour, kind) in [(1, 1, "ping"), (2, 1, "pong"), (3, 1, "ping"), (4, 25, "ping")] {
        world.publish_at(tenant, number, kind, at(when(hour) + 5)).await?;
    }
    let again = Next::Again { due: at(0) };
    for (event, run, hour, fact) in [
        (1, 1, 2, DeliveryFact::Created),
        (1, 1, 2, tried(30, again)),
        (1, 1, 3, tried(50, Next::Delivered)),
        (2, 1, 3, DeliveryFact::Created),
        (2, 1, 4, tried(9_000, Next::Dead)),
        (2, 2, 26, DeliveryFact::Redriven),
        (2, 2, 26, tried(70, Next::Delivered)),
    ] {
        let mut record = delivery(tenant, event, run, when(hour), fact);
        record.message.published_at = Some(at(when(1)));
        world.deliver(record).await?;
    }
    Ok(())
}

pub(crate) async fn records_are_counted_in_their_buckets(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let acme = tenant(1);
    lived(&mut world, &acme).await?;
    lived(&mut world, &tenant(2)).await?;
    let read_models = folded(&world).await?;

    let events = hours(&read_models, &acme, Metric::Events, Series::All).await?;
    assert_eq!((events[0], events[1]), (Point::Events(0), Point::Events(3)));
    assert_eq!(events[25], Point::Events(1));
    let pings = Series::Type("ping".parse()?);
    let pings = days(&read_models, &acme, Metric::Events, pings).await?;
    assert_eq!(pings.buckets[0], (midnight(), Point::Events(2)));
    assert_eq!((pings.buckets[1].1, pings.complete), (Point::Events(1), true));

    let all = hours(&read_models, &acme, Metric::Deliveries, Series::All).await?;
    let figures = |deliveries, attempts, delivered, failures, dead| {
        Point::Deliveries(DeliveryFigures {
            deliveries,
            attempts,
            delivered,
            failures,
            dead,
        })
    };
    assert_eq!((all[2], all[3]), (figures(1, 1, 0, 1, 0), figures(1, 1, 1, 0, 0)));
    assert_eq!(
        (all[4], all[26]),
        (figures(0, 1, 0, 1, 1), figures(0, 1, 1, 0, 0))
    );
    let endpoint = || Series::Endpoint(endpoint_id(1));
    let by_day = days(&read_models, &acme, Metric::Deliveries, endpoint()).await?;
    assert_eq!(by_day.buckets[0].1, figures(2, 3, 1, 2, 1));
    let other = Series::Endpoint(endpoint_id(2));
    let other = days(&read_models, &acme, Metric::Deliveries, other).await?;
    assert_eq!(other.buckets[0].1, figures(0, 0, 0, 0, 0));

    times(&read_models, &acme, endpoint()).await
}

async fn times(read_models: &ReadModels, tenant: &TenantId, endpoint: Series) -> anyhow::Result<()> {
    // Only the first run tells how long an event took: from the first hour to the third.
    let latency = days(read_models, tenant, Metric::Latency, endpoint.clone()).await?;
    let Point::Times(1, Some(told)) = latency.buckets[0].1 else {
        anyhow::bail!("{latency:?}")
    };
    let exact = u64::try_from(2 * HOUR)?;
    assert!(
        told.p50.abs_diff(exact) * 64 <= exact && told.max == exact,
        "{told:?}"
    );
    assert_eq!(latency.buckets[1].1, Point::Times(0, None));
    let duration = days(read_models, tenant, Metric::AttemptDuration, endpoint).await?;
    let Point::Times(3, Some(told)) = duration.buckets[0].1 else {
        anyhow::bail!("{duration:?}")
    };
    let expected = Quantiles { p50: 50, ..told };
    assert_eq!((told, told.max), (expected, 9_000));
    Ok(())
}

pub(crate) async fn only_so_many_types_have_series_of_their_own(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let acme = tenant(1);
    for number in 0..503 {
        world
            .publish_at(&acme, number, &format!("type{number}"), at(when(1)))
            .await?;
    }
    world.publish_at(&acme, 600, "type502", at(when(25))).await?;
    let read_models = folded(&world).await?;
    let all = days(&read_models, &acme, Metric::Events, Series::All).await?;
    assert_eq!((all.buckets[0].1, all.complete), (Point::Events(503), true));
    for (number, counted) in [(0, 1), (499, 1), (500, 0), (502, 0)] {
        let series = Series::Type(format!("type{number}").parse()?);
        let points = days(&read_models, &acme, Metric::Events, series).await?;
        let expected = (Point::Events(counted), false);
        assert_eq!((points.buckets[0].1, points.complete), expected, "type{number}");
    }
    let next_day = days(
        &read_models,
        &acme,
        Metric::Events,
        Series::Type("type502".parse()?),
    )
    .await?;
    assert_eq!(next_day.buckets[1].1, Point::Events(1));
    world.assert_folded(&read_models).await
}

/// Two users in an event of something.
async fn meet(world: &mut World, tenant: &TenantId, number: u32, user: u32, hour: i64) -> anyhow::Result<()> {
    let data = json!({ "user": user_id(user), "members": [{ "user": user_id(user + 1), "role": "lead" }] });
    let id = format!("meeting_{number}");
    let mut commit = world.record(tenant, "meeting", &id, 1, vec![("meeting.held", data)]);
    commit.meta.at = at(when(hour));
    let message_id = format!("{tenant}:{}", commit.meta.command_id);
    let subject = Commit::subject(tenant, "meeting", &id);
    world
        .append(Log::Events(0), subject, message_id, commit.encode())
        .await?;
    Ok(())
}

/// A history by chance, folded while it grows: the rows are those of a fold from scratch, and the users those of a
/// recount.
pub(crate) async fn batches_do_not_matter(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let acme = tenant(1);
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    let mut dice = Dice::new(5);
    let mut active: BTreeMap<i64, BTreeSet<u32>> = BTreeMap::new();
    for number in 0..120 {
        let (user, hour) = (dice.roll(9), i64::from(dice.roll(40)));
        meet(&mut world, &acme, number, user, hour).await?;
        let kind = ["a", "b", "c"][dice.roll(3) as usize];
        world
            .publish_at(&acme, u64::from(number), kind, at(when(hour)))
            .await?;
        let millis = u64::from(dice.roll(100_000));
        let fact = tried(millis, Next::Delivered);
        world
            .deliver(delivery(&acme, u64::from(number), 1, when(hour), fact))
            .await?;
        active.entry(hour).or_default().extend([user, user + 1]);
    }
    world.settled(&read_models).await?;
    let by_hour = hours(&read_models, &acme, Metric::ActiveUsers, Series::All).await?;
    for (hour, point) in by_hour.into_iter().enumerate() {
        let expected = active.get(&i64::try_from(hour)?).map_or(0, BTreeSet::len);
        assert_eq!(point, Point::Users(expected as u64), "hour {hour}");
    }
    let first: BTreeSet<u32> = active
        .range(..24)
        .flat_map(|(_, users)| users.iter().copied())
        .collect();
    let by_day = days(&read_models, &acme, Metric::ActiveUsers, Series::All).await?;
    assert_eq!(by_day.buckets[0].1, Point::Users(first.len() as u64));
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}
