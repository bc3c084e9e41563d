//! Where the records of a rebuild come from: a stretch of a whole log, or one tenant's part of it.

use std::collections::VecDeque;
use std::time::Duration;

use broker::layout::Log;
use broker::{EventLog, Filter, Record};
use domain::TenantId;
use futures::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::rebuild::RebuildError;

/// Records per page of one tenant's.
const PAGE: usize = 1_000;

/// How long nothing comes before the log is asked whether there is anything.
const QUIET: Duration = Duration::from_millis(250);

/// Where records come from.
pub(super) enum Source<'s> {
    /// All of a log.
    All(Whole<'s>),
    /// One tenant's, page by page: a stream of them would wait for ever after the last.
    Tenant {
        log: &'s dyn EventLog,
        end: u64,
        /// One for each root under which the log files records.
        lanes: Vec<Lane>,
    },
}

/// All records of a stretch.
pub(super) struct Whole<'s> {
    log: &'s dyn EventLog,
    records: broker::RecordStream,
    last: u64,
    end: u64,
}

impl Whole<'_> {
    async fn next(&mut self, stop: &CancellationToken) -> Result<Option<Record>, RebuildError> {
        let log = self.log;
        while self.last < self.end {
            // Looked at first, since waiting costs more than a record does.
            let ready = self.records.next().now_or_never();
            let next = if let Some(next) = ready {
                next
            } else {
                tokio::select! {
                    () = stop.cancelled() => return Err(RebuildError::Interrupted),
                    next = self.records.next() => next,
                    () = tokio::time::sleep(QUIET) => {
                        if is_past(log, self.last, self.end).await? {
                            return Ok(None);
                        }
                        continue;
                    }
                }
            };
            let Some(record) = next.transpose()? else {
                return Ok(None);
            };
            self.last = record.sequence;
            return Ok(Some(record).filter(|record| record.sequence <= self.end));
        }
        Ok(None)
    }
}

/// Whether no record is left between two, which would be waited for in vain: some are gone by their age, and the end of a
/// log that was put back and restored may be a number that no record has.
async fn is_past(log: &dyn EventLog, last: u64, end: u64) -> Result<bool, RebuildError> {
    if log.at(end).await?.is_some() {
        return Ok(false);
    }
    let next = log.read(last, None, 1).await?;
    Ok(next.first().is_none_or(|record| record.sequence > end))
}

/// One tenant's records under one root.
pub(super) struct Lane {
    filter: Filter,
    after: u64,
    page: VecDeque<Record>,
    ended: bool,
}

impl Lane {
    /// Reads on where nothing is left of the page before.
    async fn fill(&mut self, log: &dyn EventLog) -> Result<(), RebuildError> {
        if self.page.is_empty() && !self.ended {
            self.page = log.read(self.after, Some(&self.filter), PAGE).await?.into();
            self.ended = self.page.is_empty();
            self.after = self.page.back().map_or(self.after, |last| last.sequence);
        }
        Ok(())
    }

    fn first(&self) -> u64 {
        self.page.front().map_or(u64::MAX, |record| record.sequence)
    }
}

impl<'s> Source<'s> {
    pub(super) async fn open(
        log: Log,
        port: &'s dyn EventLog,
        (after, end): (u64, u64),
        tenant: Option<&TenantId>,
    ) -> Result<Self, RebuildError> {
        let Some(tenant) = tenant else {
            return Ok(Self::All(Whole {
                log: port,
                records: port.follow(after, None).await?,
                last: after,
                end,
            }));
        };
        let lane = |root: &&str| {
            let filter = Filter::new(format!("{root}.{tenant}.>"))
                .map_err(|error| RebuildError::Refused(error.to_string()))?;
            Ok(Lane {
                filter,
                after,
                page: VecDeque::new(),
                ended: false,
            })
        };
        let lanes: Result<Vec<_>, RebuildError> = log.subject_roots().iter().map(lane).collect();
        Ok(Self::Tenant {
            log: port,
            end,
            lanes: lanes?,
        })
    }

    /// The next record up to the end; none after the last.
    pub(super) async fn next(&mut self, stop: &CancellationToken) -> Result<Option<Record>, RebuildError> {
        match self {
            Self::All(whole) => whole.next(stop).await,
            Self::Tenant { log, end, lanes } => {
                if stop.is_cancelled() {
                    return Err(RebuildError::Interrupted);
                }
                for lane in lanes.iter_mut() {
                    lane.fill(*log).await?;
                }
                let first = lanes.iter_mut().min_by_key(|lane| lane.first());
                let next = first.and_then(|lane| lane.page.pop_front());
                Ok(next.filter(|record| record.sequence <= *end))
            }
        }
    }
}
