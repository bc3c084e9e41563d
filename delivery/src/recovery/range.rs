//! Which part of a log a time is.

use std::time::{Duration, SystemTime};

use broker::{EventLog, ReadError};

use super::known::Running;
use super::{Recoveries, RecoveryError};

/// A message says when it was accepted, and the log when it stored it: they differ by no more, whatever the clocks of two
/// machines say.
pub(super) const MARGIN: Duration = Duration::from_mins(5);

/// A part of the log of messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    /// It begins after this sequence.
    pub(super) after: u64,
    /// It ends with this one.
    pub(super) to: u64,
}

impl Recoveries {
    /// Where the messages of a recovery's time are: those that its plan covers lie between, and others too.
    pub(super) async fn range(&self, running: &Running) -> Result<Range, RecoveryError> {
        let since = before(running.plan.since.into());
        let after = stored_before(self.messages.as_ref(), since).await?;
        let to = self.messages.state().await?.last.max(after);
        Ok(Range { after, to })
    }
}

/// A time a margin earlier.
pub(super) fn before(time: SystemTime) -> SystemTime {
    time.checked_sub(MARGIN).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The last sequence of a log that was stored before a time, found by halving; 0 or what retention has removed, if none.
pub(super) async fn stored_before(log: &dyn EventLog, time: SystemTime) -> Result<u64, ReadError> {
    let state = log.state().await?;
    let (mut low, mut high) = (state.first.saturating_sub(1), state.last);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        let found = log.read(middle - 1, None, 1).await?;
        if found.first().is_some_and(|record| record.stored_at < time) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Ok(low)
}
