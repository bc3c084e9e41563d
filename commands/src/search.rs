//! Looking in a log of messages for what an earlier try may have stored.
//!
//! The log itself recognises a repeated message id for two minutes at least. Later than that, a repetition is found
//! by reading what the tenant has published since the first try: there is no index by id, and repetitions are rare.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use broker::{Appended, EventLog, Filter, ReadError};
use domain::{TenantId, Timestamp};

/// How far the clocks of the log and of the gateways may be apart.
const SKEW: Duration = Duration::from_mins(5);

/// Messages read at a time.
const PAGE: usize = 500;

/// Where those of a tenant's messages stand that are in the log; only what was stored since a time is looked at.
pub(crate) async fn published(
    log: &dyn EventLog,
    tenant: &TenantId,
    mut message_ids: Vec<String>,
    since: Timestamp,
) -> Result<HashMap<String, Appended>, ReadError> {
    let mut found = HashMap::new();
    let Ok(filter) = Filter::new(format!("msg.{tenant}.>")) else {
        return Ok(found);
    };
    let mut after = last_before(log, since.saturating_sub(SKEW).into()).await?;
    while !message_ids.is_empty() {
        let records = log.read(after, Some(&filter), PAGE).await?;
        let full = records.len() == PAGE;
        for record in records {
            after = record.sequence;
            if let Some(index) = message_ids.iter().position(|id| *id == record.message_id) {
                confirm(log, record.sequence, &record.message_id).await?;
                let place = Appended {
                    sequence: record.sequence,
                    duplicate: true,
                };
                found.insert(message_ids.swap_remove(index), place);
            }
        }
        if !full {
            break;
        }
    }
    Ok(found)
}

/// Whether the log stands by a record that was found by reading, which takes the place of an acknowledgement then.
///
/// A log whose disk failed may show what it could not keep to those who read by subject; only what its leader has under
/// the record's own sequence is stored.
pub(crate) async fn confirm(log: &dyn EventLog, sequence: u64, message_id: &str) -> Result<(), ReadError> {
    let record = log.at(sequence).await?;
    if record.is_some_and(|record| record.message_id == message_id) {
        return Ok(());
    }
    let cause = format!("record {sequence} was read from the log, which has none of that number");
    Err(ReadError::Unavailable(cause.into()))
}

/// The last sequence stored before a time; 0, where there is none that is still kept. A log is ordered by time too.
async fn last_before(log: &dyn EventLog, time: SystemTime) -> Result<u64, ReadError> {
    let state = log.state().await?;
    let (mut low, mut high) = (state.first, state.last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let record = log.read(middle - 1, None, 1).await?.into_iter().next();
        match record {
            Some(record) if record.stored_at < time => low = record.sequence + 1,
            _ => high = middle,
        }
    }
    Ok(low.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use broker::embedded::Embedded;
    use broker::layout::{Layout, Log};
    use broker::{Engine, NewRecord, Subject};
    use ulid::Ulid;

    use super::*;

    #[tokio::test]
    async fn what_was_stored_before_a_time_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Embedded::open(folder.path(), Layout::default()).await.unwrap();
        let log = engine.log(Log::Messages(0));
        let tenant = TenantId::new(Ulid(1));
        assert_eq!(last_before(&*log, SystemTime::now()).await.unwrap(), 0);
        for number in 1..=20 {
            let record = NewRecord {
                subject: Subject::new(format!("msg.{tenant}.a")).unwrap(),
                message_id: format!("{tenant}:{number}"),
                expect: None,
                payload: bytes::Bytes::from_static(b"x"),
            };
            log.append(vec![record]).await.unwrap();
        }
        let records = log.read(0, None, 20).await.unwrap();
        for record in &records {
            let before = last_before(&*log, record.stored_at).await.unwrap();
            assert!(
                before < record.sequence,
                "{before} is not before {}",
                record.sequence
            );
            let earlier = records.iter().filter(|other| other.stored_at < record.stored_at);
            assert_eq!(before, earlier.count() as u64);
        }
        let ids = ["3", "17", "99"].map(|id| format!("{tenant}:{id}")).to_vec();
        let now = Timestamp::from(SystemTime::now());
        let found = published(&*log, &tenant, ids.clone(), now).await.unwrap();
        let mut places: Vec<u64> = found.values().map(|place| place.sequence).collect();
        places.sort_unstable();
        assert_eq!(places, [3, 17]);
        let later = now.saturating_add(2 * SKEW);
        assert!(published(&*log, &tenant, ids, later).await.unwrap().is_empty());
    }
}
