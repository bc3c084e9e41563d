//! Filling read models without a log, for measuring how they answer when they are large.

use std::sync::Arc;

use crate::models;
use crate::projection::{ApplyError, Incoming, Projection};
use crate::read_models::ReadModels;
use crate::rows::{Rows, Store};

/// Folds records that stand in no log into one projection's live tables, which must be empty of their tenants. Its
/// checkpoint stays where it is, so nothing that follows a log may run on the same database.
#[derive(Debug)]
pub struct Seed {
    read_models: ReadModels,
    projection: Arc<dyn Projection>,
    store: Store,
}

impl Seed {
    /// For the projection of this name; none if there is no such.
    pub fn new(read_models: &ReadModels, projection: &str) -> Option<Self> {
        let mut known = models::all().into_iter();
        Some(Self {
            read_models: read_models.clone(),
            projection: known.find(|known| known.name() == projection)?,
            store: Store::of_nothing(),
        })
    }

    /// Folds the next records and writes what they make, in one transaction.
    pub async fn add(&mut self, records: &[Incoming]) -> Result<(), ApplyError> {
        let mut session = self.read_models.database.begin().await?;
        let mut rows = Rows::new(&mut self.store, &mut session, "");
        self.projection.apply(records, &mut rows).await?;
        for changes in self.store.take() {
            session.write(&changes, "", false).await?;
        }
        Ok(session.commit().await?)
    }
}
