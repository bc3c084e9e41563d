//! How much a tenant has of what quotas count, to the event.

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::tenant::Counted;
use domain::{Source, TenantId};

use crate::ReadModels;
use crate::page::{Answer, QueryError};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::rows::Rows;
use crate::sql::{Statement, number, text};
use crate::table::{Column, Growth, Table};

const NAME: &str = "usage";
static TABLE: Table = Table {
    name: "usage",
    key: 2,
    columns: &[Column::text("tenant"), Column::text("name"), Column::int("total")],
    growth: Growth::Summed,
};

/// The fold.
#[derive(Debug)]
pub(super) struct UsageProjection;

#[async_trait]
impl Projection for UsageProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        1
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Events]
    }

    fn tables(&self) -> &'static [&'static Table] {
        const { &[&TABLE] }
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        for incoming in batch {
            let events = incoming.commit().into_iter().flat_map(|commit| &commit.events);
            for (counted, by) in events.filter_map(|event| Counted::changed_by(&event.event_type)) {
                let row = vec![incoming.tenant.as_str().into(), counted.name().into(), by.into()];
                rows.add(&TABLE, row);
            }
        }
        Ok(())
    }
}

/// How much a tenant has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage(BTreeMap<Counted, u64>);

impl Usage {
    /// How many of a thing.
    pub fn of(&self, counted: Counted) -> u64 {
        self.0.get(&counted).copied().unwrap_or_default()
    }
}

/// Queries on what a tenant has.
#[derive(Debug, Clone, Copy)]
pub struct UsageOf<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl UsageOf<'_> {
    /// All of it.
    pub async fn get(&self) -> Result<Answer<Usage>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let select = Statement::new(format!(
            "SELECT name, total FROM {} WHERE tenant = $1",
            query.table("usage")
        ))
        .with(self.tenant.as_str());
        let mut usage = BTreeMap::new();
        for row in &query.rows(select).await? {
            let name = text(row, "name")?;
            if let Some(counted) = Counted::ALL.into_iter().find(|counted| counted.name() == name) {
                usage.insert(counted, number(row, "total")?);
            }
        }
        query.answer(Usage(usage)).await
    }
}
