//! The bulk fold: one pass over a log for all projections of a run, in three stages that work side by side: records are
//! read and decoded, folded in memory, and written, each batch in one transaction with the checkpoints.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use broker::layout::Log;
use broker::{EventLog, Filter, Record};
use domain::{TenantId, Timestamp};
use futures::StreamExt;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::job::Job;
use super::{Member, Plan, Rebuild, RebuildError};
use crate::engine::{Kind, Session, copies};
use crate::generations::Standing;
use crate::projectors::{Batch, BatchError, Decoded, ParkedTenants};
use crate::rows::{Changes, Rows, Store};

/// Records per transaction: on SQLite the live projectors wait while one is written.
const fn batch_records(kind: Kind) -> usize {
    match kind {
        Kind::Postgres => 8_192,
        Kind::Sqlite => 2_048,
    }
}
/// A batch also ends with this many bytes of records.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Batches on their way from one stage to the next.
const WAITING: usize = 1;
/// How much of the tables is kept in memory between batches, in bytes, over all projections.
const HELD: usize = 64 * 1024 * 1024;
/// How many records are decoded before others get their turn on the thread.
const TURN: usize = 256;

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

/// What a batch makes of the tables.
struct Written {
    from: u64,
    to: u64,
    stored_at: Timestamp,
    records: u64,
    /// Per member that follows the log.
    changes: Vec<(usize, Vec<Changes>, ParkedTenants)>,
}

/// A message to the stage that writes.
enum ToWriter {
    Batch(Box<Written>),
    /// Answer when everything before has been committed.
    Barrier(tokio::sync::oneshot::Sender<()>),
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
        for (log, end) in ends {
            let Some(at) = self.at(*log).await? else { continue };
            let Some(port) = self.rebuild.port(*log) else {
                continue;
            };
            if at >= *end {
                continue;
            }
            self.load_places(*log).await?;
            if at == 0 {
                self.start_of_nothing().await;
            }
            let told = Told {
                done: done + (self.records() - before),
                total,
                passed_before: self.records(),
            };
            self.fold(*log, port.as_ref(), at, *end, told).await?;
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

    /// While nothing has been folded, what is not held is not there.
    async fn start_of_nothing(&self) {
        if self.records() == 0 {
            let mut stores = self.stores.lock().await;
            for store in stores.iter_mut() {
                *store = Store::of_nothing();
            }
        }
    }

    async fn fold(
        &self,
        log: Log,
        port: &dyn EventLog,
        at: u64,
        end: u64,
        told: Told,
    ) -> Result<(), RebuildError> {
        let (to_fold, from_reader) = mpsc::channel(WAITING);
        let (to_write, from_fold) = mpsc::channel(WAITING);
        let reading = self.read(log, port, at, end, to_fold);
        let folding = self.fold_batches(log, at, end, from_reader, to_write);
        let writing = self.write_batches(log, from_fold, told);
        let (read, folded, written) = tokio::join!(reading, folding, writing);
        // What went wrong last in the row of stages made the others end.
        written.and(folded).and(read)
    }

    /// Reads and decodes records up to the end.
    async fn read(
        &self,
        log: Log,
        port: &dyn EventLog,
        at: u64,
        end: u64,
        out: mpsc::Sender<Decoded>,
    ) -> Result<(), RebuildError> {
        let most = batch_records(self.rebuild.read_models.database.kind);
        let whole = matches!(log, Log::Events(_)) && self.tenant.is_none();
        let mut source = Source::open(log, port, at, self.tenant.as_ref()).await?;
        let (mut last, mut batch, mut bytes) = (at, Decoded::default(), 0);
        while last < end {
            let Some(record) = source
                .next(&self.stop)
                .await?
                .filter(|record| record.sequence <= end)
            else {
                break;
            };
            if record.sequence <= last || (whole && record.sequence != last + 1) {
                return Err(RebuildError::Gap {
                    log: log.name(),
                    last,
                    found: record.sequence,
                });
            }
            last = record.sequence;
            bytes += record.payload.len();
            batch.add(log, &record);
            if batch.len() % TURN == 0 {
                tokio::task::yield_now().await;
            }
            if batch.len() >= most || bytes >= BATCH_BYTES {
                bytes = 0;
                if out.send(std::mem::take(&mut batch)).await.is_err() {
                    return Ok(());
                }
            }
        }
        // An empty last batch moves the checkpoint past records of others.
        let _ended = out.send(batch).await;
        Ok(())
    }

    async fn fold_batches(
        &self,
        log: Log,
        at: u64,
        end: u64,
        mut batches: mpsc::Receiver<Decoded>,
        out: mpsc::Sender<ToWriter>,
    ) -> Result<(), RebuildError> {
        let mut stores = self.stores.lock().await;
        let mut parked = self.parked(log).await?;
        let (mut from, mut ended) = (at, false);
        while let Some(decoded) = batches.recv().await {
            let last = decoded
                .last()
                .map(|last| (last.position.sequence, last.stored_at));
            ended |= decoded.len() == 0;
            let (to, stored_at) = match last {
                Some(last) => last,
                None => (end, Timestamp::from(std::time::SystemTime::now())),
            };
            let mut written = Written {
                from,
                to,
                stored_at,
                records: decoded.len() as u64,
                changes: Vec::new(),
            };
            self.fold_one(log, &decoded, &mut stores, &mut parked, &mut written)
                .await?;
            from = to;
            if out.send(ToWriter::Batch(Box::new(written))).await.is_err() {
                return Ok(());
            }
            if stores.iter().map(Store::held).sum::<usize>() > HELD {
                let (done, wait) = tokio::sync::oneshot::channel();
                if out.send(ToWriter::Barrier(done)).await.is_err() || wait.await.is_err() {
                    return Ok(());
                }
                stores.iter_mut().for_each(Store::forget);
            }
        }
        // Ended by the stop: the next run goes on from the checkpoint.
        if ended || from >= end {
            Ok(())
        } else {
            self.going_on()
        }
    }

    async fn fold_one(
        &self,
        log: Log,
        decoded: &Decoded,
        stores: &mut [Store],
        parked: &mut [ParkedTenants],
        written: &mut Written,
    ) -> Result<(), RebuildError> {
        let mut session = self.rebuild.read_models.database.begin_beside().await?;
        for (number, member) in self
            .members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.follows(log))
        {
            let (Some(store), Some(parked)) = (stores.get_mut(number), parked.get_mut(number)) else {
                continue;
            };
            let suffix = copies::suffix(member.generation);
            let projection = member.projection.as_ref();
            let mut batch = Batch::of(projection, decoded, parked, &self.rebuild.control);
            batch
                .fold(projection, &mut Rows::new(store, &mut session, &suffix))
                .await
                .map_err(database)?;
            parked.extend(batch.fresh.clone());
            written.changes.push((number, store.take(), batch.fresh));
            tokio::task::yield_now().await;
        }
        Ok(session.commit().await?)
    }

    /// The tenants parked so far, per member.
    async fn parked(&self, log: Log) -> Result<Vec<ParkedTenants>, RebuildError> {
        let mut session = self.rebuild.read_models.database.begin_beside().await?;
        let mut all = Vec::with_capacity(self.members.len());
        for member in self.members {
            let place = member.place(log, Standing::Building);
            let parked = place.parked(&mut session).await?.into_iter();
            all.push(parked.map(|parked| (parked.tenant.clone(), parked)).collect());
        }
        Ok(all)
    }

    async fn write_batches(
        &self,
        log: Log,
        mut batches: mpsc::Receiver<ToWriter>,
        told: Told,
    ) -> Result<(), RebuildError> {
        while let Some(message) = batches.recv().await {
            match message {
                ToWriter::Batch(batch) => self.write(log, &batch, &told).await?,
                ToWriter::Barrier(done) => {
                    // Nobody waits any more where the fold has failed.
                    let _gone = done.send(());
                }
            }
            self.going_on()?;
        }
        Ok(())
    }

    async fn write(&self, log: Log, batch: &Written, told: &Told) -> Result<(), RebuildError> {
        let mut session = self.rebuild.read_models.database.begin().await?;
        for (number, changes, fresh) in &batch.changes {
            let Some(member) = self.members.get(*number) else {
                continue;
            };
            let place = member.place(log, Standing::Building);
            if !place
                .advance(&mut session, batch.from, batch.to, batch.stored_at)
                .await?
            {
                return Err(RebuildError::Taken);
            }
            self.write_member(&mut session, member, changes).await?;
            for parked in fresh.values() {
                place.park(&mut session, parked).await?;
            }
        }
        let passed = self.passed.fetch_add(batch.records, Ordering::Relaxed) + batch.records;
        let done = told.done + (passed - told.passed_before);
        let milliseconds = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rate = (passed * 1_000).checked_div(milliseconds).unwrap_or_default();
        self.job
            .tell(&mut session, done, told.total.max(done), rate)
            .await?;
        Ok(session.commit().await?)
    }

    async fn write_member(
        &self,
        session: &mut Session,
        member: &Member,
        changes: &[Changes],
    ) -> Result<(), RebuildError> {
        let suffix = copies::suffix(member.generation);
        for changes in changes {
            let copying = copies::takes_copies(session, changes.table, member.generation).await?;
            session.write(changes, &suffix, copying).await?;
        }
        Ok(())
    }

    fn going_on(&self) -> Result<(), RebuildError> {
        if self.stop.is_cancelled() {
            Err(RebuildError::Interrupted)
        } else {
            Ok(())
        }
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
        let mut source = Source::open(log, port.as_ref(), at, self.tenant.as_ref()).await?;
        let mut decoded = Decoded::default();
        while let Some(record) = source.next(&self.stop).await? {
            if record.sequence > end {
                break;
            }
            decoded.add(log, &record);
            if record.sequence == end {
                break;
            }
        }
        let parked = place.parked(session).await?.into_iter();
        let parked = parked.map(|parked| (parked.tenant.clone(), parked)).collect();
        let suffix = copies::suffix(member.generation);
        let projection = member.projection.as_ref();
        let (mut store, control) = (Store::default(), &self.rebuild.control);
        let mut batch = Batch::of(projection, &decoded, &parked, control);
        let mut rows = Rows::new(&mut store, session, &suffix);
        batch.fold(projection, &mut rows).await.map_err(database)?;
        self.write_member(session, member, &store.take()).await?;
        for parked in batch.fresh.values() {
            place.park(session, parked).await?;
        }
        let now = Timestamp::from(std::time::SystemTime::now());
        if !place.advance(session, at, end, now).await? {
            return Err(RebuildError::Taken);
        }
        Ok(())
    }
}

/// What the run's row says of its progress when a log is begun.
struct Told {
    done: u64,
    total: u64,
    passed_before: u64,
}

fn database(error: BatchError) -> RebuildError {
    match error {
        BatchError::Fenced => RebuildError::Taken,
        BatchError::Database(error) => error.into(),
    }
}

/// Where records come from.
enum Source<'s> {
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
    async fn open(
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

    async fn next(&mut self, stop: &CancellationToken) -> Result<Option<Record>, RebuildError> {
        match self {
            Self::All(records) => {
                // Looked at first, since waiting costs more than a record does.
                let next = match futures::FutureExt::now_or_never(records.next()) {
                    Some(next) => next,
                    None => tokio::select! {
                        () = stop.cancelled() => return Err(RebuildError::Interrupted),
                        next = records.next() => next,
                    },
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
