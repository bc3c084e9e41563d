//! What lies between a process and its storage, and what goes wrong there.
//!
//! Every call draws its fate here, from the run's seed: how long it takes, whether it arrives, whether its answer
//! does. All of it is within what the ports' contracts allow; nothing a caller may rely on is broken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::memory::{awaiting, lock};
use super::{Chance, Trace};

/// How often each thing goes wrong, in a thousand calls.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    /// The longest a message is under way usually, in milliseconds.
    pub latency: u64,
    /// A message takes a hundred times as long.
    pub slow: u64,
    /// A call does not arrive, and its caller is told so.
    pub refused: u64,
    /// An append finds too much waiting.
    pub busy: u64,
    /// An append does not arrive, and its caller hears nothing.
    pub lost: u64,
    /// A call has its effect, but its answer is lost.
    pub unheard: u64,
    /// An append is stored long after its caller gave it up.
    pub late: u64,
    /// An append arrives twice.
    pub twice: u64,
    /// A read is answered by a replica that is a moment behind.
    pub behind: u64,
    /// A follower's stream breaks off.
    pub breaks: u64,
}

impl Weather {
    /// Nothing goes wrong.
    pub fn calm() -> Self {
        Self {
            latency: 2,
            ..Self::default()
        }
    }

    /// Draws one: about half of all that can go wrong does, each at a rate of its own, so that seeds differ in kind and
    /// not only in order.
    pub fn draw(chance: &mut Chance) -> Self {
        let mut rate = |most| match chance.below(2) {
            0 => 0,
            _ => chance.between(1, most),
        };
        Self {
            slow: rate(20),
            refused: rate(80),
            busy: rate(40),
            lost: rate(100),
            unheard: rate(100),
            late: rate(100),
            twice: rate(100),
            behind: rate(300),
            breaks: rate(100),
            latency: chance.between(1, 30),
        }
    }
}

/// What becomes of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is answered.
    Answered,
    /// Nothing was stored, and the caller is told so.
    Refused,
    /// As before, since too much waits.
    Busy,
    /// Nothing was stored, but the caller does not know.
    Lost,
    /// It is stored after so long, but the caller does not know.
    Unheard(Duration),
}

/// What becomes of another call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// It is answered.
    Answered,
    /// It had no effect.
    Refused,
    /// It had its effect, but the caller hears of a failure.
    Unheard,
}

/// The network of one run.
#[derive(Debug)]
pub struct Network {
    chance: Mutex<Chance>,
    weather: Mutex<Weather>,
    /// What happens on it.
    pub trace: Trace,
}

impl Network {
    /// One of a seed's weather.
    pub fn new(chance: Chance, weather: Weather, trace: Trace) -> Self {
        Self {
            chance: Mutex::new(chance),
            weather: Mutex::new(weather),
            trace,
        }
    }

    /// Lets this go wrong from now on, and nothing else. What is under way already goes its way.
    pub fn turn(&self, weather: Weather) {
        *lock(&self.weather) = weather;
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Chance, &Weather) -> T) -> T {
        draw(&mut lock(&self.chance), &lock(&self.weather))
    }

    /// How long a message is under way.
    pub(super) fn latency(&self) -> Duration {
        self.draw(|chance, weather| {
            let usual = chance.millis(0, weather.latency);
            if chance.happens(weather.slow) {
                usual * 100
            } else {
                usual
            }
        })
    }

    pub(super) fn append(&self) -> (Fate, bool) {
        self.draw(|chance, weather| {
            let fates = [
                (weather.refused, Fate::Refused),
                (weather.busy, Fate::Busy),
                (weather.lost, Fate::Lost),
                (weather.unheard, Fate::Unheard(chance.millis(0, 50))),
                (weather.late, Fate::Unheard(chance.millis(100, 20_000))),
            ];
            let fate = fates.into_iter().find(|(rate, _)| chance.happens(*rate));
            let twice = chance.happens(weather.twice);
            (fate.map_or(Fate::Answered, |(_, fate)| fate), twice)
        })
    }

    pub(super) fn call(&self) -> Call {
        self.draw(|chance, weather| {
            if chance.happens(weather.refused) {
                Call::Refused
            } else if chance.happens(weather.unheard) {
                Call::Unheard
            } else {
                Call::Answered
            }
        })
    }

    /// How far behind the replica is that answers a read.
    pub(super) fn behind(&self) -> Option<Duration> {
        self.draw(|chance, weather| {
            chance
                .happens(weather.behind)
                .then(|| chance.millis(1, 20 * weather.latency))
        })
    }

    pub(super) fn breaks(&self) -> bool {
        self.draw(|chance, weather| chance.happens(weather.breaks))
    }
}

/// One process's line to its storage. Cut, nothing on it is ever answered: so it looks to what a crash left running.
#[derive(Debug)]
pub struct Line {
    pub(super) network: Arc<Network>,
    pub(super) name: String,
    cut: AtomicBool,
    severed: Notify,
}

impl Line {
    /// A line under the name of its process.
    pub fn new(network: Arc<Network>, name: String) -> Self {
        Self {
            network,
            name,
            cut: AtomicBool::new(false),
            severed: Notify::new(),
        }
    }

    /// Cuts it for good.
    pub fn cut(&self) {
        self.note(format_args!("crashes"));
        self.cut.store(true, Ordering::SeqCst);
        self.severed.notify_waiters();
    }

    /// Waits for ever once the line is cut.
    pub(super) async fn stands(&self) {
        if self.cut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    /// The time a message takes on the line; it never arrives where the line is cut meanwhile.
    pub(super) async fn travel(&self) {
        self.stands().await;
        tokio::time::sleep(self.network.latency()).await;
        self.stands().await;
    }

    /// Waits until the line is cut.
    pub(super) async fn severed(&self) {
        let severed = awaiting(&self.severed);
        if !self.cut.load(Ordering::SeqCst) {
            severed.await;
        }
    }

    pub(super) fn note(&self, what: std::fmt::Arguments<'_>) {
        self.network.trace.note(&self.name, what);
    }
}
