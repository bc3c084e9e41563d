//! Where the records of a rebuild come from: a whole log, or one tenant's part of it.

use broker::layout::Log;
use broker::{EventLog, Filter, Record};
use domain::TenantId;
use futures::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::rebuild::RebuildError;

/// Where records come from.
pub(super) enum Source<'s> {
    /// All of a log.
    All(broker::RecordStream),
    /// One tenant's, page by page: a stream of them would wait for ever after the last.
    Tenant {
        log: &'s dyn EventLog,
        filter: Filter,
        after: u64,
        page: std::vec::IntoIter<Record>,
    },
}

/// Records per page of one tenant's.
const PAGE: usize = 1_000;

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
        // Claims are under another root, which no projection of a tenant's rows folds.
        let root = log.subject_roots().first().copied().unwrap_or(">");
        let filter = Filter::new(format!("{root}.{tenant}.>"))
            .map_err(|error| RebuildError::Refused(error.to_string()))?;
        Ok(Self::Tenant {
            log: port,
            filter,
            after,
            page: Vec::new().into_iter(),
        })
    }

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
            Self::Tenant {
                log,
                filter,
                after,
                page,
            } => {
                if let Some(record) = page.next() {
                    return Ok(Some(record));
                }
                if stop.is_cancelled() {
                    return Err(RebuildError::Interrupted);
                }
                let records = log.read(*after, Some(filter), PAGE).await?;
                *after = records.last().map_or(*after, |last| last.sequence);
                *page = records.into_iter();
                Ok(page.next())
            }
        }
    }
}
