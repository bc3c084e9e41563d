//! The wall clock of the simulated world: it goes as Tokio's clock goes, which stands still while anybody works.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A wall clock that began at some time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: SystemTime,
    began: Instant,
}

impl Clock {
    /// One that shows this time now.
    pub fn showing(origin: SystemTime) -> Self {
        Self {
            origin,
            began: Instant::now(),
        }
    }

    /// What it shows.
    pub fn now(&self) -> SystemTime {
        self.origin + self.passed()
    }

    /// How long it has gone.
    pub fn passed(&self) -> Duration {
        self.began.elapsed()
    }

    /// When it will show a time; at once, where that has passed.
    pub fn instant(&self, time: SystemTime) -> Instant {
        let wait = time.duration_since(self.now()).unwrap_or_default();
        Instant::now() + wait.min(Duration::from_hours(24))
    }
}
