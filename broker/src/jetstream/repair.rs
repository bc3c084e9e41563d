//! Repairing streams while nobody else uses them; takes an account that may purge.

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::layout::Log;
use crate::{AppendError, Engine, MAX_APPEND, NewRecord, OpenError, Repair, Subject};

use super::JetStream;

#[async_trait]
impl Repair for JetStream {
    /// A stream cannot be renamed, and what removes one is not for this program.
    async fn set_aside(&self, log: Log) -> Result<String, OpenError> {
        let stream = self.names.stream(log);
        Err(OpenError::Unfit {
            what: format!("the stream {stream} on {}", self.settings.address()),
            advice: format!(
                "NATS cannot rename it: keep a copy (`nats stream backup {stream} <folder>`), remove it (`nats stream rm \
                 {stream}`), have `tidings migrate` make an empty one, and run `tidings restore`"
            ),
        })
    }

    async fn begin_after(&self, log: Log, sequence: u64) -> Result<(), OpenError> {
        let state = self
            .log(log)
            .state()
            .await
            .map_err(|error| self.unrepaired(log, error))?;
        if state.last >= sequence {
            return Ok(());
        }
        if state.first > state.last {
            // Purging an empty stream up to a sequence makes it begin there.
            return self.purge(log, &json!({ "seq": sequence + 1 })).await;
        }
        let filler = self.fill(log, sequence - state.last).await?;
        let filter = self.names.log_space(log).wire(filler.as_str());
        self.purge(log, &json!({ "filter": filter })).await
    }
}

impl JetStream {
    async fn purge(&self, log: Log, what: &Value) -> Result<(), OpenError> {
        let request = format!("STREAM.PURGE.{}", self.names.stream(log));
        let purged = self.connection.ask::<Value>(&request, what).await;
        purged.map(drop).map_err(|error| self.unrepaired(log, error))
    }

    /// Appends so many records that nobody will read, and answers their subject.
    async fn fill(&self, log: Log, mut missing: u64) -> Result<Subject, OpenError> {
        let root = log.subject_roots().first().copied().unwrap_or_default();
        let subject = Subject::new(format!("{root}.restore.filler"));
        let subject = subject.map_err(|error| self.unrepaired(log, error))?;
        let unique = self.connection.unique();
        let port = self.log(log);
        while missing > 0 {
            let records = (1..=missing).take(MAX_APPEND).map(|number| NewRecord {
                subject: subject.clone(),
                message_id: format!("restore:{unique}:{missing}:{number}"),
                expect: None,
                payload: Bytes::from_static(b"-"),
            });
            let appended = port.append(records.collect()).await;
            let appended = appended.map_err(|error: AppendError| self.unrepaired(log, error))?;
            missing = missing.saturating_sub(appended.len() as u64);
        }
        Ok(subject)
    }

    fn unrepaired(&self, log: Log, cause: impl Into<crate::Cause>) -> OpenError {
        OpenError::Unreachable {
            what: format!("the stream {} on {}", self.names.stream(log), self.settings.address()),
            advice: "give `tidings restore` the NATS user that owns the streams: it must be allowed to append and to purge"
                .to_owned(),
            cause: cause.into(),
        }
    }
}
