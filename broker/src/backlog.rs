//! The bound on what waits to be appended: who finds no room is told at once, and nothing of it is stored.
//!
//! What is taken in counts until it is answered, so that the bound holds for everything an engine keeps in memory for
//! a log, whether it waits, is being written, or is being tried again.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::layout::{Log, Waiting};
use crate::{AppendError, NewRecord};

/// Records taken in and not yet answered, by `log`.
const RECORDS: &str = "tidings_log_waiting_records";
/// Bytes of the records taken in and not yet answered, by `log`.
const BYTES: &str = "tidings_log_waiting_bytes";
/// Appends refused because too much was waiting, by `log`.
const REFUSED: &str = "tidings_log_appends_refused_total";

#[derive(Debug, Clone, Copy, Default)]
struct Load {
    records: usize,
    bytes: usize,
}

struct Gauges {
    records: metrics::Gauge,
    bytes: metrics::Gauge,
}

struct Inner {
    log: Log,
    limit: Waiting,
    load: Mutex<Load>,
    /// Made at the first append: the process may install its recorder after it has opened the engine.
    gauges: OnceLock<Gauges>,
}

/// What waits to be appended to one log; clones share it.
#[derive(Clone)]
pub(crate) struct Backlog(Arc<Inner>);

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog")
            .field("log", &self.0.log)
            .field("limit", &self.0.limit)
            .finish_non_exhaustive()
    }
}

/// Room taken by one append, given back when dropped.
pub(crate) struct Room {
    backlog: Backlog,
    load: Load,
}

impl Backlog {
    /// An empty one.
    pub(crate) fn new(log: Log, limit: Waiting) -> Self {
        Self(Arc::new(Inner {
            log,
            limit,
            load: Mutex::default(),
            gauges: OnceLock::new(),
        }))
    }

    /// Takes room for an append, or refuses it. What alone is larger than the bound is let in when nothing else is
    /// there, so that no append is refused for ever.
    pub(crate) fn enter(&self, records: &[NewRecord]) -> Result<Room, AppendError> {
        let own = Load {
            records: records.len(),
            bytes: records.iter().map(|record| record.payload.len()).sum(),
        };
        let Inner { log, limit, load, .. } = &*self.0;
        let mut load = load.lock().unwrap_or_else(PoisonError::into_inner);
        let after = Load {
            records: load.records + own.records,
            bytes: load.bytes + own.bytes,
        };
        if load.records > 0 && (after.records > limit.records || after.bytes > limit.bytes) {
            drop(load);
            metrics::counter!(REFUSED, "log" => log.name()).increment(1);
            return Err(AppendError::Busy);
        }
        *load = after;
        self.show(after);
        drop(load);
        Ok(Room {
            backlog: self.clone(),
            load: own,
        })
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "gauges are floating-point numbers; both counts stay far below 2^52"
    )]
    fn show(&self, load: Load) {
        let gauges = self.0.gauges.get_or_init(|| Gauges {
            records: metrics::gauge!(RECORDS, "log" => self.0.log.name()),
            bytes: metrics::gauge!(BYTES, "log" => self.0.log.name()),
        });
        gauges.records.set(load.records as f64);
        gauges.bytes.set(load.bytes as f64);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut load = self.backlog.0.load.lock().unwrap_or_else(PoisonError::into_inner);
        load.records -= self.load.records;
        load.bytes -= self.load.bytes;
        self.backlog.show(*load);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Subject;

    fn records(count: usize, bytes: usize) -> Vec<NewRecord> {
        let record = |number: usize| NewRecord {
            subject: Subject::new("ev.t1.x").unwrap(),
            message_id: number.to_string(),
            expect: None,
            payload: Bytes::from(vec![0; bytes]),
        };
        (0..count).map(record).collect()
    }

    fn backlog() -> Backlog {
        let limit = Waiting {
            records: 4,
            bytes: 100,
        };
        Backlog::new(Log::Events(0), limit)
    }

    #[test]
    fn records_and_bytes_are_bounded_and_given_back() {
        let backlog = backlog();
        let three = backlog.enter(&records(3, 10)).unwrap();
        assert!(matches!(backlog.enter(&records(2, 1)), Err(AppendError::Busy)));
        assert!(matches!(backlog.enter(&records(1, 71)), Err(AppendError::Busy)));
        let fourth = backlog.enter(&records(1, 70)).unwrap();
        drop(three);
        let more = backlog.enter(&records(3, 10)).unwrap();
        drop((fourth, more));
        assert!(backlog.enter(&records(4, 25)).is_ok());
    }

    #[test]
    fn what_is_larger_than_the_bound_goes_in_alone() {
        let backlog = backlog();
        let large = backlog.enter(&records(9, 900)).unwrap();
        assert!(matches!(backlog.enter(&records(1, 1)), Err(AppendError::Busy)));
        drop(large);
        assert!(backlog.enter(&records(1, 1)).is_ok());
    }
}
