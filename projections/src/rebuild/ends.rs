//! Where the logs stood at a past moment.

use std::collections::BTreeMap;

use broker::layout::Log;
use broker::{EventLog, ReadError};
use domain::Timestamp;

use super::{RebuildError, Until};
use crate::projection::source_of;
use crate::projectors::Logs;

/// The last record of each log that belongs to the copy.
pub(super) async fn of(logs: &Logs, until: Until) -> Result<BTreeMap<Log, u64>, RebuildError> {
    let mut ends = BTreeMap::new();
    let mut time = match until {
        Until::Time(time) => Some(time),
        Until::Position(_) => None,
    };
    if let Until::Position(position) = until {
        let named = logs
            .iter()
            .find(|(log, _)| source_of(*log) == (position.source, position.shard));
        let Some((log, port)) = named else {
            return Err(RebuildError::Refused(format!("there is no log of {position}")));
        };
        let record = port.read(position.sequence.saturating_sub(1), None, 1).await?;
        let Some(record) = record
            .first()
            .filter(|record| record.sequence == position.sequence)
        else {
            return Err(RebuildError::Refused(format!("there is no record {position}")));
        };
        ends.insert(*log, position.sequence);
        time = Some(Timestamp::from(record.stored_at));
    }
    for (log, port) in logs {
        if let (false, Some(time)) = (ends.contains_key(log), time) {
            ends.insert(*log, stored_by(port.as_ref(), time).await?);
        }
    }
    Ok(ends)
}

/// The last record stored by a time; 0 where there is none. Halves the log until it is found, since times do not
/// decrease along it.
async fn stored_by(log: &dyn EventLog, time: Timestamp) -> Result<u64, ReadError> {
    let bounds = log.state().await?;
    let (mut low, mut high) = (bounds.first.saturating_sub(1), bounds.last);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        let found = log.read(middle.saturating_sub(1), None, 1).await?;
        match found.first() {
            Some(record) if Timestamp::from(record.stored_at) <= time => low = record.sequence.max(middle),
            _ => high = middle - 1,
        }
    }
    Ok(low)
}
