//! Where the records of a rebuild come from: a whole log, or one tenant's part of it.

use std::collections::VecDeque;

use broker::layout::Log;
use broker::{EventLog, Filter, Record};
use domain::TenantId;
use futures::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::rebuild::RebuildError;

/// Records per page of one tenant's.
const PAGE: usize = 1_000;

/// Where records come from.
pub(super) enum Source<'s> {
    /// All of a log.
    All(broker::RecordStream),
    /// One tenant's, page by page: a stream of them would wait for ever after the last.
    Tenant {
        log: &'s dyn EventLog,
        /// One for each root under which the log files records.
        lanes: Vec<Lane>,
    },
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
        after: u64,
        tenant: Option<&TenantId>,
    ) -> Result<Self, RebuildError> {
        let Some(tenant) = tenant else {
            return Ok(Self::All(port.follow(after, None).await?));
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
            lanes: lanes?,
        })
    }

    /// The next record; none after a tenant's last.
    pub(super) async fn next(&mut self, stop: &CancellationToken) -> Result<Option<Record>, RebuildError> {
        match self {
            Self::All(records) => {
                // Looked at first, since waiting costs more than a record does.
                let ready = records.next().now_or_never();
                let next = if let Some(next) = ready {
                    next
                } else {
                    tokio::select! {
                        () = stop.cancelled() => return Err(RebuildError::Interrupted),
                        next = records.next() => next,
                    }
                };
                next.transpose().map_err(RebuildError::from)
            }
            Self::Tenant { log, lanes } => {
                if stop.is_cancelled() {
                    return Err(RebuildError::Interrupted);
                }
                for lane in lanes.iter_mut() {
                    lane.fill(*log).await?;
                }
                let first = lanes.iter_mut().min_by_key(|lane| lane.first());
                Ok(first.and_then(|lane| lane.page.pop_front()))
            }
        }
    }
}
