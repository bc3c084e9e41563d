//! What a follower tells of itself: to health, to metrics, to whoever waits.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use domain::Position;

use super::{Line, ParkedTenants};
use crate::checkpoints::Parked;
use crate::metrics;
use crate::projection::position;

/// What is known of a follower at a moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The checkpoint, once it was read.
    pub(crate) at: Option<u64>,
    /// When the record there was stored.
    stored_at: Option<SystemTime>,
    /// The end of the log when it was last asked.
    end: u64,
    /// How old the record at the checkpoint was then, in seconds, if it was not the last.
    pub(crate) lag_seconds: f64,
    pub(crate) last_error: Option<String>,
    pub(crate) stopped: bool,
    pub(crate) paused: bool,
    pub(crate) parked: Vec<Parked>,
}

impl Seen {
    pub(crate) fn lag_records(&self) -> u64 {
        self.end.saturating_sub(self.at.unwrap_or_default())
    }
}

/// A follower's shared state.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) line: Line,
    seen: Mutex<Seen>,
}

impl State {
    pub(crate) fn new(line: Line) -> Self {
        Self {
            line,
            seen: Mutex::default(),
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
            seen.stored_at = Some(stored_at);
            seen.last_error = None;
        });
        ::metrics::counter!(metrics::APPLIED, &self.labels()).increment(to - from);
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

    /// The log ends there.
    pub(super) fn measured(&self, end: u64, now: SystemTime) {
        self.change(|seen| {
            seen.end = end;
            let age = seen.stored_at.and_then(|stored| now.duration_since(stored).ok());
            let age = age.filter(|_| seen.lag_records() > 0);
            seen.lag_seconds = age.map_or(0.0, |age| age.as_secs_f64());
        });
        let seen = self.seen();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge is a float, and lags stay far below 2^53"
        )]
        ::metrics::gauge!(metrics::LAG_RECORDS, &self.labels()).set(seen.lag_records() as f64);
        ::metrics::gauge!(metrics::LAG_SECONDS, &self.labels()).set(seen.lag_seconds);
    }
}
