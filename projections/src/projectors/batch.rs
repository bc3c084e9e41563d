//! One batch of one log into one projection: rows and checkpoint in one transaction.

use std::collections::BTreeMap;

use broker::Record;
use domain::Timestamp;
use sqlx::{Any, Transaction};

use crate::checkpoints::{Parked, Place};
use crate::engine::{Database, refuses_data};
use crate::incoming::{Decoded, decode, tenant_of};
use crate::projection::{ApplyError, Incoming, position};
use crate::sql::Writer;

/// Why a batch was not applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
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
) -> Result<(), BatchError> {
    match together(database, place, expected, records, parked).await {
        // The database refused some value without telling whose: one by one it shows.
        Err(BatchError::Database(error)) if records.len() > 1 && refuses_data(&error, database.kind) => {
            let mut expected = expected;
            for record in records {
                together(database, place, expected, std::slice::from_ref(record), parked).await?;
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
) -> Result<(), BatchError> {
    let Some(last) = records.last() else { return Ok(()) };
    let (mut incoming, mut fresh) = read(place, records, parked);
    loop {
        let mut transaction = database.writer.begin_with(database.kind.begin_write()).await?;
        let stored_at = Timestamp::from(last.stored_at);
        if !place
            .advance(&mut transaction, expected, last.sequence, stored_at)
            .await?
        {
            return Err(BatchError::Fenced);
        }
        match fold(database, place, &incoming, &mut transaction).await? {
            None => {
                for parked in fresh.values() {
                    place.park(&mut transaction, parked).await?;
                }
                transaction.commit().await?;
                for parked in fresh.values() {
                    alarm(place, parked);
                }
                parked.append(&mut fresh);
                return Ok(());
            }
            Some(poison) => {
                transaction.rollback().await?;
                incoming.retain(|other| {
                    other.tenant != poison.tenant || other.position.sequence < poison.position.sequence
                });
                fresh.insert(poison.tenant.clone(), poison);
            }
        }
    }
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

/// The records to apply, and the tenants that one of them parks because it cannot be read.
fn read(place: Place<'_>, records: &[Record], parked: &ParkedTenants) -> (Vec<Incoming>, ParkedTenants) {
    let (mut incoming, mut fresh) = (Vec::with_capacity(records.len()), ParkedTenants::new());
    for record in records {
        let tenant = tenant_of(record);
        if parked.contains_key(&tenant) || fresh.contains_key(&tenant) {
            continue;
        }
        match decode(place.log, record) {
            Decoded::Fact(fact) => incoming.push(*fact),
            Decoded::Nothing => {}
            Decoded::Poison { tenant, reason } => {
                let at = position(place.log, record.sequence);
                fresh.insert(
                    tenant.clone(),
                    Parked {
                        tenant,
                        position: at,
                        error: reason,
                    },
                );
            }
        }
    }
    (incoming, fresh)
}

/// Lets the projection apply the batch; answers the tenant that one of its records parks.
pub(super) async fn fold(
    database: &Database,
    place: Place<'_>,
    incoming: &[Incoming],
    transaction: &mut Transaction<'static, Any>,
) -> Result<Option<Parked>, BatchError> {
    if incoming.is_empty() {
        return Ok(None);
    }
    let mut writer = Writer::new(transaction, "");
    let (at, error) = match place.projection.apply(incoming, &mut writer).await {
        Ok(()) => return Ok(None),
        Err(ApplyError::Poison { position, reason }) => (position, reason),
        Err(ApplyError::Database(error)) => match incoming {
            [only] if refuses_data(&error, database.kind) => (only.position, error.to_string()),
            _ => return Err(error.into()),
        },
    };
    let Some(culprit) = incoming.iter().find(|incoming| incoming.position == at) else {
        let error = format!(
            "{} blames record {at}, which is not in the batch",
            place.projection.name()
        );
        return Err(sqlx::Error::Protocol(error).into());
    };
    Ok(Some(Parked {
        tenant: culprit.tenant.clone(),
        position: at,
        error,
    }))
}
