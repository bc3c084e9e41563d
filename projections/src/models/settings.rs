//! The versions of a tenant's settings: what holds now is the newest.

use async_trait::async_trait;
use domain::settings::{Overrides, SettingsEvent};
use domain::{Source, TenantId, Timestamp};
use sqlx::any::AnyRow;

use crate::ReadModels;
use crate::events::{Step, steps};
use crate::page::{Answer, Listing, Page, QueryError};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::sql::{Statement, Writer, json, number, optional_int, optional_text, text, time};

const NAME: &str = "settings";
const TABLE: &str = "settings_versions";

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

    fn tables(&self) -> &'static [&'static str] {
        &[TABLE]
    }

    async fn apply(&self, batch: &[Incoming], out: &mut Writer<'_>) -> Result<(), ApplyError> {
        for step in steps::<SettingsEvent>(batch, "settings") {
            let (step, event) = step?;
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
            insert(&step, out, restored, &overrides).await?;
        }
        Ok(())
    }
}

async fn insert(
    step: &Step<'_>,
    out: &mut Writer<'_>,
    restored: Option<u64>,
    overrides: &Overrides,
) -> Result<(), ApplyError> {
    let overrides = serde_json::to_string(overrides).map_err(|error| step.poison(error.to_string()))?;
    let restored = restored.and_then(|version| i64::try_from(version).ok());
    let row = vec![
        step.tenant().into(),
        step.version.into(),
        step.at().into(),
        step.meta().actor.label().into(),
        step.meta().request_id.clone().into(),
        restored.into(),
        overrides.into(),
    ];
    let columns = [
        "tenant",
        "version",
        "at",
        "actor",
        "request_id",
        "restored",
        "overrides",
    ];
    let conflict = "ON CONFLICT (tenant, version) DO NOTHING";
    Ok(out.insert(TABLE, &columns, vec![row], conflict).await?)
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
        let after: Option<u64> = page.after(NAME)?;
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new("SELECT * FROM settings_versions WHERE tenant = ");
        select.bind(self.tenant.as_str());
        if let Some(after) = after {
            select.push(" AND version < ").bind(after);
        }
        select
            .push(" ORDER BY version DESC LIMIT ")
            .bind(page.size() as u64 + 1);
        let rows = query.rows(select).await?;
        let rows = rows.iter().map(SettingsRow::read).collect::<Result<_, _>>()?;
        query
            .answer(Listing::new(rows, page, NAME, |row: &SettingsRow| row.version))
            .await
    }
}
