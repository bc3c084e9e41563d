//! The harness of the embedded engine: a folder that is removed in the end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::embedded::Embedded;
use crate::layout::{Layout, Log};
use crate::{AppendError, Appended, Engine, NewRecord};

use super::Harness;
use super::support::within;

/// An installation of the embedded engine in a temporary folder.
#[derive(Debug)]
pub struct EmbeddedHarness {
    folder: TempDir,
    engine: Mutex<Option<Arc<Embedded>>>,
}

impl EmbeddedHarness {
    /// Makes the folder.
    pub async fn start() -> Self {
        let folder = tokio::task::spawn_blocking(tempfile::tempdir).await;
        Self {
            folder: folder
                .expect("making a folder does not panic")
                .expect("a temporary folder can be made"),
            engine: Mutex::new(None),
        }
    }
}

#[async_trait]
impl Harness for EmbeddedHarness {
    async fn open(&self, layout: Layout) -> Arc<dyn Engine> {
        let mut engine = self.engine.lock().await;
        if let Some(opened_before) = engine.take() {
            opened_before.close().await;
        }
        let opened = Embedded::open(self.folder.path(), layout)
            .await
            .expect("the installation can be opened");
        let opened = Arc::new(opened);
        *engine = Some(Arc::clone(&opened));
        opened
    }

    async fn restart(&self) {
        if let Some(opened_before) = self.engine.lock().await.take() {
            opened_before.close().await;
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
        let engine = self
            .engine
            .lock()
            .await
            .clone()
            .expect("the case has opened the engine");
        let log = engine.log(log);
        let (subject, message_id) = {
            let last = records.last().expect("the append holds a record");
            (last.subject.clone(), last.message_id.clone())
        };
        // Polled once, the append is with the writer; then nobody waits for it any more.
        let heard = tokio::time::timeout(Duration::ZERO, log.append(records)).await;
        within("the append to be stored", async {
            while log
                .last(&subject)
                .await
                .ok()
                .flatten()
                .is_none_or(|last| last.message_id != message_id)
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        heard.ok()
    }
}
