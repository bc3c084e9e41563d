//! The engine in memory for the conformance suite.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use broker::conformance::Harness;
use broker::layout::{Layout, Log};
use broker::{AppendError, Appended, Engine, NewRecord};
use tokio::sync::Mutex;

use super::{Clock, Manner, Memory, Storage};

/// One installation in memory.
#[derive(Debug)]
pub struct MemoryHarness {
    storage: Arc<Storage>,
    opened: Mutex<Option<Arc<Memory>>>,
}

impl MemoryHarness {
    /// An empty installation, by the machine's clock.
    #[expect(
        clippy::new_without_default,
        reason = "it starts a clock, as no default does"
    )]
    pub fn new() -> Self {
        let clock = Clock::showing(SystemTime::now());
        Self {
            storage: Arc::new(Storage::new(&Layout::default(), clock, Manner::default())),
            opened: Mutex::default(),
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
        let engine = Arc::new(Memory::open(&self.storage, layout));
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
