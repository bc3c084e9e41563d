//! The watch: compares every log of events with its fence, for as long as the process runs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::layout::{Log, Shard};
use crate::{Cause, Engine, EventLog, Finding, Severity};

use super::{Distrust, Fence, Known, Trust, digest};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(2);

/// Where fences are kept: outside of the log's disk.
#[async_trait]
pub trait Fences: Send + Sync + std::fmt::Debug {
    /// What is known of a log of events.
    async fn load(&self, shard: Shard) -> Result<Fence, Cause>;

    /// Remembers when a log was made of which that was not known; what another process has written meanwhile stands.
    async fn adopt(&self, shard: Shard, created: SystemTime) -> Result<(), Cause>;

    /// Remembers a record that the log does not have as it was, so that every process looks for it.
    async fn suspect(&self, shard: Shard, known: Known) -> Result<(), Cause>;
}

/// The watch of one process.
#[derive(Debug)]
pub struct Watch {
    trust: Trust,
    logs: Vec<(Shard, Arc<dyn EventLog>)>,
    /// None in a process without a database, which then goes by what it has seen itself.
    fences: Option<Arc<dyn Fences>>,
}

impl Watch {
    /// Over the logs of an engine, which must be the one beneath a [`super::Trusted`].
    pub fn new(trust: Trust, engine: &dyn Engine, fences: Option<Arc<dyn Fences>>) -> Self {
        let logs = (0..engine.layout().shards).map(|shard| (shard, engine.log(Log::Events(shard))));
        Self {
            trust,
            logs: logs.collect(),
            fences,
        }
    }

    /// Looks at every log once, before anything is written: what is wrong, if anything is.
    ///
    /// # Errors
    /// A log or the fences could not be read: nothing is known, and nothing must be written.
    pub async fn look(&self) -> Result<Option<Arc<Distrust>>, Cause> {
        for (shard, log) in &self.logs {
            if let Some(why) = self.look_at(*shard, log.as_ref()).await? {
                return Ok(Some(self.trust.lose(why)));
            }
        }
        Ok(None)
    }

    /// Looks every two seconds, and whenever something odd was seen, until trust is lost or `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.trust.0.odd.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            // A log or a database that is away is told by whoever needs it.
            match stop.run_until_cancelled(self.look()).await {
                None | Some(Ok(Some(_))) => return,
                Some(Ok(None)) => {}
                Some(Err(error)) => {
                    tracing::debug!(%error, "The logs could not be compared with their fences.");
                }
            }
        }
    }

    /// What `tidings doctor` tells of the logs: nothing is changed, nor remembered.
    pub async fn examine(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (shard, log) in &self.logs {
            let (severity, message) = match self.examine_one(*shard, log.as_ref()).await {
                Ok(found) => found,
                Err(error) => (
                    Severity::Failure,
                    format!("The log cannot be compared with what is known of it: {error}."),
                ),
            };
            let subject = Log::Events(*shard).name();
            findings.push(Finding {
                severity,
                subject,
                message,
            });
        }
        findings
    }

    async fn examine_one(&self, shard: Shard, log: &dyn EventLog) -> Result<(Severity, String), Cause> {
        let fence = match &self.fences {
            Some(fences) => fences.load(shard).await?,
            None => Fence::default(),
        };
        let records = fence.end;
        Ok(match self.trust.compare(shard, log, &fence).await? {
            Some(why) => (Severity::Failure, format!("{why} {}", Distrust::ADVICE)),
            None if fence == Fence::default() => (
                Severity::Warning,
                "The read database knows nothing of this log yet, so there is nothing to compare it with."
                    .to_owned(),
            ),
            None => (
                Severity::Fine,
                format!(
                    "The log is the one known, and goes at least as far as the archive: {records} records."
                ),
            ),
        })
    }

    async fn look_at(&self, shard: Shard, log: &dyn EventLog) -> Result<Option<Distrust>, Cause> {
        // Read before the log is, so that the log must be as far.
        let fence = match &self.fences {
            Some(fences) => fences.load(shard).await?,
            None => Fence::default(),
        };
        let wrong = self.trust.compare(shard, log, &fence).await?;
        let seen = self.trust.seen(shard);
        match (&self.fences, seen.created) {
            _ if wrong.is_some() => {}
            (Some(fences), Some(created)) if fence.created.is_none() => {
                tracing::info!(
                    log = Log::Events(shard).name(),
                    records = seen.end,
                    "The read database does not know this log yet: it is taken as it is."
                );
                // A process that may not write to the database leaves it to one that may.
                if let Err(error) = fences.adopt(shard, created).await {
                    tracing::debug!(%error, "When the log was made could not be noted.");
                }
            }
            (Some(_), _) => {}
            (None, _) => self.remember_last(shard, log, seen.end).await?,
        }
        Ok(wrong)
    }

    /// In a process without a database, the record that the log ends with is what the next look must find.
    async fn remember_last(&self, shard: Shard, log: &dyn EventLog, end: u64) -> Result<(), Cause> {
        if end > 0
            && let Some(record) = log.at(end).await?
        {
            let last = Some((end, digest(&record)));
            let fence = Fence {
                created: None,
                end,
                last,
                suspect: None,
            };
            self.trust.keep(shard, &fence);
        }
        Ok(())
    }
}
