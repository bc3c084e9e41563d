//! One batch of one log into one projection: rows and checkpoint in one transaction.

use std::borrow::Cow;
use std::collections::BTreeMap;

use broker::Record;
use broker::layout::Log;
use domain::Timestamp;

use super::Control;
use crate::checkpoints::{Parked, Place};
use crate::engine::{Database, Session, copies, refuses_data};
use crate::incoming::{decode, tenant_of};
use crate::projection::{ApplyError, Incoming, Projection, position};
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

/// Applies records that follow the checkpoint `expected`, and moves it to the last of them.
///
/// Records of parked tenants are passed over; a record that cannot be read or applied parks its tenant.
pub(super) async fn apply(
    database: &Database,
    place: Place<'_>,
    expected: u64,
    records: &[Record],
    parked: &mut ParkedTenants,
    control: &Control,
) -> Result<(), BatchError> {
    match together(database, place, expected, records, parked, control).await {
        // The database refused some value without telling whose: one by one it shows.
        Err(BatchError::Database(error)) if records.len() > 1 && refuses_data(&error, database.kind) => {
            let mut expected = expected;
            for record in records {
                let record_alone = std::slice::from_ref(record);
                together(database, place, expected, record_alone, parked, control).await?;
                expected = record.sequence;
            }
            Ok(())
        }
        result => result,
    }
}

async fn together(
    database: &Database,
    place: Place<'_>,
    expected: u64,
    records: &[Record],
    parked: &mut ParkedTenants,
    control: &Control,
) -> Result<(), BatchError> {
    let Some(last) = records.last() else { return Ok(()) };
    let decoded = Decoded::read(place.log, records);
    let mut batch = Batch::of(place.projection, &decoded, parked, control);
    let mut session = database.begin().await?;
    let stored_at = Timestamp::from(last.stored_at);
    if !place
        .advance(&mut session, expected, last.sequence, stored_at)
        .await?
    {
        return Err(BatchError::Fenced);
    }
    let mut store = Store::default();
    let suffix = copies::suffix(place.generation);
    batch
        .fold(
            place.projection,
            &mut Rows::new(&mut store, &mut session, &suffix),
        )
        .await?;
    if let Err(error) = write(&mut session, &mut store, &suffix).await {
        let only = records.first().filter(|_| records.len() == 1);
        let Some(record) = only.filter(|_| refuses_data(&error, database.kind)) else {
            return Err(error.into());
        };
        drop(session);
        return park_alone(database, place, expected, record, error.to_string(), parked).await;
    }
    for parked in batch.fresh.values() {
        place.park(&mut session, parked).await?;
    }
    session.commit().await?;
    for parked in batch.fresh.values() {
        alarm(place, parked);
    }
    parked.append(&mut batch.fresh);
    Ok(())
}

/// Writes what a fold changed.
pub(super) async fn write(session: &mut Session, store: &mut Store, suffix: &str) -> Result<(), sqlx::Error> {
    for changes in store.take() {
        session.write(&changes, suffix, false).await?;
    }
    Ok(())
}

/// Goes past a record whose rows the database refuses, and parks its tenant.
async fn park_alone(
    database: &Database,
    place: Place<'_>,
    expected: u64,
    record: &Record,
    error: String,
    parked: &mut ParkedTenants,
) -> Result<(), BatchError> {
    let culprit = Parked {
        tenant: tenant_of(record),
        position: position(place.log, record.sequence),
        error,
    };
    let mut session = database.begin().await?;
    let stored_at = Timestamp::from(record.stored_at);
    if !place
        .advance(&mut session, expected, record.sequence, stored_at)
        .await?
    {
        return Err(BatchError::Fenced);
    }
    place.park(&mut session, &culprit).await?;
    session.commit().await?;
    alarm(place, &culprit);
    parked.insert(culprit.tenant.clone(), culprit);
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

    /// The last record.
    pub(crate) fn last(&self) -> Option<&Incoming> {
        self.incoming.last()
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
        decoded: &'b Decoded,
        parked: &ParkedTenants,
        control: &Control,
    ) -> Self {
        let mut fresh = ParkedTenants::new();
        let skipped = control.skipped(projection.name());
        if !projection.verbatim() {
            for poison in &decoded.poisons {
                if !parked.contains_key(&poison.tenant) && !skipped.contains(&poison.position) {
                    fresh
                        .entry(poison.tenant.clone())
                        .or_insert_with(|| poison.clone());
                }
            }
        }
        let mut batch = Self {
            incoming: Cow::Borrowed(&decoded.incoming),
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
