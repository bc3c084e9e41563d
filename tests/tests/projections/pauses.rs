//! Runs beside projections that stand still.

use std::time::{Duration, Instant};

use projections::rebuild::{Phase, Plan, Rebuild, RebuildError};
use projections::{Control, Projectors, ReadModels, Standing};
use tokio_util::sync::CancellationToken;

use crate::history::Dice;
use crate::rebuild::{SHORT, plan, rebuild, standing_of};
use crate::world::{ALL, PATIENCE, Store, World, tenant};

/// Waits until a run waits.
async fn waits(read_models: &ReadModels, id: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let row = read_models.rebuild(id).await?;
        if row.is_some_and(|row| row.phase == Phase::Paused) {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "{id} does not wait");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// All but the switch is done; it waits until the projection goes on, or the run is cancelled.
pub(crate) async fn a_paused_projection_is_not_switched(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let (read_models, control, stop) = (world.open().await?, Control::default(), CancellationToken::new());
    let projectors = Projectors::follow(&read_models, world.logs(), &control, &stop);
    world.live(&mut Dice::new(111), 100).await?;
    world.settled(&read_models).await?;
    control.pause("users");
    let rebuilding = Rebuild::new(read_models.clone(), world.logs(), control.clone()).with_lease(SHORT);
    let never = CancellationToken::new();
    let run = async |id: &'static str| rebuilding.run(id, &plan(&["users", "audit"]), &never).await;
    let (ended, cancelled) = tokio::join!(run("rpl_1"), async {
        waits(&read_models, "rpl_1").await?;
        anyhow::Ok(rebuilding.cancel("rpl_1").await?)
    });
    assert!(cancelled?, "it is not too late while it waits");
    assert!(matches!(ended, Err(RebuildError::Cancelled)), "{ended:?}");

    let (ended, resumed) = tokio::join!(run("rpl_2"), async {
        waits(&read_models, "rpl_2").await?;
        for projection in ["users", "audit"] {
            assert_eq!(
                standing_of(&read_models, projection, Standing::Live).await?,
                [0],
                "{projection}"
            );
        }
        world.live(&mut Dice::new(112), 50).await?;
        control.resume("users");
        anyhow::Ok(())
    });
    resumed?;
    assert_eq!(ended?.differences, Some(Vec::new()));
    for projection in ["users", "audit"] {
        assert_ne!(
            standing_of(&read_models, projection, Standing::Live).await?,
            [0],
            "{projection}"
        );
    }
    control.pause("users");
    let refused = rebuilding.roll_back("rpl_3", "users", &never).await;
    assert!(matches!(refused, Err(RebuildError::Refused(_))), "{refused:?}");
    assert!(read_models.rebuild("rpl_3").await?.is_none());
    control.resume("users");
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}

/// The log is further on than the live models, of which nobody takes care at the moment.
pub(crate) async fn one_tenant_is_exchanged_where_the_live_model_stands(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    world.live(&mut Dice::new(121), 200).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.settled(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    let changed = format!("UPDATE users SET name = 'Mallory' WHERE tenant = '{}'", tenant(1));
    world.sql(&changed).await?;
    world.live(&mut Dice::new(122), 2_500).await?;
    let of_one = Plan {
        tenant: Some(tenant(1)),
        ..plan(ALL)
    };
    let never = CancellationToken::new();
    rebuild(&world, &read_models)
        .run("rpl_1", &of_one, &never)
        .await?;
    assert_eq!(
        world
            .count("SELECT count(*) FROM users WHERE name = 'Mallory'")
            .await?,
        0
    );
    let (projectors, stop) = world.start(&read_models);
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}
