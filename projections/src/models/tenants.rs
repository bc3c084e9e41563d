//! The tenants of the installation; their rows are the platform's.

use async_trait::async_trait;
use domain::tenant::{Quotas, TenantEvent};
use domain::{Source, TenantId, Timestamp};
use serde::Serialize;
use sqlx::any::AnyRow;

use crate::ReadModels;
use crate::events::steps;
use crate::page::{Answer, Listing, Page, QueryError};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::read_models::Keyset;
use crate::rows::Rows;
use crate::sql::{Statement, Value, json, optional_text, parsed, text, time};
use crate::table::{Column, Growth, Table};

const NAME: &str = "tenants";

static TABLE: Table = Table {
    name: "tenants",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::text("id"),
        Column::text("name"),
        Column::text("slug"),
        Column::text("plan"),
        Column::int("created_at"),
        Column::int("updated_at"),
        Column::int("version"),
        Column::text("status"),
        Column::text("reason"),
        Column::text("quotas"),
    ],
    growth: Growth::Kept,
};

/// The fold.
#[derive(Debug)]
pub(super) struct TenantsProjection;

#[async_trait]
impl Projection for TenantsProjection {
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
        for (step, event) in steps::<TenantEvent>(batch, "tenant", &TABLE, rows).await? {
            let values = match event {
                TenantEvent::Provisioned { id, name, slug, plan } => {
                    if id.as_str() != step.id() {
                        return Err(step.poison("its id is not the one it is filed under"));
                    }
                    let values = vec![
                        ("name", name.as_str().into()),
                        ("slug", slug.as_str().into()),
                        ("plan", plan.map(String::from).into()),
                        ("status", "active".into()),
                        ("quotas", "{}".into()),
                        ("created_at", step.at().into()),
                    ];
                    step.create(rows, &TABLE, values).await?;
                    continue;
                }
                TenantEvent::Renamed { to, .. } => vec![("name", to.as_str().into())],
                TenantEvent::PlanChanged { to, .. } => vec![("plan", to.map(String::from).into())],
                TenantEvent::QuotasChanged { to, .. } => {
                    let quotas =
                        serde_json::to_string(&to).map_err(|error| step.poison(error.to_string()))?;
                    vec![("quotas", quotas.into())]
                }
                TenantEvent::Suspended { reason } => standing("suspended", Some(reason.into())),
                TenantEvent::Reactivated {} => standing("active", None),
                TenantEvent::Terminated { reason, .. } => standing("terminated", Some(reason.into())),
            };
            step.change(rows, &TABLE, values).await?;
        }
        Ok(())
    }
}

fn standing(status: &'static str, reason: Option<String>) -> Vec<(&'static str, Value)> {
    vec![("status", status.into()), ("reason", reason.into())]
}

/// A tenant as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TenantRow {
    /// Its id.
    pub id: TenantId,
    /// The display name.
    pub name: String,
    /// The short name, unique in the installation.
    pub slug: String,
    /// The plan.
    pub plan: Option<String>,
    /// `active`, `suspended` or `terminated`.
    pub status: String,
    /// Why it is not active.
    pub reason: Option<String>,
    /// How much it can have.
    pub quotas: Quotas,
    /// When it was provisioned.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl TenantRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            name: text(row, "name")?,
            slug: text(row, "slug")?,
            plan: optional_text(row, "plan")?,
            status: text(row, "status")?,
            reason: optional_text(row, "reason")?,
            quotas: json(row, "quotas")?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

/// Queries on the tenants.
#[derive(Debug, Clone, Copy)]
pub struct Tenants<'a> {
    pub(crate) read_models: &'a ReadModels,
}

impl Tenants<'_> {
    /// The tenants, newest first.
    pub async fn list(&self, page: &Page) -> Result<Answer<Listing<TenantRow>>, QueryError> {
        let query = self.read_models.query(&TenantId::platform(), &[NAME]).await?;
        let mut select = Statement::new(format!(
            "SELECT * FROM {} WHERE tenant = ",
            query.table("tenants")
        ));
        select.bind(TenantId::platform().as_str());
        let keyset = Keyset {
            list: NAME,
            select,
            order: &[Column::text("id")],
            page,
        };
        query.list(keyset, TenantRow::read).await
    }

    /// One tenant.
    pub async fn get(&self, id: &TenantId) -> Result<Answer<Option<TenantRow>>, QueryError> {
        let mut query = self.read_models.query(&TenantId::platform(), &[NAME]).await?;
        let tenants = query.table("tenants");
        let select = Statement::new(format!("SELECT * FROM {tenants} WHERE tenant = $1 AND id = $2"))
            .with(TenantId::platform().as_str())
            .with(id.as_str());
        let rows = query.rows(select).await?;
        let found = rows.first().map(TenantRow::read).transpose()?;
        query.answer(found).await
    }
}
