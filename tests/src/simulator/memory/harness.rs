//! The engine in memory for the conformance suite.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use broker::conformance::Harness;
use broker::layout::{Layout, Log};
use broker::{AppendError, Appended, Engine, NewRecord};
use tokio::sync::Mutex;

use super::{Clock, Manner, Memory, Storage};
use crate::simulator::network::{Line, Network, Weather};
use crate::simulator::{Chance, Connection, Trace};

/// One installation in memory.
#[derive(Debug)]
pub struct MemoryHarness {
    storage: Arc<Storage>,
    /// What lies between, if anything does.
    network: Option<Arc<Network>>,
    opened: Mutex<Option<Arc<dyn Engine>>>,
}

impl MemoryHarness {
    /// An empty installation, by the machine's clock.
    pub fn near() -> Self {
        let clock = Clock::showing(SystemTime::now());
        Self {
            storage: Arc::new(Storage::new(&Layout::default(), clock, Manner::default())),
            network: None,
            opened: Mutex::default(),
        }
    }

    /// One that is reached over a network on which nothing goes wrong.
    pub fn distant() -> Self {
        let trace = Trace::new(Clock::showing(SystemTime::now()), false);
        let network = Network::new(Chance::of(0), Weather::calm(), trace);
        Self {
            network: Some(Arc::new(network)),
            ..Self::near()
        }
    }
}

#[async_trait]
impl Harness for MemoryHarness {
    async fn open(&self, layout: Layout) -> Arc<dyn Engine> {
        let mut opened = self.opened.lock().await;
        if let Some(before) = opened.take() {
            before.close().await;
        }
        let memory = Arc::new(Memory::open(&self.storage, layout));
        let engine: Arc<dyn Engine> = match &self.network {
            None => memory,
            Some(network) => {
                let line = Line::new(Arc::clone(network), "process".to_owned());
                Arc::new(Connection::new(Arc::clone(&self.storage), memory, Arc::new(line)))
            }
        };
        *opened = Some(Arc::clone(&engine));
        engine
    }

    async fn restart(&self) {
        if let Some(before) = self.opened.lock().await.take() {
            before.close().await;
        }
    }

    fn survives_restart(&self) -> bool {
        false
    }

    async fn append_unacknowledged(
        &self,
        log: Log,
        records: Vec<NewRecord>,
    ) -> Option<Result<Vec<Appended>, AppendError>> {
        // The storage takes it, and whoever asked is not there any more.
        let ledger = self.storage.ledger(log).expect("the layout has the log");
        ledger.append(records).expect("nothing stands against it");
        None
    }
}
