//! Whether the logs of events are still what they were (design §5, "never trust the broker's disk alone").
//!
//! A disk can lose the end of a log, bring back an older copy, or change a record, and the broker may not notice. So
//! what a log must hold is known outside of it: its [`Fence`], kept in the read database. [`Watch`] compares the two,
//! at the start and every few seconds; [`Scrub`] compares every record with the archive, over and over; [`Trusted`] is
//! an engine whose logs check what they can in passing, and refuse everything once trust is lost. That is for good: a
//! process that has lost it must be started again.

mod distrust;
mod fence;
mod guarded;
mod scrub;
mod watching;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use crate::layout::{Log, Shard};
use crate::{EventLog, LogState, ReadError};

use fence::{BETWEEN_LOOKS, LOOKS};

pub use distrust::Distrust;
pub use fence::{Fence, Known, digest, digest_of, judge, judge_record};
pub use guarded::Trusted;
pub use scrub::{Archive, Scrub};
pub use watching::{Fences, Watch};

/// Gauge, 0 or 1, by `log`: whether the log is what it was.
const TRUSTED: &str = "tidings_log_trusted";

/// The trust of one process in its logs of events; clones share it.
#[derive(Debug, Clone)]
pub struct Trust(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lost: watch::Sender<Option<Arc<Distrust>>>,
    /// What this process itself has seen of each log.
    seen: Mutex<HashMap<Shard, Fence>>,
    /// Somebody found something odd: the watch must look now.
    odd: Notify,
}

impl Default for Trust {
    fn default() -> Self {
        Self(Arc::new(Inner {
            lost: watch::Sender::new(None),
            seen: Mutex::default(),
            odd: Notify::new(),
        }))
    }
}

impl Trust {
    /// Why the logs are not trusted any more, if so.
    pub fn lost(&self) -> Option<Arc<Distrust>> {
        self.0.lost.borrow().clone()
    }

    /// Waits until trust is lost.
    pub async fn until_lost(&self) -> Arc<Distrust> {
        let mut lost = self.0.lost.subscribe();
        loop {
            if let Some(why) = lost.borrow_and_update().clone() {
                return why;
            }
            // The sender lives as long as `self`.
            lost.changed().await.ok();
        }
    }

    /// Ends it, for the life of this process; the first reason stays.
    pub fn lose(&self, why: Distrust) -> Arc<Distrust> {
        let log = why.log();
        let why = Arc::new(why);
        let first = self.0.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            lost.get_or_insert_with(|| Arc::clone(&why));
            first
        });
        if first {
            metrics::gauge!(TRUSTED, "log" => log.name()).set(0.0);
            tracing::error!(log = log.name(), "{why} {}", Distrust::ADVICE);
        }
        self.lost().unwrap_or(why)
    }

    /// Refuses where trust is lost.
    fn require(&self) -> Result<(), Arc<Distrust>> {
        self.lost().map_or(Ok(()), Err)
    }

    /// Has the watch look at once.
    fn look_again(&self) {
        self.0.odd.notify_one();
    }

    /// What this process has seen of a log of events: when it was made, and how far it went at least.
    fn seen(&self, shard: Shard) -> Fence {
        let seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&shard).cloned().unwrap_or_default()
    }

    /// Keeps what was seen: a later look must find at least that.
    fn keep(&self, shard: Shard, fence: &Fence) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.entry(shard).or_default();
        *known = known.clone().and(fence);
        metrics::gauge!(TRUSTED, "log" => Log::Events(shard).name())
            .set(f64::from(u8::from(self.0.lost.borrow().is_none())));
    }

    /// This process has itself stored records up to there: they must be there from now on.
    fn reached(&self, shard: Shard, end: u64) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.entry(shard).or_default();
        known.end = known.end.max(end);
    }

    /// Compares a log with a fence and all that this process has seen of it: what is wrong, if anything is. A look
    /// that finds something is repeated, since what a log's new leader says in its first moments may be too little.
    ///
    /// # Errors
    /// The log could not be asked, so that nothing is known.
    pub async fn compare(
        &self,
        shard: Shard,
        log: &dyn EventLog,
        fence: &Fence,
    ) -> Result<Option<Distrust>, ReadError> {
        let mut looks = 0;
        loop {
            let wanted = self.seen(shard).and(fence);
            let state = log.state().await?;
            let Err(why) = examine(Log::Events(shard), log, &wanted, &state).await? else {
                self.keep(
                    shard,
                    &Fence {
                        created: Some(state.created),
                        end: state.last,
                        last: wanted.last,
                        suspect: None,
                    },
                );
                return Ok(None);
            };
            looks += 1;
            if why.is_certain() || looks == LOOKS {
                return Ok(Some(why));
            }
            tracing::warn!(log = Log::Events(shard).name(), %why, "The log is not as expected; looking again.");
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }
}

/// One look at a log: what it says of itself, and the records of it that are known.
async fn examine(
    log: Log,
    port: &dyn EventLog,
    wanted: &Fence,
    state: &LogState,
) -> Result<Result<(), Distrust>, ReadError> {
    if let Err(why) = judge(log, wanted, state) {
        return Ok(Err(why));
    }
    for known in wanted.last.into_iter().chain(wanted.suspect) {
        let found = port.at(known.0).await;
        if let Err(why) = judge_record(log, known, &found) {
            return Ok(Err(why));
        }
        found?;
    }
    Ok(Ok(()))
}
