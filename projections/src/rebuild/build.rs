//! The bulk fold: one pass over a log for all projections of a run, in three stages that work side by side: records are
//! read and decoded, folded in memory, and written, each batch in one transaction with the checkpoints.

mod source;
mod stages;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use broker::layout::Log;
use domain::TenantId;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use source::Source;
use stages::Told;

use super::job::Job;
use super::{Member, Plan, Rebuild, RebuildError};
use crate::engine::{Session, copies};
use crate::generations::Standing;
use crate::projectors::{Batch, BatchError, Chunk, Decoded};
use crate::rows::{Rows, Store};

/// A run's way through the logs.
pub(super) struct Build<'b> {
    rebuild: &'b Rebuild,
    job: &'b Job,
    members: &'b [Member],
    tenant: Option<TenantId>,
    stop: CancellationToken,
    /// The rows each member holds from batch to batch.
    stores: Mutex<Vec<Store>>,
    passed: AtomicU64,
    began: Instant,
}

impl<'b> Build<'b> {
    pub(super) fn new(
        rebuild: &'b Rebuild,
        job: &'b Job,
        plan: &Plan,
        members: &'b [Member],
        stop: &CancellationToken,
    ) -> Self {
        Self {
            rebuild,
            job,
            members,
            tenant: plan.tenant.clone(),
            stop: stop.clone(),
            stores: Mutex::new(members.iter().map(|_| Store::default()).collect()),
            passed: AtomicU64::new(0),
            began: Instant::now(),
        }
    }

    /// Records gone past by this process.
    pub(super) fn records(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Where the copies stand in a log; none where no member follows it.
    pub(super) async fn at(&self, log: Log) -> Result<Option<u64>, RebuildError> {
        let Some(member) = self.members.iter().find(|member| member.follows(log)) else {
            return Ok(None);
        };
        let mut session = self.rebuild.read_models.database.begin().await?;
        let at = member.place(log, Standing::Building).load(&mut session).await?;
        session.commit().await?;
        Ok(Some(at))
    }

    /// How many records the copies lack up to these ends.
    pub(super) async fn behind(&self, ends: &BTreeMap<Log, u64>) -> Result<u64, RebuildError> {
        let mut behind = 0;
        for (log, end) in ends {
            behind += self.at(*log).await?.map_or(0, |at| end.saturating_sub(at));
        }
        Ok(behind)
    }

    /// Folds every log up to its end.
    pub(super) async fn to(&self, ends: &BTreeMap<Log, u64>) -> Result<(), RebuildError> {
        let done = self.job.done().await?;
        let total = done + self.behind(ends).await?;
        let before = self.records();
        self.start_of_nothing(ends).await?;
        for (log, end) in ends {
            let Some(at) = self.at(*log).await? else { continue };
            let Some(port) = self.rebuild.port(*log) else {
                continue;
            };
            if at >= *end {
                continue;
            }
            self.load_places(*log).await?;
            let told = Told {
                done: done + (self.records() - before),
                total,
                passed_before: self.records(),
            };
            self.fold(*log, port, at, *end, told).await?;
        }
        Ok(())
    }

    /// Every member has its row of the checkpoint before the first batch.
    async fn load_places(&self, log: Log) -> Result<(), RebuildError> {
        let mut session = self.rebuild.read_models.database.begin().await?;
        for member in self.members.iter().filter(|member| member.follows(log)) {
            member.place(log, Standing::Building).load(&mut session).await?;
        }
        Ok(session.commit().await?)
    }

    /// Where nothing has been folded of any log, what is not held is not there.
    async fn start_of_nothing(&self, ends: &BTreeMap<Log, u64>) -> Result<(), RebuildError> {
        for log in ends.keys() {
            if self.at(*log).await?.is_some_and(|at| at > 0) {
                return Ok(());
            }
        }
        let mut stores = self.stores.lock().await;
        for store in stores.iter_mut() {
            *store = Store::of_nothing();
        }
        Ok(())
    }

    /// Folds the last records up to `end` within the transaction that switches.
    pub(super) async fn rest(
        &self,
        session: &mut Session,
        member: &Member,
        log: Log,
        end: u64,
    ) -> Result<(), RebuildError> {
        let Some(port) = self.rebuild.port(log).filter(|_| member.follows(log)) else {
            return Ok(());
        };
        let place = member.place(log, Standing::Building);
        let at = place.load(session).await?;
        if at >= end {
            return Ok(());
        }
        let mut decoded = Decoded::default();
        // What is gone by its age is not waited for.
        let gone = port.state().await?.first > end;
        let mut source = Source::open(log, port.as_ref(), at, self.tenant.as_ref()).await?;
        while !gone && let Some(record) = source.next(&self.stop).await? {
            if record.sequence > end {
                break;
            }
            decoded.add(log, &record);
            if record.sequence == end {
                break;
            }
        }
        let chunk = Chunk::from(decoded);
        let parked = place.parked(session).await?.into_iter();
        let parked = parked.map(|parked| (parked.tenant.clone(), parked)).collect();
        let suffix = copies::suffix(member.generation);
        let projection = member.projection.as_ref();
        let (mut store, control) = (Store::default(), &self.rebuild.control);
        let mut batch = Batch::of(projection, &chunk, &parked, control);
        let mut rows = Rows::new(&mut store, session, &suffix);
        batch.fold(projection, &mut rows).await.map_err(database)?;
        self.write_member(session, member, &store.take()).await?;
        for parked in batch.fresh.values() {
            place.park(session, parked).await?;
        }
        let stored_at = chunk.end().map(|(_, stored_at)| stored_at);
        if !place.advance(session, at, end, stored_at).await? {
            return Err(RebuildError::Taken);
        }
        Ok(())
    }
}

fn database(error: BatchError) -> RebuildError {
    match error {
        BatchError::Fenced => RebuildError::Taken,
        BatchError::Database(error) => error.into(),
    }
}
