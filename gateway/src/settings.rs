//! What tenants have set for themselves, as handlers ask for it.
//!
//! A change holds at once in the process that made it, and within five seconds in every other. Asking costs no look
//! into the log in between, also for the many tenants that never set anything.

use commands::LoadError;
use domain::TenantId;
use domain::settings::{Settings, Values};
use domain::user::Email;
use moka::sync::Cache;

use crate::app::App;
use crate::problem::Problem;
use crate::tenancy::MAX_AGE;

/// How many tenants that set nothing are remembered.
const REMEMBERED: u64 = 100_000;

/// The tenants that had set nothing a moment ago; of the others the dispatcher remembers what.
#[derive(Debug)]
pub(crate) struct Unset(Cache<TenantId, ()>);

impl Unset {
    /// None known.
    pub(crate) fn new() -> Self {
        let cache = Cache::builder().max_capacity(REMEMBERED).time_to_live(MAX_AGE);
        Self(cache.build())
    }

    /// A tenant sets something.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.0.invalidate(tenant);
    }
}

/// What holds for a tenant.
pub(crate) async fn current(app: &App, tenant: &TenantId) -> Result<Values, Problem> {
    if app.unset.0.contains_key(tenant) {
        return Ok(Values::default());
    }
    let loaded = app
        .dispatcher
        .load::<Settings>(tenant, tenant.as_str(), MAX_AGE)
        .await
        .map_err(|error: LoadError| Problem::unavailable(&error))?;
    if loaded.version == 0 {
        app.unset.0.insert(tenant.clone(), ());
    }
    Ok(loaded.aggregate.current().clone())
}

/// Refuses an e-mail address, found at `path` of the body, whose domain the tenant does not allow.
pub(crate) async fn admit_email(
    app: &App,
    tenant: &TenantId,
    email: &Email,
    path: &str,
) -> Result<(), Problem> {
    if current(app, tenant).await?.admits(email) {
        return Ok(());
    }
    Err(Problem::invalid_body(
        path,
        "must be in one of the domains that the tenant's setting allowed_email_domains names",
    ))
}
