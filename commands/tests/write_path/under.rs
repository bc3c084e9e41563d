//! An engine whose logs have another one of a test's before them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use broker::layout::{Bucket, Layout, Log};
use broker::{DeadLetters, Engine, EventLog, Finding, KeyValue, WorkQueue};

type Before = dyn Fn(Arc<dyn EventLog>) -> Arc<dyn EventLog> + Send + Sync;

pub(crate) struct Under {
    engine: Arc<dyn Engine>,
    before: Box<Before>,
}

impl Under {
    pub(crate) fn new(
        engine: &Arc<dyn Engine>,
        before: impl Fn(Arc<dyn EventLog>) -> Arc<dyn EventLog> + Send + Sync + 'static,
    ) -> Self {
        Self {
            engine: Arc::clone(engine),
            before: Box::new(before),
        }
    }
}

impl fmt::Debug for Under {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Under").field(&self.engine).finish()
    }
}

#[async_trait]
impl Engine for Under {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn layout(&self) -> &Layout {
        self.engine.layout()
    }

    fn log(&self, log: Log) -> Arc<dyn EventLog> {
        (self.before)(self.engine.log(log))
    }

    fn queue(&self) -> Arc<dyn WorkQueue> {
        self.engine.queue()
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        self.engine.dead_letters()
    }

    fn bucket(&self, bucket: Bucket) -> Arc<dyn KeyValue> {
        self.engine.bucket(bucket)
    }

    async fn examine(&self) -> Vec<Finding> {
        self.engine.examine().await
    }

    async fn close(&self) {
        self.engine.close().await;
    }
}
