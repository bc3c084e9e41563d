//! What a comparison says, and what it leaves open.

use std::time::Duration;

use projections::rebuild::{NotCompared, Phase, Plan, Unknown};
use projections::{Control, Projectors, Standing};
use tokio_util::sync::CancellationToken;

use crate::history::Dice;
use crate::rebuild::{interrupted, plan, rebuild, standing_of};
use crate::world::{ALL, PATIENCE, Store, World, tenant, user_id};

fn only_look(projections: &[&str]) -> Plan {
    Plan {
        switch: false,
        ..plan(projections)
    }
}

/// One that stands still, with a row that was changed by hand, beside others that are further on.
pub(crate) async fn each_is_compared_where_it_stands(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let (read_models, control, stop) = (world.open().await?, Control::default(), CancellationToken::new());
    let projectors = Projectors::follow(&read_models, world.logs(), &control, &stop);
    world.register(&tenant(1), 1).await?;
    world.settled(&read_models).await?;
    control.pause("users");
    // It rests once it has left off; what it takes before that does not matter.
    let others: Vec<_> = ALL.iter().copied().filter(|name| *name != "users").collect();
    world.live(&mut Dice::new(81), 100).await?;
    let ends = world.ends().await?;
    let deadline = std::time::Instant::now() + PATIENCE;
    read_models.wait_for(&others, &ends, deadline).await?;
    let changed = format!("UPDATE users SET name = 'Mallory' WHERE id = '{}'", user_id(1));
    world.sql(&changed).await?;

    let (rebuilding, never) = (rebuild(&world, &read_models), CancellationToken::new());
    let outcome = rebuilding.run("rpl_1", &only_look(ALL), &never).await?;
    assert_eq!(
        outcome.not_compared,
        [],
        "each stands somewhere, and is compared there"
    );
    let found = outcome.differences.expect("there are live models");
    let tables: Vec<_> = found.iter().map(|found| found.table.as_str()).collect();
    assert_eq!(tables, ["users"]);
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn what_was_not_compared_is_told(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    world.register(&tenant(1), 1).await?;
    let read_models = world.open().await?;
    let (rebuilding, never) = (rebuild(&world, &read_models), CancellationToken::new());
    let nothing = rebuilding.run("rpl_1", &only_look(&["users"]), &never).await?;
    let users = NotCompared {
        projection: "users".to_owned(),
        table: None,
        reason: Unknown::NoLiveModel,
    };
    assert_eq!(
        (nothing.differences, &nothing.not_compared),
        (None, &vec![users.clone()])
    );
    let row = read_models.rebuild("rpl_1").await?.expect("its row is kept");
    assert_eq!(row.not_compared, Some(vec![users]));
    Ok(())
}

/// A live model that stands behind the copy, and that nobody brings further.
pub(crate) async fn a_live_model_that_stays_behind_is_told(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    for number in 1..=3 {
        world.register(&tenant(1), number).await?;
    }
    world.settled(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    let rebuilding = rebuild(&world, &read_models).with_patience(Duration::from_millis(300));
    let look = only_look(&["users", "stats"]);
    interrupted(&rebuilding, "rpl_1", &look).await?;
    world
        .sql(
            "UPDATE checkpoints SET sequence = 3 WHERE projection = 'users' AND status = 'building';
             UPDATE checkpoints SET sequence = 1 WHERE projection = 'users' AND status = 'live'",
        )
        .await?;
    let outcome = rebuilding.run("rpl_1", &look, &CancellationToken::new()).await?;
    let users = NotCompared {
        projection: "users".to_owned(),
        table: None,
        reason: Unknown::Behind,
    };
    assert_eq!(outcome.not_compared, [users]);
    assert_eq!(outcome.differences, Some(Vec::new()), "the other is compared");
    Ok(())
}

/// Killed when it has written down what it found and drops its copies.
pub(crate) async fn what_was_found_outlives_a_kill(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    world.register(&tenant(1), 1).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    let rebuilding = rebuild(&world, &read_models);
    let changed = format!("UPDATE users SET name = 'Mallory' WHERE id = '{}'", user_id(1));
    world.sql(&changed).await?;
    let never = CancellationToken::new();
    let look = only_look(&["users", "audit"]);
    let found = rebuilding.run("rpl_1", &look, &never).await?;
    assert_eq!(found.differences.as_ref().map(Vec::len), Some(1));

    interrupted(&rebuilding, "rpl_2", &look).await?;
    // As the row of the first one was, before its copies were dropped; the first is gone already here.
    world
        .sql(
            "UPDATE rebuilds SET phase = 'finishing', not_compared = '[]',
             differences = (SELECT differences FROM rebuilds WHERE id = 'rpl_1') WHERE id = 'rpl_2'",
        )
        .await?;
    rebuilding
        .drop_generation("audit", 1)
        .await
        .expect_err("a run works at it");
    world
        .sql("DELETE FROM checkpoints WHERE projection = 'audit' AND status = 'building'")
        .await?;
    let again = rebuilding.run("rpl_2", &look, &never).await?;
    assert_eq!(again.differences, found.differences);
    let row = read_models.rebuild("rpl_2").await?.expect("its row is kept");
    assert_eq!((row.phase, row.differences), (Phase::Done, found.differences));
    let left = standing_of(&read_models, "users", Standing::Building).await?;
    assert_eq!(left, [0_i64; 0]);
    stop.cancel();
    projectors.join().await;
    Ok(())
}
