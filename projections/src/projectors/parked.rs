//! Letting parked tenants go on: a program that can read what stopped them folds their records from there.

use broker::{EventLog, Filter, Record};

use super::Control;
use super::batch::{Batch, BatchError, ParkedTenants, write};
use super::chunk::Chunk;
use crate::checkpoints::{Parked, Place};
use crate::engine::{Database, Session, copies, refuses_data};
use crate::projection::position;
use crate::rows::{Rows, Store};

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
    control: &Control,
) -> Result<(), ResumeError> {
    for tenant in parked.clone().into_values() {
        let name = tenant.tenant.clone();
        match catch_up(database, place, log, checkpoint, tenant, control).await? {
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
    control: &Control,
) -> Result<Option<Parked>, ResumeError> {
    // Claims of unique values are under another root, which no projection folds.
    let root = place.log.subject_roots().first().copied().unwrap_or(">");
    let Ok(filter) = Filter::new(format!("{root}.{}.>", parked.tenant)) else {
        return Ok(Some(parked));
    };
    let mut most = PAGE;
    loop {
        let after = parked.position.sequence.saturating_sub(1);
        let mut records = log.read(after, Some(&filter), most).await?;
        records.retain(|record| record.sequence <= checkpoint);
        let mut session = held(database, place, checkpoint).await?;
        let Some(last) = records.last().map(|record| record.sequence) else {
            place.unpark(&mut session, &parked.tenant).await?;
            session.commit().await?;
            return Ok(None);
        };
        let poison = match page(place, &records, &mut session, control).await {
            Err(BatchError::Database(error)) if refuses_data(&error, database.kind) => {
                // The database refused some value without telling whose: with ever fewer records it shows.
                drop(session);
                if records.len() > 1 {
                    most = records.len() / 2;
                    continue;
                }
                session = held(database, place, checkpoint).await?;
                Some(Parked {
                    position: position(place.log, last),
                    error: error.to_string(),
                    ..parked.clone()
                })
            }
            folded => folded?,
        };
        most = (most * 2).min(PAGE);
        let stopped = poison.is_some();
        parked = poison.unwrap_or_else(|| Parked {
            position: position(place.log, last + 1),
            ..parked.clone()
        });
        place.park(&mut session, &parked).await?;
        session.commit().await?;
        if stopped {
            return Ok(Some(parked));
        }
    }
}

/// Begins a transaction in which the checkpoint stays where it is.
async fn held(database: &Database, place: Place<'_>, checkpoint: u64) -> Result<Session, ResumeError> {
    let mut session = database.begin().await?;
    if place.hold(&mut session, checkpoint).await? {
        Ok(session)
    } else {
        Err(BatchError::Fenced.into())
    }
}

/// Folds some records of one tenant, up to the one that stops it; answers what does, if something does.
async fn page(
    place: Place<'_>,
    records: &[Record],
    session: &mut Session,
    control: &Control,
) -> Result<Option<Parked>, BatchError> {
    let (chunk, nobody) = (Chunk::of(place.log, records), ParkedTenants::new());
    let mut batch = Batch::of(place.projection, &chunk, &nobody, control);
    let (mut store, suffix) = (Store::default(), copies::suffix(place.generation));
    batch
        .fold(place.projection, &mut Rows::new(&mut store, session, &suffix))
        .await?;
    write(session, &mut store, &suffix).await?;
    Ok(batch.fresh.into_values().next())
}
