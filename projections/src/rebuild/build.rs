//! The bulk fold: one pass over a log for all projections of a run, in three stages that work side by side: records are
//! read and decoded, folded in memory, and written, each batch in one transaction with the checkpoints.

mod live_first;
mod pace;
mod source;
mod stages;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use broker::EventLog;
use broker::layout::Log;
use domain::TenantId;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use pace::Tally;
use source::Source;
use stages::Stretch;
use writer::{Told, write_member};

use super::job::Job;
use super::{Member, Plan, Rebuild, RebuildError};
use crate::engine::{Session, copies};
use crate::generations::{self, Standing};
use crate::projectors::{Batch, BatchError, Chunk, Decoded};
use crate::rows::{Rows, Store};

/// Up to where a member goes, per log.
pub(super) type Ends = BTreeMap<Log, u64>;

/// A run's way through the logs.
pub(super) struct Build<'b> {
    rebuild: &'b Rebuild,
    job: &'b Job,
    members: &'b [Member],
    tenant: Option<TenantId>,
    stop: CancellationToken,
    /// The rows each member holds from batch to batch.
    stores: Mutex<Vec<Store>>,
    begun: AtomicBool,
    tally: Arc<Tally>,
}

/// Where a member stands in a log, and up to where it goes.
struct Way {
    member: usize,
    at: u64,
    end: u64,
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
            begun: AtomicBool::new(false),
            tally: Arc::default(),
        }
    }

    /// Waits until it is to end.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Records gone past by this process.
    pub(super) fn records(&self) -> u64 {
        self.tally.passed()
    }

    /// Where a member stands in each log it follows.
    pub(super) async fn at(&self, member: &Member) -> Result<Ends, RebuildError> {
        let mut session = self.rebuild.read_models.database.begin().await?;
        let mut at = Ends::new();
        for (log, _) in self.rebuild.logs.iter().filter(|(log, _)| member.follows(*log)) {
            at.insert(
                *log,
                member.place(*log, Standing::Building).load(&mut session).await?,
            );
        }
        session.commit().await?;
        Ok(at)
    }

    /// How many records the copies lack up to these ends, of which there is one set for each member.
    pub(super) async fn behind(&self, goals: &[Ends]) -> Result<u64, RebuildError> {
        let mut behind = 0;
        for (log, _) in &self.rebuild.logs {
            let ways = self.ways(*log, goals).await?;
            let from = ways.iter().map(|way| way.at).min().unwrap_or_default();
            let end = ways.iter().map(|way| way.end).max().unwrap_or_default();
            behind += end - from;
        }
        Ok(behind)
    }

    /// The members that are not yet where they go in a log.
    async fn ways(&self, log: Log, goals: &[Ends]) -> Result<Vec<Way>, RebuildError> {
        let mut session = self.rebuild.read_models.database.begin().await?;
        let mut ways = Vec::new();
        for (member, (known, ends)) in self.members.iter().zip(goals).enumerate() {
            let Some(end) = ends.get(&log).copied().filter(|_| known.follows(log)) else {
                continue;
            };
            // Every member has its row of the checkpoint before the first batch.
            let at = known.place(log, Standing::Building).load(&mut session).await?;
            if at < end {
                ways.push(Way { member, at, end });
            }
        }
        session.commit().await?;
        Ok(ways)
    }

    /// Folds for one member alone.
    pub(super) async fn one_to(&self, number: usize, ends: Ends) -> Result<(), RebuildError> {
        let mut goals = vec![Ends::new(); self.members.len()];
        if let Some(goal) = goals.get_mut(number) {
            *goal = ends;
        }
        self.to(&goals).await
    }

    /// Folds for each member up to its ends, and lets live models that are late come up meanwhile. For the long way: a
    /// copy that catches up holds nothing back, or a log that grows would run away from it.
    pub(super) async fn patiently_to(&self, goals: &[Ends]) -> Result<(), RebuildError> {
        self.go(goals, true).await
    }

    /// Folds for each member up to its ends.
    pub(super) async fn to(&self, goals: &[Ends]) -> Result<(), RebuildError> {
        self.go(goals, false).await
    }

    /// Members that stand at the same place go together; one that stands further on joins when the others have come
    /// there.
    async fn go(&self, goals: &[Ends], live_first: bool) -> Result<(), RebuildError> {
        let mut done = self.job.done().await?;
        let total = done + self.behind(goals).await?;
        self.start_of_nothing().await?;
        self.tally.start();
        for (log, port) in &self.rebuild.logs {
            loop {
                let ways = self.ways(*log, goals).await?;
                let Some(from) = ways.iter().map(|way| way.at).min() else {
                    break;
                };
                let stations = ways.iter().flat_map(|way| [way.at, way.end]);
                let Some(to) = stations.filter(|station| *station > from).min() else {
                    break;
                };
                let together = ways.iter().filter(|way| way.at == from);
                let stretch = Stretch {
                    log: *log,
                    from,
                    to,
                    live_first,
                    members: together.map(|way| way.member).collect(),
                };
                self.nothing_lost(&stretch, port.as_ref()).await?;
                done += self.fold(&stretch, port, Told { done, total }).await? - from;
            }
        }
        Ok(())
    }

    /// A log that drops its records by age may have dropped some that the live model has folded and the copy has not.
    async fn nothing_lost(&self, stretch: &Stretch, port: &dyn EventLog) -> Result<(), RebuildError> {
        let first = port.state().await?.first;
        if first <= stretch.from + 1 {
            return Ok(());
        }
        let mut session = self.rebuild.read_models.database.begin_beside().await?;
        for member in stretch
            .members
            .iter()
            .filter_map(|number| self.members.get(*number))
        {
            let projection = member.projection.as_ref();
            let live = generations::live_sequences(&mut session, projection).await?;
            if live.get(&stretch.log).is_some_and(|live| *live > stretch.from) {
                return Err(RebuildError::Aged {
                    projection: projection.name().to_owned(),
                    log: stretch.log.name(),
                    from: stretch.from + 1,
                    first,
                });
            }
        }
        Ok(())
    }

    /// Where nothing has been folded of any log, what is not held is not there. That is found out once, before anything
    /// is folded.
    async fn start_of_nothing(&self) -> Result<(), RebuildError> {
        if self.begun.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let mut stores = self.stores.lock().await;
        for (member, store) in self.members.iter().zip(stores.iter_mut()) {
            if self.at(member).await?.values().all(|at| *at == 0) {
                *store = Store::of_nothing();
            }
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
        let mut source = Source::open(log, port.as_ref(), (at, end), self.tenant.as_ref()).await?;
        while let Some(record) = source.next(&self.stop).await? {
            decoded.add(log, &record);
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
        write_member(session, member, &store.take()).await?;
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
