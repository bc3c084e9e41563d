//! Rebuilds that are killed: at any moment, and between two switches.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use projections::Standing;
use projections::rebuild::{Phase, RebuildError};
use tokio_util::sync::CancellationToken;

use crate::history::Dice;
use crate::rebuild::{SHORT, plan, rebuild, standing_of};
use crate::world::{ALL, PATIENCE, Store, World};

/// Dropped wherever it is, again and again, as a killed process would; each time another one goes on with it.
pub(crate) async fn killed_at_any_moment_a_rebuild_goes_on(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.live(&mut Dice::new(31), 300).await?;
    world.settled(&read_models).await?;
    // How long a run takes here, left alone: kills must come within that, on a slow machine as on a quick one.
    let began = Instant::now();
    let undisturbed = rebuild(&world, &read_models);
    undisturbed
        .run("rpl_0", &plan(ALL), &CancellationToken::new())
        .await?;
    let whole = u32::try_from(began.elapsed().as_millis())?;
    let (mut dice, mut chance) = (Dice::new(32), Dice::new(33));
    let (mut kills, deadline) = (0, Instant::now() + 6 * PATIENCE);
    loop {
        assert!(Instant::now() < deadline, "killed {kills} times, it never ended");
        world.live(&mut chance, 5).await?;
        let process = rebuild(&world, &world.open().await?);
        let (plan, never) = (plan(ALL), CancellationToken::new());
        // A little longer each time, so that every step is interrupted and the last one is not.
        let moment = Duration::from_millis(u64::from(dice.roll(20 + whole * (kills + 1) / 8)));
        match tokio::time::timeout(moment, process.run("rpl_1", &plan, &never)).await {
            Err(_) => kills += 1,
            Ok(Err(RebuildError::Taken)) => tokio::time::sleep(SHORT / 4).await,
            Ok(Err(error)) if error.passes() => {}
            Ok(outcome) => {
                outcome?;
                break;
            }
        }
    }
    assert!(kills > 2, "it was killed {kills} times only");
    world.assert_folded(&read_models).await?;
    for projection in ALL {
        assert_eq!(
            standing_of(&read_models, projection, Standing::Live).await?,
            [2],
            "{projection}"
        );
    }
    stop.cancel();
    projectors.join().await;
    Ok(())
}

/// Goes on with `run` until it waits for something the next time; its outcome, once it has one.
async fn step<F: Future>(mut run: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| match run.as_mut().poll(context) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Dropped when some of the copies are live and others are not yet; the next run goes on with those.
pub(crate) async fn killed_between_two_switches_a_rebuild_goes_on(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let read_models = world.open().await?;
    let (projectors, stop) = world.start(&read_models);
    world.live(&mut Dice::new(71), 200).await?;
    world.settled(&read_models).await?;
    let (mut number, plan, never) = (0, plan(ALL), CancellationToken::new());
    let live = async |generation| -> anyhow::Result<usize> {
        let all = read_models.generations().await?.into_iter();
        let switched = all.filter(|known| known.standing == Standing::Live && known.generation == generation);
        Ok(switched
            .filter(|known| ALL.contains(&known.projection.as_str()))
            .count())
    };
    // A step may switch all that is left; then another run begins.
    let id = loop {
        number += 1;
        anyhow::ensure!(number < 50, "no run was ever met between two switches");
        let id = format!("rpl_{number}");
        let process = rebuild(&world, &read_models);
        let mut run = pin!(process.run(&id, &plan, &never));
        // One step at a time, with a look at the rows after each, so that no two switches can pass unseen.
        while live(number).await? == 0 {
            if let Some(outcome) = step(run.as_mut()).await {
                outcome?;
                break;
            }
        }
        if live(number).await? < ALL.len() {
            break id.clone();
        }
    };
    world.live(&mut Dice::new(72), 100).await?;
    let deadline = Instant::now() + 4 * PATIENCE;
    let process = rebuild(&world, &read_models);
    loop {
        assert!(Instant::now() < deadline, "the run {id} never ended");
        match process.run(&id, &plan, &never).await {
            Err(RebuildError::Taken) => tokio::time::sleep(SHORT / 4).await,
            outcome => {
                assert_eq!(outcome?.differences, Some(Vec::new()), "as the run before found");
                break;
            }
        }
    }
    assert_eq!(live(number).await?, ALL.len());
    let row = read_models.rebuild(&id).await?;
    assert_eq!(row.map(|row| row.phase), Some(Phase::Done));
    world.assert_folded(&read_models).await?;
    stop.cancel();
    projectors.join().await;
    Ok(())
}
