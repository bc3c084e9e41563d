//! Sources of a tenant: other systems whose webhooks it receives.

use async_trait::async_trait;
use domain::source::{SourceEvent, SourceSettings};
use domain::{Source as LogSource, SourceId, TenantId, Timestamp};
use serde::Serialize;
use sqlx::any::AnyRow;

use crate::ReadModels;
use crate::events::{Step, steps};
use crate::page::{Answer, Listing, Page, QueryError};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::read_models::Keyset;
use crate::rows::Rows;
use crate::sql::{
    Statement, Value, json as json_column, optional_text, optional_time, parsed, text, time, unreadable,
};
use crate::table::{Column, Growth, Table};

const NAME: &str = "sources";
static TABLE: Table = Table {
    name: "sources",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::text("id"),
        Column::text("settings"),
        Column::text("status"),
        Column::text("disabled_reason"),
        Column::int("previous_secret_valid_until"),
        Column::int("created_at"),
        Column::int("updated_at"),
        Column::int("version"),
    ],
    growth: Growth::Kept,
};

/// The fold.
#[derive(Debug)]
pub(super) struct SourcesProjection;

#[async_trait]
impl Projection for SourcesProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        1
    }

    fn sources(&self) -> &'static [LogSource] {
        &[LogSource::Events]
    }

    fn tables(&self) -> &'static [&'static Table] {
        const { &[&TABLE] }
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        for (step, event) in steps::<SourceEvent>(batch, "source", &TABLE, rows).await? {
            fold(&step, event, rows).await?;
        }
        Ok(())
    }
}

async fn fold(step: &Step<'_>, event: SourceEvent, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let changes = match event {
        SourceEvent::Created { settings: created } => {
            let values = vec![
                settings(&created),
                ("status", "enabled".into()),
                ("created_at", step.at().into()),
            ];
            return step.create(rows, &TABLE, values).await;
        }
        SourceEvent::Changed { to, .. } => vec![settings(&to)],
        SourceEvent::Disabled { reason } => vec![
            ("status", "disabled".into()),
            ("disabled_reason", reason.as_str().into()),
        ],
        SourceEvent::Enabled {} => vec![
            ("status", "enabled".into()),
            ("disabled_reason", Value::Text(None)),
        ],
        SourceEvent::SecretRotated {
            previous_valid_until, ..
        } => vec![("previous_secret_valid_until", previous_valid_until.into())],
        SourceEvent::Removed {} => vec![("status", "removed".into())],
    };
    step.change(rows, &TABLE, changes).await
}

fn settings(settings: &SourceSettings) -> (&'static str, Value) {
    let json = serde_json::to_string(settings).unwrap_or_default();
    ("settings", json.into())
}

/// Whether what a source sends is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceStatus {
    /// It is.
    Enabled,
    /// It is not, until it is enabled.
    Disabled,
}

/// A source as the API shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRow {
    /// Its id.
    pub id: SourceId,
    /// How it is set.
    pub settings: SourceSettings,
    /// Whether what it sends is taken.
    pub status: SourceStatus,
    /// Why it was disabled, while it is.
    pub disabled_reason: Option<String>,
    /// Until when the secret before the present one counts too, once it was rotated.
    pub previous_secret_valid_until: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl SourceRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let status = match text(row, "status")?.as_str() {
            "enabled" => SourceStatus::Enabled,
            "disabled" => SourceStatus::Disabled,
            _ => return Err(unreadable("status", UnknownStatus)),
        };
        Ok(Self {
            id: parsed(row, "id")?,
            settings: json_column(row, "settings")?,
            status,
            disabled_reason: optional_text(row, "disabled_reason")?,
            previous_secret_valid_until: optional_time(row, "previous_secret_valid_until")?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no source has such a status")]
struct UnknownStatus;

/// Queries on a tenant's sources; those removed are not shown.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl Sources<'_> {
    /// The sources, newest first.
    pub async fn list(&self, page: &Page) -> Result<Answer<Listing<SourceRow>>, QueryError> {
        let query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new(format!(
            "SELECT * FROM {} WHERE status <> 'removed' AND tenant = ",
            query.table("sources")
        ));
        select.bind(self.tenant.as_str());
        let keyset = Keyset {
            list: NAME,
            select,
            order: &[Column::text("id")],
            page,
        };
        query.list(keyset, SourceRow::read).await
    }

    /// One source.
    pub async fn get(&self, id: &SourceId) -> Result<Answer<Option<SourceRow>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let select = Statement::new(format!(
            "SELECT * FROM {} WHERE tenant = $1 AND id = $2 AND status <> 'removed'",
            query.table("sources")
        ))
        .with(self.tenant.as_str())
        .with(id.as_str());
        let rows = query.rows(select).await?;
        let found = rows.first().map(SourceRow::read).transpose()?;
        query.answer(found).await
    }
}
