//! A process that was stopped wherever it was, and comes back when others have gone on.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use projections::{Control, Projectors, ReadModels, Settings, Standing};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::history::Dice;
use crate::rebuild::{plan, rebuild, standing_of};
use crate::world::{ALL, PATIENCE, Store, World};

/// How often it is met standing still without anything that others wait for.
const OFTEN: usize = 5;
/// How long others may take beside it, unless it holds what they wait for.
const BESIDE: Duration = Duration::from_secs(5);

/// Says when everything stands still, and how it goes on.
struct Stop {
    stands: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

/// Projectors on a thread of their own, which stand still, all of them and wherever they are, while that thread does.
struct Sleeper {
    stops: UnboundedSender<Stop>,
    end: CancellationToken,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Sleeper {
    fn start(world: &World) -> Self {
        let (stops, mut stopping) = tokio::sync::mpsc::unbounded_channel::<Stop>();
        let settings = Settings {
            target: world.target.clone(),
            migrate: world.database.is_none(),
        };
        let (engine, end) = (Arc::clone(&world.engine), CancellationToken::new());
        let until = end.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async move {
                let read_models = ReadModels::open(settings).await?;
                let projectors =
                    Projectors::start(read_models.clone(), engine, Control::default(), until.clone());
                while let Some(Some(stop)) = until.run_until_cancelled(stopping.recv()).await {
                    stop.stands.send(())?;
                    // Not awaited: so nothing else on this thread goes on.
                    stop.go_on.recv()?;
                }
                projectors.join().await;
                read_models.close().await;
                Ok(())
            })
        });
        Self { stops, end, thread }
    }

    /// Everything stands still until the sender is used.
    fn stop(&self) -> anyhow::Result<mpsc::Sender<()>> {
        let (stands, standing) = mpsc::channel();
        let (going_on, go_on) = mpsc::channel();
        self.stops
            .send(Stop { stands, go_on })
            .ok()
            .context("the thread has ended")?;
        standing.recv_timeout(PATIENCE)?;
        Ok(going_on)
    }

    fn end(self) -> anyhow::Result<()> {
        self.end.cancel();
        self.thread.join().ok().context("the thread panicked")?
    }
}

/// It goes on with what it had in hand, which others have done meanwhile, in tables that are not live any more.
pub(crate) async fn what_comes_back_sees_that_it_was_overtaken(store: Store) -> anyhow::Result<()> {
    let mut world = World::new(store).await?;
    let awake = world.open().await?;
    let (projectors, stop) = world.start(&awake);
    let sleeper = Sleeper::start(&world);
    let (mut dice, never) = (Dice::new(131), CancellationToken::new());
    let (mut met, mut round, deadline) = (0, 0, Instant::now() + 4 * PATIENCE);
    while met < OFTEN {
        assert!(Instant::now() < deadline, "it was met {met} times only");
        round += 1;
        world.live(&mut dice, 30).await?;
        let going_on = sleeper.stop()?;
        world.live(&mut dice, 60).await?;
        let ends = world.ends().await?;
        // Where it stands still within a transaction, others wait, as they must.
        if awake.wait_for(ALL, &ends, Instant::now() + BESIDE).await.is_ok() {
            let id = format!("rpl_{round}");
            rebuild(&world, &awake)
                .run(&id, &plan(&["users", "audit", "stats"]), &never)
                .await?;
            met += 1;
            let live = standing_of(&awake, "users", Standing::Live).await?;
            assert_eq!(live, [i64::try_from(met)?]);
        }
        going_on.send(())?;
    }
    world.assert_folded(&awake).await?;
    world.live(&mut dice, 50).await?;
    stop.cancel();
    projectors.join().await;
    // It does alone what both did.
    world.assert_folded(&awake).await?;
    sleeper.end()
}
