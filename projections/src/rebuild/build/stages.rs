//! The three stages of the bulk fold: reading and decoding, folding, writing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker::EventLog;
use broker::layout::Log;
use domain::{TenantId, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::source::Source;
use super::{Build, database};
use crate::engine::{Kind, Session, copies};
use crate::generations::Standing;
use crate::projectors::{Batch, Chunk, Decoded, ParkedTenants};
use crate::rebuild::{Member, RebuildError};
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
/// How many records are decoded before others get their turn on the thread.
const TURN: usize = 256;

/// How much of the tables is kept in memory between batches, in bytes, over all projections.
const HELD: usize = 64 * 1024 * 1024;
/// What the run's row says of its progress when a log is begun.
pub(super) struct Told {
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) passed_before: u64,
}

/// What a batch makes of the tables.
struct Written {
    from: u64,
    to: u64,
    /// When the last record was stored; none where all up to there are others' or gone by their age.
    stored_at: Option<Timestamp>,
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

impl Build<'_> {
    pub(super) async fn fold(
        &self,
        log: Log,
        port: &Arc<dyn EventLog>,
        at: u64,
        end: u64,
        told: Told,
    ) -> Result<(), RebuildError> {
        let (to_fold, from_reader) = mpsc::channel(WAITING);
        let (to_write, from_fold) = mpsc::channel(WAITING);
        let reader = Reader {
            log,
            port: Arc::clone(port),
            tenant: self.tenant.clone(),
            most: batch_records(self.rebuild.read_models.database.kind),
            stop: self.stop.clone(),
        };
        // A task of its own, which decodes on another thread while this one folds; gone when this one is.
        let reading = AbortOnDropHandle::new(tokio::spawn(reader.read(at, end, to_fold)));
        let folding = self.fold_batches(log, at, end, from_reader, to_write);
        let writing = self.write_batches(log, from_fold, told);
        let (read, folded, written) = tokio::join!(reading, folding, writing);
        let read = read.unwrap_or_else(|_| Err(RebuildError::Interrupted));
        // What went wrong last in the row of stages made the others end.
        written.and(folded).and(read)
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
            let chunk = Chunk::from(decoded);
            ended |= chunk.len() == 0;
            let (to, stored_at) = match chunk.end() {
                Some((to, stored_at)) => (to, Some(stored_at)),
                None => (end, None),
            };
            let mut written = Written {
                from,
                to,
                stored_at,
                records: chunk.len() as u64,
                changes: Vec::new(),
            };
            self.fold_one(log, &chunk, &mut stores, &mut parked, &mut written)
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
        chunk: &Chunk,
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
            let mut batch = Batch::of(projection, chunk, parked, &self.rebuild.control);
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

    pub(super) async fn write_member(
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

    pub(super) fn going_on(&self) -> Result<(), RebuildError> {
        if self.stop.is_cancelled() {
            Err(RebuildError::Interrupted)
        } else {
            Ok(())
        }
    }
}

/// The first stage.
struct Reader {
    log: Log,
    port: Arc<dyn EventLog>,
    tenant: Option<TenantId>,
    /// Records per batch.
    most: usize,
    stop: CancellationToken,
}

impl Reader {
    /// Reads and decodes records up to the end.
    async fn read(self, at: u64, end: u64, out: mpsc::Sender<Decoded>) -> Result<(), RebuildError> {
        let (mut last, mut batch, mut bytes) = (at, Decoded::default(), 0);
        let mut source = self.open(at, end).await?;
        while let Some(source) = source.as_mut().filter(|_| last < end) {
            let next = source.next(&self.stop).await?;
            let Some(record) = next.filter(|record| record.sequence <= end) else {
                break;
            };
            self.check(last, record.sequence)?;
            last = record.sequence;
            bytes += record.payload.len();
            batch.add(self.log, &record);
            if batch.len() % TURN == 0 {
                tokio::task::yield_now().await;
            }
            if batch.len() >= self.most || bytes >= BATCH_BYTES {
                bytes = 0;
                if out.send(std::mem::take(&mut batch)).await.is_err() {
                    return Ok(());
                }
            }
        }
        // An empty last batch moves the checkpoint past records of others, and past those that are gone by their age.
        let _ended = out.send(batch).await;
        Ok(())
    }

    /// The records; none where all up to the end are gone by their age, for which one would wait for ever.
    async fn open(&self, at: u64, end: u64) -> Result<Option<Source<'_>>, RebuildError> {
        if self.port.state().await?.first > end {
            return Ok(None);
        }
        let source = Source::open(self.log, self.port.as_ref(), at, self.tenant.as_ref());
        source.await.map(Some)
    }

    /// In a log that keeps all its records none may be left out.
    fn check(&self, last: u64, found: u64) -> Result<(), RebuildError> {
        let whole = matches!(self.log, Log::Events(_)) && self.tenant.is_none();
        if found <= last || (whole && found != last + 1) {
            return Err(RebuildError::Gap {
                log: self.log.name(),
                last,
                found,
            });
        }
        Ok(())
    }
}
