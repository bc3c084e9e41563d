//! Due times spread at a rate, over page after page and across restarts.
//!
//! What a page takes is reserved, durably, before the page is worked at. A crash in the middle may leave some of it
//! unused: then the last come a little later than they might, and never two where one was allowed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker::{Expect, KeyValue, Subject};
use domain::Timestamp;
use domain::endpoint::Rate;
use serde::{Deserialize, Serialize};

use crate::cursor::CursorError;

/// What is spread, and how far that is.
#[derive(Debug)]
pub(crate) struct Pace {
    bucket: Arc<dyn KeyValue>,
    key: Subject,
    rate: Rate,
    kept: Kept,
    revision: Option<u64>,
    /// How many due times were given out.
    given: u64,
}

/// What outlives the process, in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The request it is for, by its place in the log.
    request: u64,
    /// When its first is due.
    begins: Timestamp,
    /// How many due times are taken.
    reserved: u64,
}

impl Pace {
    /// The pace of a request: where an earlier process left it, or from now on. A key holds the pace of one request.
    pub(crate) async fn load(
        bucket: Arc<dyn KeyValue>,
        key: Subject,
        request: u64,
        rate: Rate,
    ) -> Result<Self, CursorError> {
        let entry = bucket.get(&key).await?;
        let revision = entry.as_ref().map(|entry| entry.revision);
        let kept: Option<Kept> = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        let kept = kept.filter(|kept| kept.request == request).unwrap_or(Kept {
            request,
            begins: SystemTime::now().into(),
            reserved: 0,
        });
        Ok(Self {
            bucket,
            key,
            rate,
            given: kept.reserved,
            kept,
            revision,
        })
    }

    /// Takes so many due times, which [`Pace::next`] gives out.
    pub(crate) async fn reserve(&mut self, count: usize) -> Result<(), CursorError> {
        if count == 0 {
            return Ok(());
        }
        self.kept.reserved = self.given + u64::try_from(count).unwrap_or(u64::MAX);
        let value = serde_json::to_vec(&self.kept).unwrap_or_default();
        // Of two processes that carry out one request, the slower is told, and begins again from where the other is.
        let expect = self.revision.map_or(Expect::Absent, Expect::Revision);
        self.revision = Some(self.bucket.put(&self.key, value.into(), expect, None).await?);
        Ok(())
    }

    /// The next due time.
    pub(crate) fn next(&mut self) -> SystemTime {
        let after = Duration::from_millis(self.given.saturating_mul(1_000) / u64::from(self.rate.get()));
        self.given += 1;
        SystemTime::from(self.kept.begins) + after
    }
}
