//! How far a follower has come along its log, kept across restarts.
//!
//! Advancing states the revision last seen, so of two processes that follow the same log with one cursor the
//! slower is told, and starts again from where the other is.

use std::sync::Arc;
use std::time::Duration;

use broker::layout::Log;
use broker::{Expect, KeyValue, KvError, LogState, Subject};

use crate::work::subject;

/// How long whoever was overtaken leaves the other ahead before following again, in case that one ends.
pub(crate) const OVERTAKEN_WAIT: Duration = Duration::from_secs(1);

/// Why a cursor could not be read or moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CursorError {
    /// The bucket failed.
    #[error("the cursor could not be read or moved")]
    Bucket(#[source] KvError),
    /// Another process moved the cursor: it does the same work, and is ahead.
    #[error("another process moved the cursor")]
    Overtaken,
    /// The value is no sequence.
    #[error("the cursor {0} does not hold a sequence; put it right or remove it")]
    Malformed(Subject),
    /// The log was made anew, or lost its end: what is appended to it now would be passed over.
    #[error(
        "the log ends at {end}, but the cursor {key} stands at {at}: it has gone backwards, and must be restored, or \
         the cursor removed to begin anew"
    )]
    Backwards {
        /// The cursor's key in its bucket.
        key: Subject,
        /// Where it stands.
        at: u64,
        /// Where the log ends.
        end: u64,
    },
}

impl From<KvError> for CursorError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Conflict(_) => Self::Overtaken,
            error => Self::Bucket(error),
        }
    }
}

/// A place in a log, for one purpose.
#[derive(Debug)]
pub(crate) struct Cursor {
    bucket: Arc<dyn KeyValue>,
    key: Subject,
    at: u64,
    revision: Option<u64>,
}

impl Cursor {
    /// Reads where `purpose` stands in `log`: at the beginning, if it never moved.
    pub(crate) async fn load(
        bucket: Arc<dyn KeyValue>,
        purpose: &str,
        log: Log,
    ) -> Result<Self, CursorError> {
        let key = subject(format!("{purpose}.{log}"));
        let Some(entry) = bucket.get(&key).await? else {
            let (at, revision) = (0, None);
            return Ok(Self {
                bucket,
                key,
                at,
                revision,
            });
        };
        let text = std::str::from_utf8(&entry.value).ok();
        let at = text
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| CursorError::Malformed(key.clone()))?;
        Ok(Self {
            bucket,
            key,
            at,
            revision: Some(entry.revision),
        })
    }

    /// The last sequence dealt with; 0 before the first.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Compares the cursor with its log before that is followed; answers how many records retention has removed that
    /// were not dealt with.
    pub(crate) fn check(&self, log: LogState) -> Result<u64, CursorError> {
        if log.last < self.at {
            return Err(CursorError::Backwards {
                key: self.key.clone(),
                at: self.at,
                end: log.last,
            });
        }
        Ok(log.first.saturating_sub(self.at + 1))
    }

    /// Everything up to this sequence is dealt with. After an error load the cursor anew.
    pub(crate) async fn advance(&mut self, to: u64) -> Result<(), CursorError> {
        let expect = self.revision.map_or(Expect::Absent, Expect::Revision);
        let value = to.to_string().into();
        self.revision = Some(self.bucket.put(&self.key, value, expect, None).await?);
        self.at = to;
        Ok(())
    }
}
