//! One batch of one log into one projection: rows and checkpoint in one transaction.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use broker::Record;
use broker::layout::Log;
use domain::Timestamp;

use super::Control;
use super::chunk::Chunk;
use crate::checkpoints::{Parked, Place};
use crate::engine::{Database, Session, copies, refuses_data};
use crate::incoming::decode;
use crate::projection::{ApplyError, Incoming, Projection};
use crate::rows::{Rows, Store};

/// Why a batch was not applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BatchError {
    /// Another projector has moved the checkpoint: this one must look where it stands now.
    #[error("another projector has overtaken this one")]
    Fenced,
    /// The database failed; trying again may do.
    #[error("the read database is unavailable: {0}")]
    Database(#[from] sqlx::Error),
}

/// The tenants that a projection has parked in one log, and what keeps each.
pub(crate) type ParkedTenants = BTreeMap<String, Parked>;

/// Where a projection folds into, and what it heeds.
#[derive(Clone, Copy)]
pub(crate) struct Fold<'f> {
    pub(crate) database: &'f Database,
    pub(crate) place: Place<'f>,
    pub(crate) control: &'f Control,
}

impl Fold<'_> {
    /// Applies records that follow the checkpoint `expected`, and moves it to the last of them.
    ///
    /// Records of parked tenants are passed over; a record that cannot be read or applied parks its tenant.
    pub(crate) async fn apply(
        self,
        expected: u64,
        chunks: &[Chunk],
        parked: &mut ParkedTenants,
    ) -> Result<(), BatchError> {
        let records: usize = chunks.iter().map(Chunk::len).sum();
        match self.together(expected, chunks, parked).await {
            // The database refused some value without telling whose: one by one it shows.
            Err(BatchError::Database(error)) if records > 1 && refuses_data(&error, self.database.kind) => {
                let mut expected = expected;
                for single in chunks.iter().flat_map(Chunk::singles) {
                    let end = single.end().map_or(expected, |(end, _)| end);
                    self.together(expected, &[single], parked).await?;
                    expected = end;
                }
                Ok(())
            }
            result => result,
        }
    }

    async fn together(
        self,
        expected: u64,
        chunks: &[Chunk],
        parked: &mut ParkedTenants,
    ) -> Result<(), BatchError> {
        let Some((end, stored_at)) = chunks.iter().rev().find_map(Chunk::end) else {
            return Ok(());
        };
        let mut session = self.begin(expected, end, stored_at).await?;
        let (mut store, suffix) = (Store::default(), copies::suffix(self.place.generation));
        let mut fresh = ParkedTenants::new();
        for chunk in chunks {
            let mut stopped = parked.clone();
            stopped.extend(fresh.clone());
            let mut batch = Batch::of(self.place.projection, chunk, &stopped, self.control);
            let mut rows = Rows::new(&mut store, &mut session, &suffix);
            batch.fold(self.place.projection, &mut rows).await?;
            fresh.append(&mut batch.fresh);
            if let Err(error) = write(&mut session, &mut store, &suffix).await {
                let single = chunks.len() == 1 && chunk.len() == 1;
                if !(single && refuses_data(&error, self.database.kind)) {
                    return Err(error.into());
                }
                // Goes past a record whose rows the database refuses.
                drop(session);
                session = self.begin(expected, end, stored_at).await?;
                fresh.extend(culprit(chunk, &error));
            }
        }
        for parked in fresh.values() {
            self.place.park(&mut session, parked).await?;
        }
        session.commit().await?;
        for parked in fresh.values() {
            alarm(self.place, parked);
        }
        parked.append(&mut fresh);
        Ok(())
    }

    /// Begins the transaction of a batch by moving the checkpoint.
    async fn begin(self, expected: u64, end: u64, stored_at: Timestamp) -> Result<Session, BatchError> {
        let mut session = self.database.begin().await?;
        if self
            .place
            .advance(&mut session, expected, end, Some(stored_at))
            .await?
        {
            Ok(session)
        } else {
            Err(BatchError::Fenced)
        }
    }
}

/// The tenant of a chunk of one record, parked there.
fn culprit(chunk: &Chunk, error: &sqlx::Error) -> Option<(String, Parked)> {
    let (decoded, within) = chunk.parts();
    let record = decoded.get(within.start)?;
    let parked = Parked {
        tenant: record.tenant.clone(),
        position: record.position,
        error: error.to_string(),
    };
    Some((record.tenant.clone(), parked))
}

/// Writes what a fold changed.
pub(super) async fn write(session: &mut Session, store: &mut Store, suffix: &str) -> Result<(), sqlx::Error> {
    for changes in store.take() {
        session.write(&changes, suffix, false).await?;
    }
    Ok(())
}

fn alarm(place: Place<'_>, parked: &Parked) {
    tracing::error!(
        projection = place.projection.name(),
        tenant.id = parked.tenant,
        position = %parked.position,
        error = parked.error,
        "A record cannot be applied; the read model leaves its tenant where it is.",
    );
}

/// Records as they were read, and what keeps those from being folded that cannot be read.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    incoming: Vec<Incoming>,
    poisons: Vec<Parked>,
}

impl Decoded {
    /// Reads records of a log.
    pub(crate) fn read(log: Log, records: &[Record]) -> Self {
        let mut decoded = Self::default();
        for record in records {
            decoded.add(log, record);
        }
        decoded
    }

    /// Reads one more record.
    pub(crate) fn add(&mut self, log: Log, record: &Record) {
        let (incoming, poison) = decode(log, record);
        self.poisons.extend(poison.map(|error| Parked {
            tenant: incoming.tenant.clone(),
            position: incoming.position,
            error,
        }));
        self.incoming.push(incoming);
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.incoming.len()
    }

    /// One of the records.
    pub(super) fn get(&self, place: usize) -> Option<&Incoming> {
        self.incoming.get(place)
    }

    /// How long some of the records are together.
    pub(super) fn bytes(&self, within: Range<usize>) -> usize {
        let records = self.incoming.get(within).unwrap_or_default().iter();
        records.map(|incoming| incoming.payload.len()).sum()
    }

    /// The sequences of some of the records.
    pub(super) fn sequences(&self, within: Range<usize>) -> impl Iterator<Item = u64> {
        let records = self.incoming.get(within).unwrap_or_default().iter();
        records.map(|incoming| incoming.position.sequence)
    }
}

/// What one projection folds of some records, and the tenants that one of them parks.
pub(crate) struct Batch<'b> {
    incoming: Cow<'b, [Incoming]>,
    pub(crate) fresh: ParkedTenants,
}

impl<'b> Batch<'b> {
    /// Leaves out the records of parked tenants, those that operators have decided to pass over, and those that cannot be read together with what follows of their
    /// tenants.
    pub(crate) fn of(
        projection: &dyn Projection,
        chunk: &'b Chunk,
        parked: &ParkedTenants,
        control: &Control,
    ) -> Self {
        let (decoded, within) = chunk.parts();
        let incoming = decoded.incoming.get(within).unwrap_or_default();
        let (first, last) = (incoming.first(), incoming.last());
        let within = |poison: &&Parked| {
            first.is_some_and(|first| first.position <= poison.position)
                && last.is_some_and(|last| last.position >= poison.position)
        };
        let mut fresh = ParkedTenants::new();
        let skipped = control.skipped(projection.name());
        if !projection.verbatim() {
            for poison in decoded.poisons.iter().filter(within) {
                if !parked.contains_key(&poison.tenant) && !skipped.contains(&poison.position) {
                    fresh
                        .entry(poison.tenant.clone())
                        .or_insert_with(|| poison.clone());
                }
            }
        }
        let mut batch = Self {
            incoming: Cow::Borrowed(incoming),
            fresh,
        };
        if !(parked.is_empty() && batch.fresh.is_empty() && skipped.is_empty()) {
            batch
                .incoming
                .to_mut()
                .retain(|record| !parked.contains_key(&record.tenant) && !skipped.contains(&record.position));
            for poison in batch.fresh.values() {
                leave_out(&mut batch.incoming, poison);
            }
        }
        batch
    }

    /// Folds the records in memory; a tenant whose record cannot be applied is left as it was before that record.
    pub(crate) async fn fold(
        &mut self,
        projection: &dyn Projection,
        rows: &mut Rows<'_>,
    ) -> Result<(), BatchError> {
        while let Some(poison) = fold(projection, &self.incoming, rows).await? {
            rows.undo();
            leave_out(&mut self.incoming, &poison);
            self.fresh.insert(poison.tenant.clone(), poison);
        }
        Ok(())
    }
}

/// Leaves out a tenant's records from the one on that parks it.
fn leave_out(incoming: &mut Cow<'_, [Incoming]>, poison: &Parked) {
    incoming
        .to_mut()
        .retain(|other| other.tenant != poison.tenant || other.position.sequence < poison.position.sequence);
}

/// Lets the projection apply records; answers the tenant that one of them parks.
async fn fold(
    projection: &dyn Projection,
    incoming: &[Incoming],
    rows: &mut Rows<'_>,
) -> Result<Option<Parked>, BatchError> {
    if incoming.is_empty() {
        return Ok(None);
    }
    let (at, error) = match projection.apply(incoming, rows).await {
        Ok(()) => return Ok(None),
        Err(ApplyError::Poison { position, reason }) => (position, reason),
        Err(ApplyError::Database(error)) => return Err(error.into()),
    };
    let Some(culprit) = incoming.iter().find(|incoming| incoming.position == at) else {
        let name = projection.name();
        let error = format!("{name} blames record {at}, which is not in the batch");
        return Err(sqlx::Error::Protocol(error).into());
    };
    Ok(Some(Parked {
        tenant: culprit.tenant.clone(),
        position: at,
        error,
    }))
}
