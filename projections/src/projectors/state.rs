//! What a follower tells of itself: to health, to metrics, to whoever waits.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use domain::Position;
use tokio::sync::watch;

use super::{Line, ParkedTenants};
use crate::checkpoints::Parked;
use crate::metrics;
use crate::projection::position;

/// What is known of a follower at a moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The checkpoint, once it was read.
    pub(crate) at: Option<u64>,
    /// The checkpoint as the database had it when it was last asked: of what this follower does not move, because it
    /// rests or another process is faster, only the database tells.
    stored: u64,
    /// When the read model was last known to miss nothing; where it never was, when the first record it lacks was
    /// stored.
    since: Option<SystemTime>,
    /// The end of the log when it was last asked.
    end: u64,
    /// For how long it had missed something then, in seconds; 0 where it missed nothing.
    pub(crate) lag_seconds: f64,
    pub(crate) last_error: Option<String>,
    pub(crate) stopped: bool,
    pub(crate) paused: bool,
    pub(crate) parked: Vec<Parked>,
}

impl Seen {
    pub(crate) fn lag_records(&self) -> u64 {
        self.end.saturating_sub(self.reached())
    }

    /// How far the read model has come, whoever brought it there.
    pub(crate) fn reached(&self) -> u64 {
        self.at.unwrap_or_default().max(self.stored)
    }
}

/// What the database and the log tell of a read model's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measured {
    /// The checkpoint; 0 where there is none yet.
    pub(crate) at: u64,
    /// Since when it has missed something, if it does.
    pub(crate) since: Option<SystemTime>,
    /// The generation that is live, if there is one yet.
    pub(crate) generation: Option<i64>,
}

/// A follower's shared state.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) line: Line,
    seen: Mutex<Seen>,
    /// The live generation, as the database was last seen to have it.
    live: watch::Sender<Option<i64>>,
}

impl State {
    pub(crate) fn new(line: Line) -> Self {
        Self {
            line,
            seen: Mutex::default(),
            live: watch::Sender::default(),
        }
    }

    pub(crate) fn position(&self, sequence: u64) -> Position {
        position(self.line.log, sequence)
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn labels(&self) -> [(&'static str, String); 2] {
        [
            ("projection", self.line.projection.name().to_owned()),
            ("log", self.line.log.name()),
        ]
    }

    /// The checkpoint was read, with the tenants parked there.
    pub(super) fn stands_at(&self, sequence: u64, parked: &ParkedTenants) {
        self.change(|seen| {
            seen.at = Some(sequence);
            seen.parked = parked.values().cloned().collect();
        });
        let tenants = u32::try_from(parked.len()).unwrap_or(u32::MAX);
        ::metrics::gauge!(metrics::PARKED, &self.labels()).set(f64::from(tenants));
        ::metrics::gauge!(metrics::STOPPED, &self.labels()).set(0.0);
    }

    /// A batch was applied up to a record, stored then.
    pub(super) fn applied(&self, from: u64, to: u64, stored_at: SystemTime, parked: &ParkedTenants) {
        self.stands_at(to, parked);
        self.change(|seen| {
            seen.since = Some(stored_at);
            seen.last_error = None;
        });
        ::metrics::counter!(metrics::APPLIED, &self.labels()).increment(to - from);
    }

    /// The generation is live: the follower has read that, or the database was asked.
    pub(super) fn folds(&self, generation: i64) {
        self.live.send_replace(Some(generation));
    }

    /// Waits until another generation is live than the one that is folded.
    pub(super) async fn switched_from(&self, generation: i64) {
        let mut live = self.live.subscribe();
        let another = |live: &Option<i64>| live.is_some_and(|live| live != generation);
        // The sender lives as long as this does.
        let _live = live.wait_for(another).await;
    }

    /// Operators let it rest, or go on.
    pub(super) fn rests(&self, paused: bool) {
        self.change(|seen| seen.paused = paused);
    }

    /// Something went wrong and is tried again.
    pub(super) fn failed(&self, error: String) {
        self.change(|seen| seen.last_error = Some(error));
        ::metrics::counter!(metrics::ERRORS, &self.labels()).increment(1);
    }

    /// Something is wrong that trying again cannot mend.
    pub(super) fn stopped(&self, error: String) {
        self.failed(error);
        self.change(|seen| seen.stopped = true);
        ::metrics::gauge!(metrics::STOPPED, &self.labels()).set(1.0);
    }

    /// What went wrong is over.
    pub(super) fn recovered(&self) {
        self.change(|seen| seen.last_error = None);
    }

    /// The log ends there, and the read model stands where the database says; where it could not say, where it stood.
    pub(super) fn measured(&self, end: u64, measured: Option<Measured>, now: SystemTime) {
        self.change(|seen| {
            seen.end = end;
            if let Some(Measured { at, since, .. }) = measured {
                if at >= seen.at.unwrap_or_default() {
                    seen.since = since.or(seen.since);
                }
                seen.stored = at;
            }
            let age = seen.since.and_then(|since| now.duration_since(since).ok());
            let age = age.filter(|_| seen.lag_records() > 0);
            seen.lag_seconds = age.map_or(0.0, |age| age.as_secs_f64());
        });
        if let Some(generation) = measured.and_then(|measured| measured.generation) {
            self.folds(generation);
        }
        let seen = self.seen();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge is a float, and lags stay far below 2^53"
        )]
        ::metrics::gauge!(metrics::LAG_RECORDS, &self.labels()).set(seen.lag_records() as f64);
        ::metrics::gauge!(metrics::LAG_SECONDS, &self.labels()).set(seen.lag_seconds);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use broker::layout::Log;

    use super::*;
    use crate::models;

    const HOUR: Duration = Duration::from_hours(1);

    fn state() -> State {
        let projection = models::all().remove(0);
        State::new(Line {
            projection,
            log: Log::Events(0),
        })
    }

    fn at(at: u64, since: SystemTime) -> Measured {
        Measured {
            at,
            since: Some(since),
            generation: None,
        }
    }

    fn lag(state: &State) -> (u64, f64) {
        let seen = state.seen();
        (seen.lag_records(), seen.lag_seconds)
    }

    #[test]
    fn what_rests_from_the_start_on_lags_behind_the_databases_checkpoint() {
        let (state, now) = (state(), SystemTime::now());
        state.measured(100, Some(at(90, now - HOUR)), now);
        assert_eq!(lag(&state), (10, 3_600.0));
        // Nothing was folded, but nothing is missing either.
        state.measured(90, Some(at(90, now)), now);
        assert_eq!(lag(&state), (0, 0.0));
    }

    #[test]
    fn what_another_process_folds_does_not_lag_here() {
        let (state, now) = (state(), SystemTime::now());
        let parked = ParkedTenants::new();
        state.applied(0, 10, now - HOUR, &parked);
        // The other has come further, and was at the end of the log a moment ago.
        state.measured(21, Some(at(20, now - Duration::from_secs(1))), now);
        assert_eq!(lag(&state), (1, 1.0));
    }

    #[test]
    fn what_fails_from_the_first_record_on_lags_since_that_was_stored() {
        let (state, now) = (state(), SystemTime::now());
        state.failed("no disk".to_owned());
        state.measured(7, Some(at(0, now - HOUR)), now);
        assert_eq!(lag(&state), (7, 3_600.0));
        // A database that does not answer does not make it younger.
        state.measured(8, None, now + HOUR);
        assert_eq!(lag(&state), (8, 7_200.0));
    }

    #[test]
    fn what_was_applied_since_the_database_was_asked_counts() {
        let (state, now) = (state(), SystemTime::now());
        state.applied(0, 30, now, &ParkedTenants::new());
        state.measured(31, Some(at(20, now - HOUR)), now + Duration::from_secs(1));
        assert_eq!(lag(&state), (1, 1.0));
    }

    #[tokio::test]
    async fn a_switch_is_noticed_while_nothing_is_folded() {
        let (state, now) = (state(), SystemTime::now());
        let live = |generation| Measured {
            generation: Some(generation),
            ..at(10, now)
        };
        state.folds(1);
        state.measured(10, Some(live(1)), now);
        let mut waiting = std::pin::pin!(state.switched_from(1));
        assert!(futures::poll!(&mut waiting).is_pending());
        state.measured(10, None, now);
        assert!(futures::poll!(&mut waiting).is_pending());
        state.measured(10, Some(live(2)), now);
        assert!(futures::poll!(&mut waiting).is_ready());
        // Whoever reads it anew is not sent back by what was seen before.
        state.folds(2);
        assert!(futures::poll!(std::pin::pin!(state.switched_from(2))).is_pending());
    }
}
