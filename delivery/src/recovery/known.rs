//! The recoveries there are, folded from the log of events.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use broker::layout::{Log, Shard};
use broker::{EventLog, Filter, ReadError, Record};
use domain::recovery::{Recovery, RecoveryEvent, RecoveryPlan};
use domain::{Commit, RecoveryId, TenantId, Trigger, decode_event};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::health::{Episode, Health, in_full, next, pause};
use crate::metrics;

/// The subjects of recoveries' events.
const SUBJECTS: &str = "ev.*.recovery.>";

/// A recovery, as far as it is known.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) id: RecoveryId,
    pub(super) tenant: TenantId,
    pub(super) plan: RecoveryPlan,
    pub(super) recovery: Recovery,
    /// The number of the run it begins of each delivery: its request's sequence, as with redriving.
    pub(super) run: u32,
    /// What asked for it.
    pub(super) trigger: Trigger,
    /// When that was, by the log's clock.
    pub(super) asked_at: SystemTime,
    /// Something was decided since it was last looked at.
    pub(super) news: bool,
}

/// All of them that may need something done.
#[derive(Debug, Default)]
pub(super) struct Known {
    all: Mutex<BTreeMap<RecoveryId, Running>>,
    changed: Notify,
}

impl Known {
    /// All of them, in the order of their making; their news count as seen.
    pub(super) fn all(&self) -> Vec<Running> {
        let mut all = self.lock();
        let seen = all.values_mut().map(|running| {
            let seen = running.clone();
            running.news = false;
            seen
        });
        seen.collect()
    }

    /// Leaves one out that has ended.
    pub(super) fn forget(&self, id: &RecoveryId) {
        self.lock().remove(id);
    }

    /// Waits until something is decided.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RecoveryId, Running>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows their events until told to stop.
    pub(super) async fn follow(
        &self,
        events: Arc<dyn EventLog>,
        shard: Shard,
        stop: &CancellationToken,
        health: Arc<Health>,
    ) {
        let mut episode = Episode::new(format!("recoveries in {}", Log::Events(shard)), health);
        let mut after = 0;
        loop {
            let following = self.follow_once(events.as_ref(), &mut after, &mut episode);
            let Some(Err(error)) = stop.run_until_cancelled(following).await else {
                return;
            };
            if !pause(episode.failed(&error), stop).await {
                return;
            }
        }
    }

    async fn follow_once(
        &self,
        events: &dyn EventLog,
        after: &mut u64,
        episode: &mut Episode,
    ) -> Result<(), ReadError> {
        let filter = Filter::new(SUBJECTS).map_err(|error| ReadError::Unavailable(Box::new(error)))?;
        let mut records = events.follow(*after, Some(filter)).await?;
        while let Some(record) = next(&mut records, episode).await {
            let record = record?;
            if let Err(error) = self.take(&record) {
                metrics::unreadable("EVENTS");
                let (sequence, error) = (record.sequence, in_full(error.as_ref()));
                tracing::error!(sequence, %error, "A recovery's event cannot be read; it is not acted on.");
            }
            *after = record.sequence;
            episode.recovered();
        }
        Err(ReadError::Unavailable("the log's stream of records ended".into()))
    }

    fn take(&self, record: &Record) -> Result<(), Box<dyn Error + Send + Sync>> {
        let commit = Commit::decode(&record.payload)?;
        let id: RecoveryId = commit.id.parse()?;
        let mut all = self.lock();
        for event in &commit.events {
            let event: RecoveryEvent = decode_event(event)?;
            if let RecoveryEvent::Requested(plan) = &event {
                let running = Running {
                    id: id.clone(),
                    tenant: commit.tenant.clone(),
                    plan: plan.clone(),
                    recovery: Recovery::default(),
                    run: u32::try_from(record.sequence).unwrap_or(u32::MAX),
                    trigger: Trigger::command(&commit.meta),
                    asked_at: record.stored_at,
                    news: true,
                };
                all.insert(id.clone(), running);
            }
            // What is told of one that was forgotten needs nothing done.
            if let Some(running) = all.get_mut(&id) {
                running.news |= !matches!(event, RecoveryEvent::Progressed(_));
                running.recovery.take(event);
            }
        }
        drop(all);
        self.changed.notify_one();
        Ok(())
    }
}
