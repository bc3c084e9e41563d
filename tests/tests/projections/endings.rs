//! How runs end that do not go as they were begun: cancelled too late, failed halfway, taken up by another program.

use projections::rebuild::{Phase, RebuildError};
use projections::{Projectors, ReadModels, Standing};
use tokio_util::sync::CancellationToken;

use crate::history::Dice;
use crate::rebuild::{interrupted, plan, rebuild, standing_of};
use crate::world::{Store, World, tenant};

const NONE: [i64; 0] = [];

/// A world with some history, followed by projectors until the token is cancelled.
async fn begun(store: Store) -> anyhow::Result<(World, ReadModels, Projectors, CancellationToken)> {
    let mut world = World::new(store).await?;
    world.live(&mut Dice::new(101), 100).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    Ok((world, read_models, projectors, stop))
}

pub(crate) async fn what_has_begun_to_be_switched_is_not_cancelled(store: Store) -> anyhow::Result<()> {
    let (world, read_models, projectors, stop) = begun(store).await?;
    let (rebuilding, never) = (rebuild(&world, &read_models), CancellationToken::new());
    let both = plan(&["users", "audit"]);
    interrupted(&rebuilding, "rpl_1", &both).await?;
    world
        .sql("UPDATE rebuilds SET phase = 'switching', not_compared = '[]'")
        .await?;
    assert!(!rebuilding.cancel("rpl_1").await?, "it is too late");
    rebuilding.run("rpl_1", &both, &never).await?;
    assert!(!rebuilding.cancel("rpl_1").await?, "it is over");
    for projection in ["users", "audit"] {
        assert_eq!(standing_of(&read_models, projection, Standing::Live).await?, [1]);
    }
    let row = read_models.rebuild("rpl_1").await?.expect("its row is kept");
    assert_eq!(row.phase, Phase::Done);
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

/// The one is live already when the other fails.
pub(crate) async fn a_failure_between_two_switches_leaves_what_is_live(store: Store) -> anyhow::Result<()> {
    let (world, read_models, projectors, stop) = begun(store).await?;
    let (rebuilding, never) = (rebuild(&world, &read_models), CancellationToken::new());
    rebuilding.run("rpl_1", &plan(&["users"]), &never).await?;
    let three = plan(&["users", "audit", "roles"]);
    interrupted(&rebuilding, "rpl_2", &three).await?;
    world
        .sql(
            "DELETE FROM checkpoints WHERE projection = 'users' AND generation = 2; \
             UPDATE checkpoints SET version = 0 WHERE projection = 'audit' AND generation = 1; \
             UPDATE rebuilds SET phase = 'switching', not_compared = '[]', \
             generations = '{\"users\": 1, \"audit\": 1, \"roles\": 1}' WHERE id = 'rpl_2'",
        )
        .await?;
    let failed = rebuilding.run("rpl_2", &three, &never).await;
    assert!(
        matches!(failed, Err(RebuildError::OtherFold { .. })),
        "{failed:?}"
    );
    assert_eq!(standing_of(&read_models, "users", Standing::Live).await?, [1]);
    for projection in ["audit", "roles"] {
        assert_eq!(standing_of(&read_models, projection, Standing::Live).await?, [0]);
        assert_eq!(
            standing_of(&read_models, projection, Standing::Building).await?,
            NONE
        );
    }
    let row = read_models.rebuild("rpl_2").await?.expect("its row is kept");
    let error = row.error.unwrap_or_default();
    assert_eq!(row.phase, Phase::Failed);
    assert!(error.contains("switched before: users"), "{error}");
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

/// A program of another version finds a run half done.
pub(crate) async fn another_programs_copy_is_not_gone_on_with(store: Store) -> anyhow::Result<()> {
    let (world, read_models, projectors, stop) = begun(store).await?;
    let (rebuilding, never) = (rebuild(&world, &read_models), CancellationToken::new());
    let both = plan(&["users", "audit"]);
    interrupted(&rebuilding, "rpl_1", &both).await?;
    world
        .sql("UPDATE checkpoints SET version = 0 WHERE projection = 'audit' AND generation = 1")
        .await?;
    let failed = rebuilding.run("rpl_1", &both, &never).await;
    assert!(
        matches!(failed, Err(RebuildError::OtherFold { .. })),
        "{failed:?}"
    );
    for projection in ["users", "audit"] {
        assert_eq!(standing_of(&read_models, projection, Standing::Live).await?, [0]);
        assert_eq!(
            standing_of(&read_models, projection, Standing::Building).await?,
            NONE
        );
    }
    let row = read_models.rebuild("rpl_1").await?.expect("its row is kept");
    assert!(row.phase == Phase::Failed && row.error.is_some(), "{row:?}");
    rebuilding.run("rpl_2", &both, &never).await?;
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn another_programs_copy_is_not_gone_back_to(store: Store) -> anyhow::Result<()> {
    let (mut world, read_models, projectors, stop) = begun(store).await?;
    let (rebuilding, never) = (rebuild(&world, &read_models), CancellationToken::new());
    rebuilding.run("rpl_1", &plan(&["users"]), &never).await?;
    world.register(&tenant(1), 77).await?;
    world.settled(&read_models).await?;
    adopted(&world, &read_models, "rpl_2").await?;
    world
        .sql("UPDATE checkpoints SET version = 0 WHERE projection = 'users' AND generation = 0")
        .await?;
    let failed = rebuilding.roll_back("rpl_2", "users", &never).await;
    assert!(
        matches!(failed, Err(RebuildError::OtherFold { .. })),
        "{failed:?}"
    );
    assert_eq!(standing_of(&read_models, "users", Standing::Live).await?, [1]);
    assert_eq!(standing_of(&read_models, "users", Standing::Previous).await?, [0]);
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

/// Begins to go back to the generation before, and ends the process.
async fn adopted(world: &World, read_models: &ReadModels, id: &str) -> anyhow::Result<()> {
    let stopped = CancellationToken::new();
    stopped.cancel();
    let ended = rebuild(world, read_models).roll_back(id, "users", &stopped).await;
    anyhow::ensure!(matches!(ended, Err(RebuildError::Interrupted)), "{ended:?}");
    assert_eq!(standing_of(read_models, "users", Standing::Building).await?, [0]);
    Ok(())
}

/// Both work at what was asked for once: at the same time, and the one after the other.
pub(crate) async fn two_processes_roll_back_once(store: Store) -> anyhow::Result<()> {
    let (mut world, read_models, projectors, stop) = begun(store).await?;
    let beside = world.open().await?;
    let (one, other) = (rebuild(&world, &read_models), rebuild(&world, &beside));
    let never = CancellationToken::new();
    one.run("rpl_0", &plan(&["users"]), &never).await?;
    let (mut live, mut previous) = (1, 0);
    for round in 1..=6 {
        world.register(&tenant(1), 80 + round).await?;
        let id = format!("rpl_{round}");
        let (first, second) = tokio::join!(
            one.roll_back(&id, "users", &never),
            other.roll_back(&id, "users", &never)
        );
        assert!(first.is_ok() != second.is_ok(), "{first:?}, {second:?}");
        for ended in [first, second] {
            let elsewhere = matches!(ended, Ok(_) | Err(RebuildError::Taken | RebuildError::Over(_)));
            assert!(elsewhere, "{ended:?}");
        }
        let late = other.roll_back(&id, "users", &never).await;
        assert!(matches!(late, Err(RebuildError::Over(_))), "{late:?}");
        (live, previous) = (previous, live);
        assert_eq!(standing_of(&read_models, "users", Standing::Live).await?, [live]);
        assert_eq!(
            standing_of(&read_models, "users", Standing::Previous).await?,
            [previous]
        );
        assert_eq!(
            standing_of(&read_models, "users", Standing::Building).await?,
            NONE
        );
    }
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

/// The drop was accepted a moment before.
pub(crate) async fn a_generation_that_is_gone_back_to_is_not_dropped(store: Store) -> anyhow::Result<()> {
    let (mut world, read_models, projectors, stop) = begun(store).await?;
    let (rebuilding, never) = (rebuild(&world, &read_models), CancellationToken::new());
    rebuilding.run("rpl_1", &plan(&["users"]), &never).await?;
    world.register(&tenant(1), 77).await?;
    world.settled(&read_models).await?;
    adopted(&world, &read_models, "rpl_2").await?;
    let refused = rebuilding.drop_generation("users", 0).await;
    assert!(matches!(refused, Err(RebuildError::Refused(_))), "{refused:?}");
    assert!(
        !rebuilding.cancel("rpl_2").await?,
        "what it would drop was read before"
    );
    rebuilding.roll_back("rpl_2", "users", &never).await?;
    assert_eq!(standing_of(&read_models, "users", Standing::Live).await?, [0]);
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn a_copy_that_was_dropped_is_no_switch(store: Store) -> anyhow::Result<()> {
    let (world, read_models, projectors, stop) = begun(store).await?;
    let (rebuilding, never) = (rebuild(&world, &read_models), CancellationToken::new());
    let both = plan(&["users", "audit"]);
    interrupted(&rebuilding, "rpl_1", &both).await?;
    world
        .sql("DELETE FROM checkpoints WHERE projection = 'audit' AND generation = 1")
        .await?;
    let failed = rebuilding.run("rpl_1", &both, &never).await;
    assert!(matches!(failed, Err(RebuildError::Refused(_))), "{failed:?}");
    assert_eq!(standing_of(&read_models, "users", Standing::Live).await?, [0]);
    assert_eq!(
        standing_of(&read_models, "users", Standing::Building).await?,
        NONE
    );
    stop.cancel();
    projectors.join().await;
    Ok(())
}

pub(crate) async fn an_older_versions_generation_is_dropped(store: Store) -> anyhow::Result<()> {
    let (world, _, projectors, stop) = begun(store).await?;
    stop.cancel();
    projectors.join().await;
    // As a program left it whose fold had an older version; this one makes its own.
    world
        .sql("UPDATE checkpoints SET version = 0 WHERE projection = 'users'")
        .await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    assert_eq!(standing_of(&read_models, "users", Standing::Live).await?, [0, 1]);
    let rebuilding = rebuild(&world, &read_models);
    rebuilding.drop_generation("users", 0).await?;
    let refused = rebuilding.drop_generation("users", 1).await;
    assert!(matches!(refused, Err(RebuildError::Refused(_))), "{refused:?}");
    assert_eq!(standing_of(&read_models, "users", Standing::Live).await?, [1]);
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}
