//! Webhook endpoints of a tenant.

use async_trait::async_trait;
use domain::endpoint::{EndpointEvent, EndpointSettings, EventTypeFilter};
use domain::{EndpointId, Source, TenantId, Timestamp};
use serde::Serialize;
use serde_json::json;
use sqlx::any::AnyRow;

use crate::ReadModels;
use crate::events::{Step, steps};
use crate::page::{Answer, Listing, Page, QueryError};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::sql::{
    Statement, Value, Writer, json as json_column, optional_text, optional_time, parsed, text, time,
    unreadable,
};

const NAME: &str = "endpoints";
const TABLE: &str = "endpoints";

/// The fold.
#[derive(Debug)]
pub(super) struct EndpointsProjection;

#[async_trait]
impl Projection for EndpointsProjection {
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
        for step in steps::<EndpointEvent>(batch, "endpoint") {
            let (step, event) = step?;
            fold(&step, event, out).await?;
        }
        Ok(())
    }
}

async fn fold(step: &Step<'_>, event: EndpointEvent, out: &mut Writer<'_>) -> Result<(), ApplyError> {
    let changes = match event {
        EndpointEvent::Created { settings } => return create(step, &settings, out).await,
        EndpointEvent::Changed { to, .. } => settings(&to),
        EndpointEvent::Disabled { reason } => {
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
        | EndpointEvent::ResendRequested { .. } => return step.pass(out, TABLE).await,
    };
    step.change(out, TABLE, changes).await
}

fn settings(settings: &EndpointSettings) -> Vec<(&'static str, Value)> {
    let event_types: Vec<&str> = settings.event_types.iter().map(EventTypeFilter::as_str).collect();
    let description = settings.description.as_ref().map(|text| text.as_str().to_owned());
    vec![
        ("url", settings.url.as_str().into()),
        ("event_types", json!(event_types).to_string().into()),
        ("description", description.into()),
    ]
}

async fn create(step: &Step<'_>, created: &EndpointSettings, out: &mut Writer<'_>) -> Result<(), ApplyError> {
    let mut row: Vec<(&'static str, Value)> = vec![
        ("tenant", step.tenant().into()),
        ("id", step.id().into()),
        ("status", "enabled".into()),
        ("created_at", step.at().into()),
        ("updated_at", step.at().into()),
        ("version", step.version.into()),
    ];
    row.extend(settings(created));
    let (columns, row): (Vec<_>, Vec<_>) = row.into_iter().unzip();
    step.create(out, TABLE, &columns, row).await
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
        let after: Option<String> = page.after(NAME)?;
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new("SELECT * FROM endpoints WHERE status <> 'removed' AND tenant = ");
        select.bind(self.tenant.as_str());
        if let Some(after) = after {
            select.push(" AND id < ").bind(after);
        }
        select
            .push(" ORDER BY id DESC LIMIT ")
            .bind(page.size() as u64 + 1);
        let rows = query.rows(select).await?;
        let rows = rows.iter().map(EndpointRow::read).collect::<Result<_, _>>()?;
        query
            .answer(Listing::new(rows, page, NAME, |row: &EndpointRow| row.id.clone()))
            .await
    }

    /// One endpoint.
    pub async fn get(&self, id: &EndpointId) -> Result<Answer<Option<EndpointRow>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let select =
            Statement::new("SELECT * FROM endpoints WHERE tenant = $1 AND id = $2 AND status <> 'removed'")
                .with(self.tenant.as_str())
                .with(id.as_str());
        let rows = query.rows(select).await?;
        let found = rows.first().map(EndpointRow::read).transpose()?;
        query.answer(found).await
    }
}
