//! API keys of a tenant: what they may do, and whether they still may.

use async_trait::async_trait;
use domain::api_key::{ApiKeyEvent, KeySettings, RateLimit};
use domain::{Grant, KeyId, Source, TenantId, Timestamp};
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
    Statement, Value, json as json_column, optional_int, optional_time, parsed, text, time, unreadable,
};
use crate::table::{Column, Growth, Table};

const NAME: &str = "api_keys";
static TABLE: Table = Table {
    name: "api_keys",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::text("id"),
        Column::text("name"),
        Column::text("scopes"),
        Column::int("expires_at"),
        Column::int("rate_requests"),
        Column::int("rate_seconds"),
        Column::int("rotated_at"),
        Column::int("previous_until"),
        Column::int("revoked_at"),
        Column::int("created_at"),
        Column::int("updated_at"),
        Column::int("version"),
    ],
    growth: Growth::Kept,
};

/// The fold.
#[derive(Debug)]
pub(super) struct ApiKeysProjection;

#[async_trait]
impl Projection for ApiKeysProjection {
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
        for (step, event) in steps::<ApiKeyEvent>(batch, "api_key", &TABLE, rows).await? {
            fold(&step, event, rows).await?;
        }
        Ok(())
    }
}

async fn fold(step: &Step<'_>, event: ApiKeyEvent, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let changes = match event {
        ApiKeyEvent::Issued(settings) => {
            let mut values = columns(&settings);
            values.push(("created_at", step.at().into()));
            return step.create(rows, &TABLE, values).await;
        }
        ApiKeyEvent::Changed { to, .. } => columns(&to),
        ApiKeyEvent::Rotated { previous_until, .. } => vec![
            ("rotated_at", step.at().into()),
            ("previous_until", previous_until.into()),
        ],
        ApiKeyEvent::Revoked {} => vec![("revoked_at", step.at().into())],
    };
    step.change(rows, &TABLE, changes).await
}

fn columns(settings: &KeySettings) -> Vec<(&'static str, Value)> {
    let limit = settings.rate_limit;
    vec![
        ("name", settings.name.as_str().into()),
        ("scopes", json!(settings.scopes.as_slice()).to_string().into()),
        ("expires_at", settings.expires_at.into()),
        (
            "rate_requests",
            limit.map(|limit| i64::from(limit.requests.get())).into(),
        ),
        (
            "rate_seconds",
            limit.map(|limit| i64::from(limit.per_seconds.get())).into(),
        ),
    ]
}

/// Whether a key proves anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyStatus {
    /// It does.
    Active,
    /// Not any more: its time is over.
    Expired,
    /// Not any more: it was revoked.
    Revoked,
}

/// An API key as the API shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKeyRow {
    /// Its id.
    pub id: KeyId,
    /// What people call it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Grant>,
    /// From when on it is worth nothing.
    pub expires_at: Option<Timestamp>,
    /// How many requests it may make.
    pub rate_limit: Option<RateLimit>,
    /// When it got its present text, if that is not its first.
    pub rotated_at: Option<Timestamp>,
    /// Until when the text before the present one is good.
    pub previous_until: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was issued.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl ApiKeyRow {
    /// Whether it proves anything at this time.
    pub fn status(&self, at: Timestamp) -> ApiKeyStatus {
        if self.revoked_at.is_some() {
            ApiKeyStatus::Revoked
        } else if self.expires_at.is_some_and(|expiry| at >= expiry) {
            ApiKeyStatus::Expired
        } else {
            ApiKeyStatus::Active
        }
    }

    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            name: text(row, "name")?,
            scopes: json_column(row, "scopes")?,
            expires_at: optional_time(row, "expires_at")?,
            rate_limit: rate_limit(row)?,
            rotated_at: optional_time(row, "rotated_at")?,
            previous_until: optional_time(row, "previous_until")?,
            revoked_at: optional_time(row, "revoked_at")?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

fn rate_limit(row: &AnyRow) -> Result<Option<RateLimit>, sqlx::Error> {
    let (Some(requests), Some(seconds)) = (
        optional_int(row, "rate_requests")?,
        optional_int(row, "rate_seconds")?,
    ) else {
        return Ok(None);
    };
    let limit = json!({ "requests": requests, "per_seconds": seconds });
    serde_json::from_value(limit)
        .map(Some)
        .map_err(|error| unreadable("rate_requests", error))
}

/// Queries on a tenant's API keys.
#[derive(Debug, Clone, Copy)]
pub struct ApiKeys<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl ApiKeys<'_> {
    /// The keys, revoked and expired ones too, newest first.
    pub async fn list(&self, page: &Page) -> Result<Answer<Listing<ApiKeyRow>>, QueryError> {
        let query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new(format!(
            "SELECT * FROM {} WHERE tenant = ",
            query.table("api_keys")
        ));
        select.bind(self.tenant.as_str());
        let keyset = Keyset {
            list: NAME,
            select,
            order: &[Column::text("id")],
            page,
        };
        query.list(keyset, ApiKeyRow::read).await
    }

    /// One key.
    pub async fn get(&self, id: &KeyId) -> Result<Answer<Option<ApiKeyRow>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let select = Statement::new(format!(
            "SELECT * FROM {} WHERE tenant = $1 AND id = $2",
            query.table("api_keys")
        ))
        .with(self.tenant.as_str())
        .with(id.as_str());
        let rows = query.rows(select).await?;
        let found = rows.first().map(ApiKeyRow::read).transpose()?;
        query.answer(found).await
    }
}
