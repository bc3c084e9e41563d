//! What comparisons with a fold of the log pass over: rows that one side may lack because they were removed, by a setting
//! and the clock.

use std::collections::BTreeMap;

use crate::engine::Session;
use crate::models::{forgetting, retention};
use crate::projection::Projection;
use crate::table::{Row, Table};

/// Of which time on rows are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cuts {
    /// Entries of the audit trail decided since, in milliseconds, of each tenant whose entries perish.
    audit: BTreeMap<String, i64>,
    /// Deliveries that came to their end since, and attempts made since, in milliseconds.
    deliveries: Option<i64>,
}

impl Cuts {
    /// Adds those of some generations of a projection, the first of which is live, as the session sees them.
    pub(crate) async fn add(
        &mut self,
        session: &mut Session,
        projection: &dyn Projection,
        generations: &[i64],
    ) -> Result<(), sqlx::Error> {
        match projection.name() {
            retention::PROJECTION => self.audit = retention::cuts(session, generations).await?,
            forgetting::PROJECTION => self.deliveries = forgetting::cut(session, generations).await?,
            _ => {}
        }
        Ok(())
    }

    /// Whether a row of a table is compared.
    pub(crate) fn keep(&self, table: &Table, row: &Row) -> bool {
        if let Some(at) = retention::perishes(table, row) {
            let cut = self.audit.get(table.text(row, "tenant"));
            cut.is_none_or(|cut| at >= *cut)
        } else if let (Some(cut), Some(at)) = (self.deliveries, forgetting::perishes(table, row)) {
            at >= cut
        } else {
            true
        }
    }
}
