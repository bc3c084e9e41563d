//! The three stages of the bulk fold: reading and decoding, folding, writing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

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
/// Records of a log that some members go past together.
pub(super) struct Stretch {
    pub(super) log: Log,
    /// Where they stand.
    pub(super) from: u64,
    /// The last record.
    pub(super) to: u64,
    /// Their numbers.
    pub(super) members: Vec<usize>,
}

/// What the run's row says of its progress when a stretch is begun.
pub(super) struct Told {
    pub(super) done: u64,
    pub(super) total: u64,
}

/// What a batch makes of the tables.
struct Written {
    from: u64,
    to: u64,
    /// When the last record was stored; none where all up to there are others' or gone by their age.
    stored_at: Option<Timestamp>,
    /// Records gone past: those read, and for one tenant those of others too.
    passed: u64,
    /// Per member that goes along.
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
        stretch: &Stretch,
        port: &Arc<dyn EventLog>,
        told: Told,
    ) -> Result<(), RebuildError> {
        let (to_fold, from_reader) = mpsc::channel(WAITING);
        let (to_write, from_fold) = mpsc::channel(WAITING);
        let reader = Reader {
            log: stretch.log,
            port: Arc::clone(port),
            tenant: self.tenant.clone(),
            most: batch_records(self.rebuild.read_models.database.kind),
            stop: self.stop.clone(),
        };
        // A task of its own, which decodes on another thread while this one folds; gone when this one is.
        let reading = reader.read(stretch.from, stretch.to, to_fold);
        let reading = AbortOnDropHandle::new(tokio::spawn(reading));
        let folding = self.fold_batches(stretch, from_reader, to_write);
        let writing = self.write_batches(stretch, from_fold, told);
        let (read, folded, written) = tokio::join!(reading, folding, writing);
        let read = read.unwrap_or_else(|_| Err(RebuildError::Interrupted));
        // What went wrong last in the row of stages made the others end.
        written.and(folded).and(read)
    }

    async fn fold_batches(
        &self,
        stretch: &Stretch,
        mut batches: mpsc::Receiver<Decoded>,
        out: mpsc::Sender<ToWriter>,
    ) -> Result<(), RebuildError> {
        let end = stretch.to;
        let mut stores = self.stores.lock().await;
        let mut parked = self.parked(stretch.log).await?;
        let (mut from, mut ended) = (stretch.from, false);
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
                passed: match self.tenant {
                    Some(_) => to - from,
                    None => chunk.len() as u64,
                },
                changes: Vec::new(),
            };
            self.fold_one(stretch, &chunk, &mut stores, &mut parked, &mut written)
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
        stretch: &Stretch,
        chunk: &Chunk,
        stores: &mut [Store],
        parked: &mut [ParkedTenants],
        written: &mut Written,
    ) -> Result<(), RebuildError> {
        let mut session = self.rebuild.read_models.database.begin_beside().await?;
        for number in stretch.members.iter().copied() {
            let (Some(member), Some(store), Some(parked)) = (
                self.members.get(number),
                stores.get_mut(number),
                parked.get_mut(number),
            ) else {
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
        stretch: &Stretch,
        mut batches: mpsc::Receiver<ToWriter>,
        told: Told,
    ) -> Result<(), RebuildError> {
        while let Some(message) = batches.recv().await {
            match message {
                ToWriter::Batch(batch) => self.write(stretch, &batch, &told).await?,
                ToWriter::Barrier(done) => {
                    // Nobody waits any more where the fold has failed.
                    let _gone = done.send(());
                }
            }
            self.going_on()?;
        }
        Ok(())
    }

    async fn write(&self, stretch: &Stretch, batch: &Written, told: &Told) -> Result<(), RebuildError> {
        let mut session = self.rebuild.read_models.database.begin().await?;
        for (number, changes, fresh) in &batch.changes {
            let Some(member) = self.members.get(*number) else {
                continue;
            };
            let place = member.place(stretch.log, Standing::Building);
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
        let passed = self.passed.fetch_add(batch.passed, Ordering::Relaxed) + batch.passed;
        let rate = self.pace().rate(Instant::now(), passed);
        let done = told.done + (batch.to - stretch.from);
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

    pub(in crate::rebuild) fn going_on(&self) -> Result<(), RebuildError> {
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
        let mut source = Source::open(self.log, self.port.as_ref(), (at, end), self.tenant.as_ref()).await?;
        while let Some(record) = source.next(&self.stop).await? {
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
        if self.keeps_all() && last < end {
            return Err(self.gap(last, end));
        }
        // An empty last batch moves the checkpoint past records of others, and past those that are gone by their age.
        let is_last = batch.len() == 0 || last == end;
        if out.send(batch).await.is_ok() && !is_last {
            let _ended = out.send(Decoded::default()).await;
        }
        Ok(())
    }

    /// In a log that keeps all its records none may be left out.
    fn check(&self, last: u64, found: u64) -> Result<(), RebuildError> {
        if found <= last || (self.keeps_all() && found != last + 1) {
            return Err(self.gap(last, found));
        }
        Ok(())
    }

    /// Whether every record of the log is to be seen.
    fn keeps_all(&self) -> bool {
        matches!(self.log, Log::Events(_)) && self.tenant.is_none()
    }

    fn gap(&self, last: u64, found: u64) -> RebuildError {
        RebuildError::Gap {
            log: self.log.name(),
            last,
            found,
        }
    }
}
