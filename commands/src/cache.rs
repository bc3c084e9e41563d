//! The bounded cache of aggregates: state and place in the log, by subject.
//!
//! What it holds may be out of date; an append's expectation finds that out. It is never the only ground for a
//! refusal.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::Root;
use moka::sync::Cache;

use crate::store::Context;

#[derive(Clone)]
pub(crate) struct AggregateCache(Cache<String, Arc<dyn Any + Send + Sync>>);

struct Entry<A> {
    context: Context<A>,
    read_at: Instant,
}

impl AggregateCache {
    pub(crate) fn new(capacity: u64) -> Self {
        Self(Cache::new(capacity))
    }

    /// The state on a subject and how long ago it was read or written.
    pub(crate) fn get<A: Root>(&self, subject: &str) -> Option<(Context<A>, Duration)> {
        let entry = self.0.get(subject)?.downcast::<Entry<A>>().ok()?;
        Some((entry.context.clone(), entry.read_at.elapsed()))
    }

    pub(crate) fn put<A: Root>(&self, subject: String, context: Context<A>) {
        self.0.insert(
            subject,
            Arc::new(Entry {
                context,
                read_at: Instant::now(),
            }),
        );
    }

    pub(crate) fn forget(&self, subject: &str) {
        self.0.invalidate(subject);
    }
}
