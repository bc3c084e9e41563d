//! How much a tenant has of what quotas count, to the event.

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::tenant::Counted;
use domain::{Source, TenantId};

use crate::ReadModels;
use crate::page::{Answer, QueryError};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::sql::{Statement, Writer, number, text};

const NAME: &str = "usage";
const TABLE: &str = "usage";

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

    fn tables(&self) -> &'static [&'static str] {
        &[TABLE]
    }

    async fn apply(&self, batch: &[Incoming], out: &mut Writer<'_>) -> Result<(), ApplyError> {
        let mut changes = BTreeMap::<_, i64>::new();
        for incoming in batch {
            let events = incoming.commit().into_iter().flat_map(|commit| &commit.events);
            for (counted, by) in events.filter_map(|event| Counted::changed_by(&event.event_type)) {
                *changes.entry((incoming.tenant.as_str(), counted)).or_default() += by;
            }
        }
        let rows = changes
            .into_iter()
            .map(|((tenant, counted), by)| vec![tenant.into(), counted.name().into(), by.into()])
            .collect();
        let conflict = "ON CONFLICT (tenant, name) DO UPDATE SET total = {t}.total + excluded.total";
        Ok(out
            .insert(TABLE, &["tenant", "name", "total"], rows, conflict)
            .await?)
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
        let select =
            Statement::new("SELECT name, total FROM usage WHERE tenant = $1").with(self.tenant.as_str());
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
