//! Webhook endpoints of a tenant.

use async_trait::async_trait;
use domain::endpoint::{EndpointEvent, EndpointSettings, EventTypeFilter, Policy};
use domain::{EndpointId, Source, TenantId, Timestamp};
use serde::Serialize;
use serde_json::json;
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

const NAME: &str = "endpoints";
static TABLE: Table = Table {
    name: "endpoints",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::text("id"),
        Column::text("url"),
        Column::text("event_types"),
        Column::text("description"),
        Column::text("status"),
        Column::text("disabled_reason"),
        Column::int("created_at"),
        Column::int("updated_at"),
        Column::int("version"),
        Column::int("previous_secret_valid_until"),
        Column::text("policy"),
    ],
    growth: Growth::Kept,
};

/// The fold.
#[derive(Debug)]
pub(super) struct EndpointsProjection;

#[async_trait]
impl Projection for EndpointsProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        2
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Events]
    }

    fn tables(&self) -> &'static [&'static Table] {
        const { &[&TABLE] }
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        for (step, event) in steps::<EndpointEvent>(batch, "endpoint", &TABLE, rows).await? {
            fold(&step, event, rows).await?;
        }
        Ok(())
    }
}

async fn fold(step: &Step<'_>, event: EndpointEvent, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let changes = match event {
        EndpointEvent::Created { settings: created } => {
            let mut values = settings(step, &created)?;
            values.push(("status", "enabled".into()));
            values.push(("created_at", step.at().into()));
            return step.create(rows, &TABLE, values).await;
        }
        EndpointEvent::Changed { to, .. } => settings(step, &to)?,
        EndpointEvent::Disabled { reason, .. } => {
            vec![
                ("status", "disabled".into()),
                ("disabled_reason", reason.as_str().into()),
            ]
        }
        EndpointEvent::Enabled {} => vec![
            ("status", "enabled".into()),
            ("disabled_reason", Value::Text(None)),
        ],
        EndpointEvent::SecretRotated {
            previous_valid_until, ..
        } => vec![("previous_secret_valid_until", previous_valid_until.into())],
        EndpointEvent::Removed {} => vec![("status", "removed".into())],
        // Requests are for the delivery side; here they only count as versions.
        EndpointEvent::RedriveRequested { .. }
        | EndpointEvent::DiscardRequested { .. }
        | EndpointEvent::ResendRequested { .. } => return step.pass(rows, &TABLE).await,
    };
    step.change(rows, &TABLE, changes).await
}

fn settings(step: &Step<'_>, settings: &EndpointSettings) -> Result<Vec<(&'static str, Value)>, ApplyError> {
    let event_types: Vec<&str> = settings.event_types.iter().map(EventTypeFilter::as_str).collect();
    let description = settings.description.as_ref().map(|text| text.as_str().to_owned());
    let policy = serde_json::to_string(&*settings.policy).map_err(|error| step.poison(error.to_string()))?;
    Ok(vec![
        ("url", settings.url.as_str().into()),
        ("event_types", json!(event_types).to_string().into()),
        ("description", description.into()),
        ("policy", policy.into()),
    ])
}

/// Whether an endpoint gets messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointStatus {
    /// It does.
    Enabled,
    /// It does not, until it is enabled.
    Disabled,
}

/// An endpoint as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndpointRow {
    /// Its id.
    pub id: EndpointId,
    /// Where messages are posted.
    pub url: String,
    /// Which messages it wants, as filters.
    pub event_types: Vec<String>,
    /// What people call it.
    pub description: Option<String>,
    /// How it wants them.
    pub policy: Policy,
    /// Whether it gets messages.
    pub status: EndpointStatus,
    /// Why it was disabled, while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<String>,
    /// Until when the secret before the present one signs too, once it was rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_secret_valid_until: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl EndpointRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let status = match text(row, "status")?.as_str() {
            "enabled" => EndpointStatus::Enabled,
            "disabled" => EndpointStatus::Disabled,
            _ => return Err(unreadable("status", UnknownStatus)),
        };
        Ok(Self {
            id: parsed(row, "id")?,
            url: text(row, "url")?,
            event_types: json_column(row, "event_types")?,
            description: optional_text(row, "description")?,
            policy: json_column(row, "policy")?,
            status,
            disabled_reason: optional_text(row, "disabled_reason")?,
            previous_secret_valid_until: optional_time(row, "previous_secret_valid_until")?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no endpoint has such a status")]
struct UnknownStatus;

/// Queries on a tenant's endpoints; those removed are not shown.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl Endpoints<'_> {
    /// The endpoints, newest first.
    pub async fn list(&self, page: &Page) -> Result<Answer<Listing<EndpointRow>>, QueryError> {
        let query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new(format!(
            "SELECT * FROM {} WHERE status <> 'removed' AND tenant = ",
            query.table("endpoints")
        ));
        select.bind(self.tenant.as_str());
        let keyset = Keyset {
            list: NAME,
            select,
            order: &[Column::text("id")],
            page,
        };
        query.list(keyset, EndpointRow::read).await
    }

    /// One endpoint.
    pub async fn get(&self, id: &EndpointId) -> Result<Answer<Option<EndpointRow>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let select = Statement::new(format!(
            "SELECT * FROM {} WHERE tenant = $1 AND id = $2 AND status <> 'removed'",
            query.table("endpoints")
        ))
        .with(self.tenant.as_str())
        .with(id.as_str());
        let rows = query.rows(select).await?;
        let found = rows.first().map(EndpointRow::read).transpose()?;
        query.answer(found).await
    }
}
