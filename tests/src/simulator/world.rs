//! What the processes of one run share: the storage, the network, the clock and where ids come from.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use broker::Engine;
use broker::layout::{Layout, Log};
use ulid::Ulid;

use super::memory::{Ledger, Manner, Memory, Storage, lock};
use super::network::{Line, Network, Weather};
use super::{Chance, Clock, Connection, Trace};

/// When every simulated world begins: 2026-01-01T00:00:00Z.
const ORIGIN: Duration = Duration::from_hours(490_896);

/// One run's world.
#[derive(Debug)]
pub struct World {
    /// What lasts.
    pub storage: Arc<Storage>,
    /// What lies between.
    pub network: Arc<Network>,
    /// Its time.
    pub clock: Clock,
    engine: Arc<Memory>,
    ids: Mutex<Chance>,
}

impl World {
    /// Makes one; to be called on a runtime whose time stands still.
    pub fn new(chance: &Chance, weather: Weather, layout: Layout, manner: Manner, aloud: bool) -> Self {
        let clock = Clock::showing(SystemTime::UNIX_EPOCH + ORIGIN);
        let trace = Trace::new(clock, aloud);
        let storage = Arc::new(Storage::new(&layout, clock, manner));
        Self {
            network: Arc::new(Network::new(chance.apart(1), weather, trace)),
            engine: Arc::new(Memory::open(&storage, layout)),
            storage,
            clock,
            ids: Mutex::new(chance.apart(2)),
        }
    }

    /// An id that nobody else has.
    pub fn ulid(&self) -> Ulid {
        Ulid(lock(&self.ids).wide())
    }

    /// A line for a new process, and the engine as it sees it.
    pub fn connect(&self, name: String) -> (Arc<Line>, Arc<dyn Engine>) {
        let line = Arc::new(Line::new(Arc::clone(&self.network), name));
        let connection = Connection::new(
            Arc::clone(&self.storage),
            Arc::clone(&self.engine),
            Arc::clone(&line),
        );
        (line, Arc::new(connection))
    }

    /// A log as it stands in the storage.
    pub fn ledger(&self, log: Log) -> &Ledger {
        self.storage.ledger(log).expect("the layout has the log")
    }
}
