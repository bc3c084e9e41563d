//! How far a recovery is, kept across restarts, and which process works at it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker::{Expect, KeyValue, Subject};
use domain::Timestamp;
use domain::recovery::Progress;
use serde::{Deserialize, Serialize};

use super::known::Running;
use super::range::Range;
use crate::cursor::CursorError;
use crate::work::subject;

/// How often a process that waits says that it is there.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);
/// After how long without that another goes on with its recoveries.
const SILENCE: Duration = Duration::from_secs(5);

/// What the bucket keeps, in JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    progress: Progress,
    /// When the next delivery may be due, where there is a rate.
    next_due: Option<Timestamp>,
    /// Who works at it; none: nobody just now.
    holder: Option<String>,
    seen_at: Timestamp,
}

/// A recovery's place in the log of messages.
#[derive(Debug)]
pub(super) struct Place {
    bucket: Arc<dyn KeyValue>,
    key: Subject,
    revision: Option<u64>,
    kept: Kept,
}

impl Place {
    /// Where the recovery is; none before its first step, and after its end.
    pub(super) async fn load(
        bucket: Arc<dyn KeyValue>,
        running: &Running,
    ) -> Result<Option<Self>, CursorError> {
        let key = key(running);
        let Some(entry) = bucket.get(&key).await? else {
            return Ok(None);
        };
        let kept = serde_json::from_slice(&entry.value);
        let kept = kept.map_err(|_| CursorError::Malformed(key.clone()))?;
        Ok(Some(Self {
            bucket,
            key,
            revision: Some(entry.revision),
            kept,
        }))
    }

    /// The beginning; nothing is stored yet.
    pub(super) fn begin(bucket: Arc<dyn KeyValue>, running: &Running, range: Range) -> Self {
        let now = Timestamp::from(SystemTime::now());
        let progress = Progress {
            from: range.after,
            at: range.after,
            to: range.to,
            began_at: now,
            told_at: now,
            ..Progress::default()
        };
        Self {
            bucket,
            key: key(running),
            revision: None,
            kept: Kept {
                progress,
                next_due: None,
                holder: None,
                seen_at: now,
            },
        }
    }

    pub(super) fn is_held_by_another(&self, holder: &str) -> bool {
        let silence = self.kept.seen_at.saturating_add(SILENCE);
        let other = self.kept.holder.as_deref().is_some_and(|by| by != holder);
        other && silence > SystemTime::now().into()
    }

    /// How far it is, as of now.
    pub(super) fn progress(&self) -> Progress {
        Progress {
            told_at: SystemTime::now().into(),
            ..self.kept.progress
        }
    }

    pub(super) fn progress_mut(&mut self) -> &mut Progress {
        &mut self.kept.progress
    }

    /// When the next delivery may be due, where there is a rate.
    pub(super) fn next_due(&mut self) -> &mut Option<Timestamp> {
        &mut self.kept.next_due
    }

    /// Whether it is time to say again that this process is there.
    pub(super) fn is_silent(&self) -> bool {
        self.kept.seen_at.saturating_add(HEARTBEAT) <= SystemTime::now().into()
    }

    /// Keeps it, with who works at it. After an error load it anew.
    pub(super) async fn save(&mut self, holder: &str) -> Result<(), CursorError> {
        self.kept.holder = Some(holder.to_owned());
        self.store().await
    }

    /// Keeps it, for whoever works at it next.
    pub(super) async fn release(mut self) -> Result<(), CursorError> {
        self.kept.holder = None;
        self.store().await
    }

    async fn store(&mut self) -> Result<(), CursorError> {
        self.kept.seen_at = SystemTime::now().into();
        let expect = self.revision.map_or(Expect::Absent, Expect::Revision);
        let value = serde_json::to_vec(&self.kept).unwrap_or_default();
        self.revision = Some(self.bucket.put(&self.key, value.into(), expect, None).await?);
        Ok(())
    }

    /// Forgets it, of a recovery that has ended.
    pub(super) async fn remove(self) -> Result<(), CursorError> {
        Ok(self.bucket.delete(&self.key, Expect::Anything).await?)
    }
}

fn key(running: &Running) -> Subject {
    subject(format!("recovery.{}.{}", running.tenant, running.id))
}
