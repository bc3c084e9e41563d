//! Letting parked tenants go on: a program that can read what stopped them folds their records from there.

use broker::{EventLog, Filter, Record};

use super::batch::{BatchError, ParkedTenants, fold};
use crate::checkpoints::{Parked, Place};
use crate::engine::Database;
use crate::incoming::{Decoded, decode};
use crate::projection::position;

const PAGE: usize = 500;

/// Why a parked tenant's records were not folded.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResumeError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Log(#[from] broker::ReadError),
}

impl From<sqlx::Error> for ResumeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Batch(error.into())
    }
}

/// Tries every tenant parked at this place once more, up to the checkpoint; who still cannot go on stays parked,
/// perhaps further on.
pub(super) async fn resume(
    database: &Database,
    place: Place<'_>,
    log: &dyn EventLog,
    checkpoint: u64,
    parked: &mut ParkedTenants,
) -> Result<(), ResumeError> {
    for tenant in parked.clone().into_values() {
        let name = tenant.tenant.clone();
        match catch_up(database, place, log, checkpoint, tenant).await? {
            None => {
                parked.remove(&name);
                tracing::info!(
                    projection = place.projection.name(),
                    tenant.id = name,
                    "A parked tenant's records have been applied."
                );
            }
            Some(still) => {
                parked.insert(name, still);
            }
        }
    }
    Ok(())
}

/// Folds one tenant's records; answers what stops it, if something does.
async fn catch_up(
    database: &Database,
    place: Place<'_>,
    log: &dyn EventLog,
    checkpoint: u64,
    mut parked: Parked,
) -> Result<Option<Parked>, ResumeError> {
    // Claims of unique values are under another root, which no projection folds.
    let root = place.log.subject_roots().first().copied().unwrap_or(">");
    let Ok(filter) = Filter::new(format!("{root}.{}.>", parked.tenant)) else {
        return Ok(Some(parked));
    };
    loop {
        let after = parked.position.sequence.saturating_sub(1);
        let mut records = log.read(after, Some(&filter), PAGE).await?;
        records.retain(|record| record.sequence <= checkpoint);
        let mut transaction = database.writer.begin_with(database.kind.begin_write()).await?;
        if !place.hold(&mut transaction, checkpoint).await? {
            return Err(BatchError::Fenced.into());
        }
        let Some(last) = records.last().map(|record| record.sequence) else {
            place.unpark(&mut transaction, &parked.tenant).await?;
            transaction.commit().await?;
            return Ok(None);
        };
        if let Some(poison) = page(database, place, &records, &mut transaction).await? {
            transaction.rollback().await?;
            return up_to(database, place, checkpoint, records, poison)
                .await
                .map(Some);
        }
        parked.position = position(place.log, last + 1);
        place.park(&mut transaction, &parked).await?;
        transaction.commit().await?;
    }
}

/// Folds the records before the poison, and parks the tenant there.
async fn up_to(
    database: &Database,
    place: Place<'_>,
    checkpoint: u64,
    mut records: Vec<Record>,
    mut poison: Parked,
) -> Result<Parked, ResumeError> {
    loop {
        records.retain(|record| record.sequence < poison.position.sequence);
        let mut transaction = database.writer.begin_with(database.kind.begin_write()).await?;
        if !place.hold(&mut transaction, checkpoint).await? {
            return Err(BatchError::Fenced.into());
        }
        if let Some(earlier) = page(database, place, &records, &mut transaction).await? {
            transaction.rollback().await?;
            poison = earlier;
        } else {
            place.park(&mut transaction, &poison).await?;
            transaction.commit().await?;
            return Ok(poison);
        }
    }
}

/// Folds some records of one tenant; answers what stops it, if something does.
async fn page(
    database: &Database,
    place: Place<'_>,
    records: &[Record],
    transaction: &mut sqlx::Transaction<'static, sqlx::Any>,
) -> Result<Option<Parked>, BatchError> {
    let mut incoming = Vec::with_capacity(records.len());
    for record in records {
        match decode(place.log, record) {
            Decoded::Fact(fact) => incoming.push(*fact),
            Decoded::Nothing => {}
            Decoded::Poison { tenant, reason } => {
                let at = position(place.log, record.sequence);
                return Ok(Some(Parked {
                    tenant,
                    position: at,
                    error: reason,
                }));
            }
        }
    }
    fold(database, place, &incoming, transaction).await
}
