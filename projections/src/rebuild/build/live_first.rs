//! Live models first: a build holds back while those it works beside fall behind.
//!
//! A build takes what a machine has, and the live models, whose work comes a little at a time, would get the rest. So
//! it looks at how long they have missed what the log has, and lets them come up before it goes on. It never stops:
//! where a machine cannot keep its live models up, with or without a build, the copy comes on all the same.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::EventLog;
use broker::layout::Log;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::checkpoints::{self, Standpoints};
use crate::engine::Database;

/// For how long the live models may miss something before a build holds back.
const LATE: Duration = Duration::from_millis(100);
/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// A live model that misses something and has not moved for so long is folded by nobody, or has stopped: no build
/// waits for it.
const IDLE: Duration = Duration::from_secs(1);
/// For how long it is remembered where the log ended: nobody is seen to be later than that.
const WINDOW: Duration = Duration::from_secs(10);
/// A build that holds back works for at least one part in so many of the time.
const LEAST_PART: u32 = 10;
/// How often a build that holds back looks whether it may go on.
const TURN: Duration = Duration::from_millis(5);
/// A build that holds back takes steps smaller by this, after which the live models have their turn.
const SMALLER: usize = 8;

/// For how long the live model of a log that is furthest behind has missed something, in milliseconds.
#[derive(Debug, Default)]
struct Late(AtomicU64);

/// Looks at the live models while a build works on a log.
#[derive(Debug)]
pub(super) struct LiveFirst {
    late: Arc<Late>,
    _looking: AbortOnDropHandle<()>,
}

impl LiveFirst {
    /// Begins to look.
    pub(super) fn watch(database: Database, log: Log, port: Arc<dyn EventLog>) -> Self {
        let late = Arc::<Late>::default();
        let looking = look(database, log, port, Arc::clone(&late));
        Self {
            late,
            _looking: AbortOnDropHandle::new(tokio::spawn(looking)),
        }
    }

    /// How many records to take in the next step, of at most so many.
    pub(super) fn step(&self, most: usize) -> usize {
        if self.late.is_too_long() {
            most / SMALLER
        } else {
            most
        }
    }

    /// Lets the live models come up after a step that took so long.
    pub(super) async fn come_up(&self, took: Duration) {
        self.late.come_up(took).await;
    }
}

impl Late {
    fn is_too_long(&self) -> bool {
        u128::from(self.0.load(Ordering::Relaxed)) > LATE.as_millis()
    }

    async fn come_up(&self, took: Duration) {
        let until = Instant::now() + took * (LEAST_PART - 1);
        while self.is_too_long() && Instant::now() < until {
            tokio::time::sleep(TURN).await;
        }
    }
}

async fn look(database: Database, log: Log, port: Arc<dyn EventLog>, late: Arc<Late>) {
    let (mut history, mut told) = (History::default(), false);
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Ok(bounds) = port.state().await else { continue };
        // A database that cannot be asked is the build's own error to tell.
        let Ok(models) = standpoints(&database, log).await else {
            continue;
        };
        let missed = history.look(Instant::now(), bounds.last, &models);
        let millis = u64::try_from(missed.as_millis()).unwrap_or(u64::MAX);
        late.0.store(millis, Ordering::Relaxed);
        if late.is_too_long() && !std::mem::replace(&mut told, true) {
            tracing::info!(
                log = log.name(),
                late_ms = millis,
                "The live read models fall behind; the replay holds back for them."
            );
        }
    }
}

async fn standpoints(database: &Database, log: Log) -> Result<Standpoints, sqlx::Error> {
    let mut session = database.begin_beside().await?;
    let models = checkpoints::standpoints(&mut session, log).await?;
    session.commit().await?;
    Ok(models)
}

/// What was seen over the last seconds.
#[derive(Debug, Default)]
struct History {
    /// Where the log ended when.
    ends: VecDeque<(Instant, u64)>,
    /// Where each live model stands, and since when.
    models: BTreeMap<(String, i64), (u64, Instant)>,
}

impl History {
    /// Notes where the log and its live models stand; answers how long the one furthest behind has missed something.
    fn look(&mut self, now: Instant, end: u64, models: &Standpoints) -> Duration {
        self.ends.push_back((now, end));
        while self
            .ends
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) > WINDOW)
        {
            self.ends.pop_front();
        }
        let mut furthest = end;
        for (model, standpoint) in models {
            let known = self
                .models
                .entry(model.clone())
                .or_insert((standpoint.sequence, now));
            if known.0 != standpoint.sequence {
                *known = (standpoint.sequence, now);
            }
            if now.duration_since(known.1) < IDLE {
                furthest = furthest.min(standpoint.sequence);
            }
        }
        let missed = self.ends.iter().find(|(_, end)| *end > furthest);
        missed.map_or(Duration::ZERO, |(since, _)| now.duration_since(*since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoints::Standpoint;

    fn at(models: &[(&str, u64)]) -> Standpoints {
        let models = models.iter().map(|(name, sequence)| {
            let standpoint = Standpoint {
                generation: 1,
                sequence: *sequence,
                fresh_at: None,
            };
            (((*name).to_owned(), 1), standpoint)
        });
        models.collect()
    }

    #[test]
    fn the_one_furthest_behind_counts_while_it_moves() {
        let (began, mut history) = (Instant::now(), History::default());
        let after = |millis| began + Duration::from_millis(millis);
        let millis = Duration::from_millis;
        assert_eq!(
            history.look(began, 100, &at(&[("users", 100), ("audit", 100)])),
            millis(0)
        );
        assert_eq!(
            history.look(after(50), 200, &at(&[("users", 150), ("audit", 200)])),
            millis(0)
        );
        assert_eq!(
            history.look(after(100), 300, &at(&[("users", 160), ("audit", 300)])),
            millis(50)
        );
        assert_eq!(
            history.look(after(150), 300, &at(&[("users", 200), ("audit", 300)])),
            millis(50)
        );
        assert_eq!(
            history.look(after(900), 300, &at(&[("users", 200), ("audit", 300)])),
            millis(800)
        );
        // Nobody folds it any more.
        assert_eq!(
            history.look(after(1_200), 400, &at(&[("users", 200), ("audit", 400)])),
            millis(0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_build_holds_back_for_a_while_only() {
        let (late, took) = (Late::default(), Duration::from_millis(100));
        let held = async || {
            let began = Instant::now();
            late.come_up(took).await;
            began.elapsed()
        };
        assert_eq!(held().await, Duration::ZERO);
        late.0.store(101, Ordering::Relaxed);
        assert_eq!(held().await, took * 9);
        let (held, ()) = tokio::join!(held(), async {
            tokio::time::sleep(took).await;
            late.0.store(100, Ordering::Relaxed);
        });
        assert!((100..=105).contains(&held.as_millis()), "{held:?}");
    }
}
