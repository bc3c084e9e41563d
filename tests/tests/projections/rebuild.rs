//! Rebuilding beside the live read models: under load, cancelled, for one tenant, as of a past position, back.

use std::time::Duration;

use broker::layout::Log;
use projections::rebuild::{Plan, Rebuild, RebuildError, Until};
use projections::{Control, Page, ReadModels, Standing, UserFilter};
use tokio_util::sync::CancellationToken;

use crate::history::Dice;
use crate::world::{ALL, Store, World, tenant, user_id};

pub(crate) const SHORT: Duration = Duration::from_millis(400);

pub(crate) fn rebuild(world: &World, read_models: &ReadModels) -> Rebuild {
    Rebuild::new(read_models.clone(), world.logs(), Control::default()).with_lease(SHORT)
}

pub(crate) fn plan(projections: &[&str]) -> Plan {
    Plan::of(projections.iter().copied())
}

/// Begins a run, and ends the process before it has come far.
pub(crate) async fn interrupted(rebuilding: &Rebuild, id: &str, plan: &Plan) -> anyhow::Result<()> {
    let stopped = CancellationToken::new();
    stopped.cancel();
    let ended = rebuilding.run(id, plan, &stopped).await;
    anyhow::ensure!(matches!(ended, Err(RebuildError::Interrupted)), "{ended:?}");
    Ok(())
}

pub(crate) async fn standing_of(
    read_models: &ReadModels,
    projection: &str,
    standing: Standing,
) -> anyhow::Result<Vec<i64>> {
    let all = read_models.generations().await?.into_iter();
    let of = all.filter(|known| known.projection == projection && known.standing == standing);
    Ok(of.map(|known| known.generation).collect())
}

pub(crate) async fn all_are_rebuilt_while_the_log_grows(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.live(&mut Dice::new(21), 400).await?;
    world.settled(&read_models).await?;
    let rebuilding = rebuild(&world, &read_models);
    for round in 1..=3_i64 {
        let (id, never) = (format!("rpl_{round}"), CancellationToken::new());
        let plan = plan(ALL);
        let mut dice = Dice::new(21 + u64::try_from(round)?);
        let (outcome, lived) = tokio::join!(rebuilding.run(&id, &plan, &never), world.live(&mut dice, 200));
        let outcome = outcome?;
        lived?;
        assert_eq!(
            outcome.differences,
            Some(Vec::new()),
            "the live models were the fold"
        );
        assert!(outcome.records >= 400, "{outcome:?}");
        for projection in ALL {
            assert_eq!(
                standing_of(&read_models, projection, Standing::Live).await?,
                [round]
            );
            assert_eq!(
                standing_of(&read_models, projection, Standing::Previous).await?,
                [round - 1]
            );
        }
        world.assert_folded(&read_models).await?;
    }
    let row = read_models.rebuild("rpl_3").await?.expect("its row is kept");
    assert!(row.phase.is_over() && !row.running && row.done >= 800, "{row:?}");
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn what_was_changed_by_hand_is_found_and_mended(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    world.register(&tenant(1), 1).await?;
    world.register(&tenant(2), 2).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    world
        .sql(&format!(
            "UPDATE users SET name = 'Mallory' WHERE id = '{}'",
            user_id(2)
        ))
        .await?;
    let (rebuilding, never) = (rebuild(&world, &read_models), CancellationToken::new());
    let only_look = Plan {
        switch: false,
        ..plan(&["users"])
    };
    for (id, plan, name) in [
        ("rpl_1", &only_look, "Mallory"),
        ("rpl_2", &plan(&["users"]), "User 2"),
    ] {
        let outcome = rebuilding.run(id, plan, &never).await?;
        let found = outcome.differences.expect("there is a live model");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (found[0].table.as_str(), found[0].tenants.as_slice()),
            ("users", &[tenant(2).to_string()][..])
        );
        let user = read_models
            .users(&tenant(2))
            .get(&user_id(2).parse()?)
            .await?
            .data;
        assert_eq!(user.map(|user| user.name).as_deref(), Some(name));
    }
    assert_eq!(
        standing_of(&read_models, "users", Standing::Building).await?,
        [0_i64; 0]
    );
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn one_tenant_is_rebuilt_alone(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.live(&mut Dice::new(41), 400).await?;
    world.settled(&read_models).await?;
    world
        .sql(&format!(
            "DELETE FROM audit WHERE tenant = '{one}'; UPDATE users SET name = 'Mallory' WHERE tenant IN ('{one}', \
             '{two}')",
            one = tenant(1),
            two = tenant(2)
        ))
        .await?;
    let (rebuilding, never) = (rebuild(&world, &read_models), CancellationToken::new());
    let of_one = Plan {
        tenant: Some(tenant(1)),
        ..plan(ALL)
    };
    let mut dice = Dice::new(42);
    let (outcome, lived) = tokio::join!(
        rebuilding.run("rpl_1", &of_one, &never),
        world.live(&mut dice, 100)
    );
    lived?;
    let tables: Vec<String> = outcome?
        .differences
        .unwrap_or_default()
        .into_iter()
        .map(|found| found.table)
        .collect();
    assert_eq!(tables, ["users", "audit"]);
    world.settled(&read_models).await?;
    let names = |number| {
        let (read_models, tenant) = (&read_models, tenant(number));
        async move {
            let users = read_models
                .users(&tenant)
                .list(&UserFilter::default(), &Page::default())
                .await?;
            let named = users
                .data
                .data
                .iter()
                .filter(|user| user.name == "Mallory")
                .count();
            anyhow::Ok(named)
        }
    };
    assert_eq!(names(1).await?, 0, "its rows are made of the log");
    assert!(names(2).await? > 0, "the other tenant's were left alone");
    rebuilding.run("rpl_2", &plan(&["users"]), &never).await?;
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn a_copy_shows_a_past_position(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    for number in 1..=40 {
        world.register(&tenant(1), number).await?;
    }
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    let (rebuilding, never) = (rebuild(&world, &read_models), CancellationToken::new());
    let then = world.logs()[0].1.read(24, None, 1).await?[0].stored_at;
    for (id, until, generation, users) in [
        ("rpl_1", Until::Position("e0-17".parse()?), 1, 17..=17),
        // Records stored in one millisecond belong together.
        ("rpl_2", Until::Time(then.into()), 2, 25..=40),
    ] {
        let past = Plan {
            until: Some(until),
            ..plan(&["users"])
        };
        let outcome = rebuilding.run(id, &past, &never).await?;
        assert_eq!(outcome.generations["users"], generation);
        let count = world
            .count(&format!("SELECT count(*) FROM users_g{generation}"))
            .await?;
        assert!(users.contains(&count), "{count}");
    }
    assert_eq!(
        standing_of(&read_models, "users", Standing::Inspection).await?,
        [1, 2]
    );
    assert_eq!(standing_of(&read_models, "users", Standing::Live).await?, [0]);
    rebuilding.drop_generation("users", 1).await?;
    assert!(world.count("SELECT count(*) FROM users_g1").await.is_err());
    let unknown = Plan {
        until: Some(Until::Position("e0-999".parse()?)),
        ..plan(&["users"])
    };
    let refused = rebuilding.run("rpl_3", &unknown, &never).await;
    assert!(matches!(refused, Err(RebuildError::Refused(_))), "{refused:?}");
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn what_was_switched_is_rolled_back(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    world.live(&mut Dice::new(51), 200).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    let (rebuilding, never) = (rebuild(&world, &read_models), CancellationToken::new());
    let nothing = rebuilding.roll_back("rpl_0", "users", &never).await;
    assert!(matches!(nothing, Err(RebuildError::Refused(_))), "{nothing:?}");
    rebuilding.run("rpl_1", &plan(&["users"]), &never).await?;
    world.live(&mut Dice::new(52), 100).await?;
    rebuilding.roll_back("rpl_2", "users", &never).await?;
    assert_eq!(standing_of(&read_models, "users", Standing::Live).await?, [0]);
    assert_eq!(standing_of(&read_models, "users", Standing::Previous).await?, [1]);
    world.live(&mut Dice::new(53), 50).await?;
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn a_cancelled_rebuild_leaves_nothing(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    world.live(&mut Dice::new(61), 200).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    let never = CancellationToken::new();
    // Killed by its process's end, then cancelled: nobody works at it.
    let process = rebuild(&world, &read_models);
    let killed = plan(&["users", "audit"]);
    let killed = process.run("rpl_1", &killed, &never);
    assert!(
        tokio::time::timeout(Duration::from_millis(30), killed)
            .await
            .is_err()
    );
    tokio::time::sleep(2 * SHORT).await;
    process.cancel("rpl_1").await?;
    let again = process.run("rpl_1", &plan(&["users", "audit"]), &never).await;
    assert!(matches!(again, Err(RebuildError::Cancelled)), "{again:?}");
    for projection in ["users", "audit"] {
        assert_eq!(
            standing_of(&read_models, projection, Standing::Building).await?,
            [0_i64; 0]
        );
    }
    assert!(world.count("SELECT count(*) FROM users_g1").await.is_err());
    let unknown = process.run("rpl_2", &plan(&["nothing"]), &never).await;
    assert!(matches!(unknown, Err(RebuildError::Refused(_))), "{unknown:?}");
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

/// A record that parks a tenant in the live model parks it in the copy, until operators pass it over.
pub(crate) async fn poison_parks_in_a_copy_too(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    world.register(&tenant(1), 1).await?;
    let subject = format!("ev.{}.user.{}", tenant(1), user_id(9));
    let poison = world
        .append(Log::Events(0), subject, "poison".to_owned(), b"\xc1".to_vec())
        .await?;
    world.register(&tenant(1), 2).await?;
    world.register(&tenant(2), 3).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    let (rebuilding, never) = (rebuild(&world, &read_models), CancellationToken::new());
    let outcome = rebuilding.run("rpl_1", &plan(&["users"]), &never).await?;
    assert_eq!(outcome.differences, Some(Vec::new()));
    let live = read_models.generations().await?;
    let live = live
        .iter()
        .find(|known| known.projection == "users" && known.standing == Standing::Live);
    let parked = &live.expect("users are live").parked;
    assert_eq!(parked.len(), 1, "{parked:?}");
    assert_eq!(parked[0].position.sequence, poison);
    stop.cancel();
    projectors.join().await;

    let control = Control::default();
    control.skip("users", parked[0].position);
    let skipping = Rebuild::new(read_models.clone(), world.logs(), control);
    skipping.run("rpl_2", &plan(&["users"]), &never).await?;
    let user = read_models
        .users(&tenant(1))
        .get(&user_id(2).parse()?)
        .await?
        .data;
    assert!(user.is_some(), "the tenant went on behind the record");
    Ok(())
}
