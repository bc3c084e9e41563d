//! The first two stages of the bulk fold, reading and decoding, and folding; the third is [`super::writer`].

use std::sync::Arc;

use broker::EventLog;
use broker::layout::Log;
use domain::TenantId;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Build;
use super::live_first::LiveFirst;
use super::source::Source;
use super::writer::{ToWriter, Told, Writer, Written};
use crate::engine::{Kind, copies, refuses_data};
use crate::generations::Standing;
use crate::projectors::{Batch, Chunk, Decoded, Fold, ParkedTenants};
use crate::rebuild::RebuildError;
use crate::rows::{Rows, Store};

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
    /// Whether live models that are late come first.
    pub(super) live_first: bool,
    /// Their numbers.
    pub(super) members: Vec<usize>,
}

impl Build<'_> {
    /// Takes the members along a stretch; answers how far they came.
    pub(super) async fn fold(
        &self,
        stretch: &Stretch,
        port: &Arc<dyn EventLog>,
        told: Told,
    ) -> Result<u64, RebuildError> {
        let (to_fold, from_reader) = mpsc::channel(WAITING);
        let (to_write, from_fold) = mpsc::channel(WAITING);
        let reader = Reader {
            log: stretch.log,
            port: Arc::clone(port),
            tenant: self.tenant.clone(),
            most: batch_records(self.rebuild.read_models.database.kind),
            live: stretch.live_first.then(|| {
                let database = self.rebuild.read_models.database.clone();
                LiveFirst::watch(database, stretch.log, Arc::clone(port))
            }),
            stop: self.stop.clone(),
        };
        let writer = Writer {
            log: stretch.log,
            from: stretch.from,
            told,
            read_models: self.rebuild.read_models.clone(),
            members: self.members.to_vec(),
            job: self.job.clone(),
            tally: Arc::clone(&self.tally),
            stop: self.stop.clone(),
        };
        // Tasks of their own, on other threads while this one folds; gone when this one is.
        let reading = reader.read(stretch.from, stretch.to, to_fold);
        let reading = AbortOnDropHandle::new(tokio::spawn(reading));
        let writing = AbortOnDropHandle::new(tokio::spawn(writer.write(from_fold)));
        let folding = self.fold_batches(stretch, from_reader, to_write);
        let (read, folded, written) = tokio::join!(reading, folding, writing);
        let read = read.unwrap_or_else(|_| Err(RebuildError::Interrupted));
        let written = written.unwrap_or_else(|_| Err(RebuildError::Interrupted));
        // What went wrong last in the row of stages made the others end.
        match written.and(folded).and(read) {
            Err(RebuildError::Database(error))
                if refuses_data(&error, self.rebuild.read_models.database.kind) =>
            {
                self.fold_carefully(stretch, port.as_ref()).await
            }
            result => result.map(|()| stretch.to),
        }
    }

    /// Folds the next batch the way live projectors do: a record whose rows the database refuses parks its tenant, and
    /// everything else goes on.
    async fn fold_carefully(&self, stretch: &Stretch, port: &dyn EventLog) -> Result<u64, RebuildError> {
        // What is held was never written.
        for store in self.stores.lock().await.iter_mut() {
            *store = Store::default();
        }
        let database = &self.rebuild.read_models.database;
        let mut members = stretch
            .members
            .iter()
            .filter_map(|number| self.members.get(*number));
        let Some(first) = members.next() else {
            return Ok(stretch.to);
        };
        // They go together, so that all stand where the first one does.
        let mut session = database.begin().await?;
        let at = first
            .place(stretch.log, Standing::Building)
            .load(&mut session)
            .await?;
        session.commit().await?;
        let chunk = self.next_batch(stretch, port, at).await?;
        let parked = self.parked(stretch.log).await?;
        for (number, mut parked) in parked.into_iter().enumerate() {
            let Some(member) = self
                .members
                .get(number)
                .filter(|_| stretch.members.contains(&number))
            else {
                continue;
            };
            let fold = Fold {
                database,
                place: member.place(stretch.log, Standing::Building),
                control: &self.rebuild.control,
            };
            fold.apply(at, std::slice::from_ref(&chunk), &mut parked)
                .await
                .map_err(super::database)?;
        }
        self.tally.pass(chunk.len() as u64);
        Ok(chunk.end().map_or(at, |(end, _)| end))
    }

    /// The batch that follows a sequence, as the first stage cuts it.
    async fn next_batch(
        &self,
        stretch: &Stretch,
        port: &dyn EventLog,
        at: u64,
    ) -> Result<Chunk, RebuildError> {
        let most = batch_records(self.rebuild.read_models.database.kind);
        let mut source = Source::open(stretch.log, port, (at, stretch.to), self.tenant.as_ref()).await?;
        let (mut batch, mut bytes) = (Decoded::default(), 0);
        while batch.len() < most
            && bytes < BATCH_BYTES
            && let Some(record) = source.next(&self.stop).await?
        {
            bytes += record.payload.len();
            batch.add(stretch.log, &record);
        }
        self.going_on()?;
        Ok(batch.into())
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
                .map_err(super::database)?;
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
    live: Option<LiveFirst>,
    stop: CancellationToken,
}

impl Reader {
    /// Reads and decodes records up to the end.
    async fn read(self, at: u64, end: u64, out: mpsc::Sender<Decoded>) -> Result<(), RebuildError> {
        let (mut last, mut batch, mut bytes) = (at, Decoded::default(), 0);
        let mut source = Source::open(self.log, self.port.as_ref(), (at, end), self.tenant.as_ref()).await?;
        let (mut began, mut most) = (Instant::now(), self.most);
        while let Some(record) = source.next(&self.stop).await? {
            self.check(last, record.sequence)?;
            last = record.sequence;
            bytes += record.payload.len();
            batch.add(self.log, &record);
            if batch.len() % TURN == 0 {
                tokio::task::yield_now().await;
            }
            if batch.len() >= most || bytes >= BATCH_BYTES {
                bytes = 0;
                // Waits where the next stages are slower.
                if out.send(std::mem::take(&mut batch)).await.is_err() {
                    return Ok(());
                }
                if let Some(live) = &self.live {
                    tokio::select! {
                        () = self.stop.cancelled() => {}
                        () = live.come_up(began.elapsed()) => {}
                    }
                    most = live.step(self.most);
                }
                began = Instant::now();
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
