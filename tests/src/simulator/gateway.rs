//! A process of the write path: the real dispatcher and publisher behind a line, which a crash takes away at once.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::Engine;
use commands::{ClaimKey, Dispatcher, Publisher, Settings};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::World;
use super::deed::{Deed, Heard, Turn};
use super::memory::lock;
use super::network::Line;

/// How long a request may take, as the service bounds it too.
const REQUEST: Duration = Duration::from_secs(10);

/// A dispatcher as all processes of the installation have it, but for a few turns only: making many takes longer than
/// all else in a run.
pub(super) fn dispatcher(engine: &dyn Engine) -> Dispatcher {
    let settings = Settings {
        turns: 64,
        ..Settings::new(ClaimKey::new([7; 32]))
    };
    Dispatcher::new(engine, settings)
}

/// A process; between a crash and its next start there is none.
#[derive(Debug)]
pub struct Gateway {
    world: Arc<World>,
    name: String,
    life: Mutex<Option<Life>>,
}

/// What a crash ends.
#[derive(Debug)]
struct Life {
    line: Arc<Line>,
    hands: Hands,
    tasks: Vec<AbortHandle>,
}

/// What requests are carried out with.
#[derive(Clone)]
pub(super) struct Hands {
    pub(super) dispatcher: Dispatcher,
    pub(super) publisher: Publisher,
}

impl std::fmt::Debug for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hands(…)")
    }
}

impl Gateway {
    /// One that runs.
    pub fn start(world: &Arc<World>, name: String) -> Self {
        let gateway = Self {
            world: Arc::clone(world),
            name,
            life: Mutex::default(),
        };
        gateway.restart();
        gateway
    }

    /// Ends it, if it runs, and starts it anew: nothing is remembered.
    pub fn restart(&self) {
        self.crash();
        let (line, engine) = self.world.connect(self.name.clone());
        let hands = Hands {
            dispatcher: dispatcher(&*engine),
            publisher: Publisher::new(&*engine),
        };
        *lock(&self.life) = Some(Life {
            line,
            hands,
            tasks: Vec::new(),
        });
    }

    /// Starts it, unless it runs.
    pub fn start_again(&self) {
        let runs = lock(&self.life).is_some();
        if !runs {
            self.restart();
        }
    }

    /// Ends it in the middle of whatever it does.
    pub fn crash(&self) {
        if let Some(life) = lock(&self.life).take() {
            life.line.cut();
            life.tasks.iter().for_each(AbortHandle::abort);
        }
    }

    /// Carries out a request in a task of its own, and tells what the client hears of it.
    pub(super) async fn serve(&self, deed: &Deed, turn: Turn) -> Heard {
        let task = {
            let mut life = lock(&self.life);
            let Some(life) = life.as_mut() else {
                return Heard::NotNow("nobody listens".to_owned());
            };
            let work = deed.clone().carry_out(life.hands.clone(), turn);
            let task = tokio::spawn(timeout(REQUEST, work));
            life.tasks.retain(|task| !task.is_finished());
            life.tasks.push(task.abort_handle());
            task
        };
        match task.await {
            Ok(Ok(heard)) => heard,
            Ok(Err(_)) => Heard::Unknown("it took too long".to_owned()),
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => Heard::Silence,
            },
        }
    }
}
