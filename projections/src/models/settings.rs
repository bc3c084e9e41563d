//! The versions of a tenant's settings: what holds now is the newest.

use async_trait::async_trait;
use domain::settings::{Overrides, SettingsEvent};
use domain::{Source, TenantId, Timestamp};
use sqlx::any::AnyRow;

use crate::ReadModels;
use crate::events::events;
use crate::page::{Answer, Listing, Page, QueryError};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::read_models::Keyset;
use crate::rows::Rows;
use crate::sql::{Statement, json, number, optional_int, optional_text, text, time};
use crate::table::{Column, Growth, Table};

const NAME: &str = "settings";
static TABLE: Table = Table {
    name: "settings_versions",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::int("version"),
        Column::int("at"),
        Column::text("actor"),
        Column::text("request_id"),
        Column::int("restored"),
        Column::text("overrides"),
    ],
    growth: Growth::First,
};

/// The fold.
#[derive(Debug)]
pub(super) struct SettingsProjection;

#[async_trait]
impl Projection for SettingsProjection {
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
        for event in events::<SettingsEvent>(batch, "settings") {
            let (step, event) = event?;
            let (version, restored, overrides) = match event {
                SettingsEvent::Changed { version, to, .. } => (version, None, to),
                SettingsEvent::Restored {
                    version,
                    restored,
                    to,
                    ..
                } => (version, Some(restored), to),
            };
            if step.id() != step.tenant() || version != step.version {
                return Err(step.poison("it is not the next version of its tenant's settings"));
            }
            let overrides =
                serde_json::to_string(&overrides).map_err(|error| step.poison(error.to_string()))?;
            let restored = restored.and_then(|version| i64::try_from(version).ok());
            let values = vec![
                ("tenant", step.tenant().into()),
                ("version", version.into()),
                ("at", step.at().into()),
                ("actor", step.meta().actor.label().into()),
                ("request_id", step.meta().request_id.clone().into()),
                ("restored", restored.into()),
                ("overrides", overrides.into()),
            ];
            rows.add(&TABLE, TABLE.row(values));
        }
        Ok(())
    }
}

/// One version of a tenant's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingsRow {
    /// Its number, from 1.
    pub version: u64,
    /// When it was made.
    pub at: Timestamp,
    /// By whom.
    pub actor: String,
    /// In which request.
    pub request_id: Option<String>,
    /// The version it restored, if it did.
    pub restored: Option<i64>,
    /// What the tenant has set in it.
    pub overrides: Overrides,
}

impl SettingsRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            version: number(row, "version")?,
            at: time(row, "at")?,
            actor: text(row, "actor")?,
            request_id: optional_text(row, "request_id")?,
            restored: optional_int(row, "restored")?,
            overrides: json(row, "overrides")?,
        })
    }
}

/// Queries on a tenant's settings.
#[derive(Debug, Clone, Copy)]
pub struct SettingsOf<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl SettingsOf<'_> {
    /// The newest version; none where all are defaults still.
    pub async fn newest(&self) -> Result<Answer<Option<SettingsRow>>, QueryError> {
        let newest = self.history(&Page {
            limit: Some(1),
            cursor: None,
        });
        Ok(newest.await?.map(|page| page.data.into_iter().next()))
    }

    /// The versions, newest first.
    pub async fn history(&self, page: &Page) -> Result<Answer<Listing<SettingsRow>>, QueryError> {
        let query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new(format!(
            "SELECT * FROM {} WHERE tenant = ",
            query.table("settings_versions")
        ));
        select.bind(self.tenant.as_str());
        let keyset = Keyset {
            list: NAME,
            select,
            order: &[Column::int("version")],
            page,
        };
        query.list(keyset, SettingsRow::read).await
    }
}
