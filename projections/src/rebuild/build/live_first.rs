//! Live models first: a build holds back while those it works beside fall behind.
//!
//! A build takes what a machine has, and the live models, whose work comes a little at a time, would get the rest. So
//! it looks at how long they have missed what the log has, and lets them come up before it goes on. It never stops:
//! a machine that cannot keep its live models up at all would keep the copy from ever being done, and a copy that
//! gains on the log more slowly than the log grows would never be done either.

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
/// Over how long the growth of the log is taken.
const WINDOW: Duration = Duration::from_secs(10);
/// A build that holds back works for at least one part in so many of the time.
const LEAST_PART: u32 = 10;
/// How often a build that holds back looks whether it may go on.
const TURN: Duration = Duration::from_millis(5);
/// A build that holds back takes steps smaller by this, after which the live models have their turn.
const SMALLER: usize = 8;

/// What is known of the live models of a log.
#[derive(Debug, Default)]
struct Seen {
    /// How long the one furthest behind has missed something, in milliseconds.
    late: AtomicU64,
    /// How many records the log grows by in a second.
    arrivals: AtomicU64,
}

/// Looks at the live models while a build works on a log.
#[derive(Debug)]
pub(super) struct LiveFirst {
    seen: Arc<Seen>,
    _looking: AbortOnDropHandle<()>,
}

impl LiveFirst {
    /// Begins to look.
    pub(super) fn watch(database: Database, log: Log, port: Arc<dyn EventLog>) -> Self {
        let seen = Arc::<Seen>::default();
        let looking = look(database, log, port, Arc::clone(&seen));
        Self {
            seen,
            _looking: AbortOnDropHandle::new(tokio::spawn(looking)),
        }
    }

    /// How many records to take in the next step, of at most so many.
    pub(super) fn step(&self, most: usize) -> usize {
        if self.seen.are_late() {
            most / SMALLER
        } else {
            most
        }
    }

    /// Lets the live models come up after a step of so many records that took so long.
    pub(super) async fn come_up(&self, records: usize, took: Duration) {
        self.seen.come_up(records, took).await;
    }
}

impl Seen {
    fn are_late(&self) -> bool {
        u128::from(self.late.load(Ordering::Relaxed)) > LATE.as_millis()
    }

    async fn come_up(&self, records: usize, took: Duration) {
        let until = Instant::now() + self.longest(records, took);
        while self.are_late() && Instant::now() < until {
            tokio::time::sleep(TURN).await;
        }
    }

    /// For how long the build may hold back: it keeps its part of the time, and gains on a growing log.
    fn longest(&self, records: usize, took: Duration) -> Duration {
        let longest = took * (LEAST_PART - 1);
        let arrivals = self.arrivals.load(Ordering::Relaxed);
        let Some(micros) = (records as u64 * 1_000_000).checked_div(arrivals + arrivals / 2) else {
            return longest;
        };
        longest.min(Duration::from_micros(micros).saturating_sub(took))
    }
}

async fn look(database: Database, log: Log, port: Arc<dyn EventLog>, seen: Arc<Seen>) {
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
        let late = history.look(Instant::now(), bounds.last, &models);
        let millis = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        seen.late.store(millis, Ordering::Relaxed);
        seen.arrivals.store(history.arrivals(), Ordering::Relaxed);
        if late > LATE && !std::mem::replace(&mut told, true) {
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

    /// How many records a second have come.
    fn arrivals(&self) -> u64 {
        let (Some((began, first)), Some((now, last))) = (self.ends.front(), self.ends.back()) else {
            return 0;
        };
        let millis = u64::try_from(now.duration_since(*began).as_millis()).unwrap_or(u64::MAX);
        let came = last.saturating_sub(*first).saturating_mul(1_000);
        came.checked_div(millis).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoints::Standpoint;

    fn at(models: &[(&str, u64)]) -> Standpoints {
        let models = models.iter().map(|(name, sequence)| {
            let standpoint = Standpoint {
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
        assert_eq!(history.arrivals(), 300 * 1_000 / 1_200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_build_holds_back_for_a_while_only() {
        let (seen, took) = (Seen::default(), Duration::from_millis(100));
        let held = async |records| {
            let began = Instant::now();
            seen.come_up(records, took).await;
            began.elapsed()
        };
        assert_eq!(held(1_000).await, Duration::ZERO);
        seen.late.store(101, Ordering::Relaxed);
        assert_eq!(held(1_000).await, took * 9);
        // A thousand records arrive in half a second: it must not take longer than two thirds of that for so many.
        seen.arrivals.store(2_000, Ordering::Relaxed);
        let held = held(1_000).await;
        assert!((230..=240).contains(&held.as_millis()), "{held:?}");
    }
}
