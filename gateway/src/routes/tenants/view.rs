//! How a tenant is shown.

use domain::tenant::{Counted, Quotas};
use domain::{TenantId, Timestamp};
use projections::{TenantRow, Usage};
use serde::Serialize;
use utoipa::ToSchema;

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tenant)]
pub(super) struct TenantView {
    /// The tenant's id.
    #[schema(value_type = String)]
    id: TenantId,
    /// The display name.
    name: String,
    /// The slug.
    slug: String,
    /// The plan's name.
    plan: Option<String>,
    /// `active`, `suspended` or `terminated`.
    #[schema(example = "active")]
    status: String,
    /// Why it is suspended or terminated; null while it is active.
    reason: Option<String>,
    /// How much it can have.
    quotas: QuotasView,
    /// When it was provisioned.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = "date-time")]
    updated_at: Timestamp,
}

/// How much a tenant can have; null: unlimited.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Quotas)]
struct QuotasView {
    /// Users that are not removed.
    users: Option<u32>,
    /// Endpoints that are not removed.
    endpoints: Option<u32>,
    /// API keys that are not revoked.
    api_keys: Option<u32>,
    /// Teams that are not retired.
    teams: Option<u32>,
    /// Requests a second, for each process that answers them.
    requests_per_second: Option<u32>,
}

/// A caller's own tenant, and how much of its quotas it uses.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OwnTenant)]
pub(super) struct OwnTenantView {
    #[serde(flatten)]
    pub(super) tenant: TenantView,
    /// How much it has.
    pub(super) usage: UsageView,
}

/// How much a tenant has of what quotas count.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Usage)]
pub(super) struct UsageView {
    /// Users that are not removed.
    users: u64,
    /// Endpoints that are not removed.
    endpoints: u64,
    /// API keys that are not revoked.
    api_keys: u64,
    /// Teams that are not retired.
    teams: u64,
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        Self {
            users: usage.of(Counted::Users),
            endpoints: usage.of(Counted::Endpoints),
            api_keys: usage.of(Counted::ApiKeys),
            teams: usage.of(Counted::Teams),
        }
    }
}

impl From<Quotas> for QuotasView {
    fn from(quotas: Quotas) -> Self {
        Self {
            users: quotas.users.map(u32::from),
            endpoints: quotas.endpoints.map(u32::from),
            api_keys: quotas.api_keys.map(u32::from),
            teams: quotas.teams.map(u32::from),
            requests_per_second: quotas.requests_per_second.map(u32::from),
        }
    }
}

impl From<TenantRow> for TenantView {
    fn from(row: TenantRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            slug: row.slug,
            plan: row.plan,
            status: row.status,
            reason: row.reason,
            quotas: row.quotas.into(),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
