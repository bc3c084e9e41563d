//! What a tenant's standing means for its requests.
//!
//! A suspended or terminated tenant is read as before, and nothing of it changes any more. Both take effect at once in
//! the process that was asked, and within five seconds in every other; what was under way then is finished.

use std::time::Duration;

use axum::http::Method;
use domain::TenantId;
use domain::tenant::{Standing, Tenant};

use crate::app::App;
use crate::auth::Principal;
use crate::guard::Need;
use crate::problem::{Problem, ProblemType};

/// How old what is known of a tenant may be.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(5);

/// A tenant, as it was a moment ago.
pub(crate) async fn tenant(app: &App, id: &TenantId) -> Result<Tenant, Problem> {
    let platform = TenantId::platform();
    let loaded = app
        .dispatcher
        .load::<Tenant>(&platform, id.as_str(), MAX_AGE)
        .await;
    loaded
        .map(|loaded| loaded.aggregate)
        .map_err(|error| Problem::unavailable(&error))
}

/// Refuses a change that the caller's tenant may not make as it stands.
pub(crate) async fn admit(
    app: &App,
    principal: &Principal,
    need: &Need,
    method: &Method,
) -> Result<(), Problem> {
    match principal {
        Principal::Key(holder) if changes(need, method) => {
            let tenant = tenant(app, &holder.tenant).await?;
            tenant.standing().map_or(Ok(()), may_change)
        }
        Principal::Key(_) | Principal::Administrator => Ok(()),
    }
}

/// Whether an operation can change anything: what its permission calls reading or checking cannot, whatever its
/// method.
pub(crate) fn changes(need: &Need, method: &Method) -> bool {
    let reads =
        matches!(need, Need::Permission(permission) if matches!(permission.action(), "read" | "check"));
    !reads && !matches!(*method, Method::GET | Method::HEAD)
}

/// Refuses changes of a tenant that stands so.
pub(crate) fn may_change(standing: &Standing) -> Result<(), Problem> {
    match standing {
        Standing::Active => Ok(()),
        Standing::Suspended(reason) => Err(Problem::new(
            ProblemType::TenantSuspended,
            format!(
                "The tenant is suspended ({reason}): it can be read, but not changed, until it is reactivated."
            ),
        )),
        Standing::Terminated(reason) => Err(Problem::new(
            ProblemType::TenantTerminated,
            format!("The tenant was terminated ({reason}): it can be read, but never changed again."),
        )),
    }
}

#[cfg(test)]
mod tests {
    use domain::{Permission, Text};

    use super::*;
    use crate::guard::may;

    #[test]
    fn only_changes_are_refused() {
        assert!(changes(&may::WRITE_USERS, &Method::POST));
        assert!(!changes(&may::READ_USERS, &Method::GET));
        let check = Need::Permission(Permission::on_tenant("permissions", "check"));
        assert!(!changes(&check, &Method::POST));
        assert!(changes(&Need::Nothing, &Method::POST));
    }

    #[test]
    fn the_reason_is_told() {
        let reason = || Text::new("unpaid").unwrap();
        let refused = |standing| may_change(&standing).unwrap_err();
        let suspended = refused(Standing::Suspended(reason()));
        assert_eq!(suspended.kind(), ProblemType::TenantSuspended);
        assert!(suspended.detail().contains("(unpaid)"));
        let terminated = refused(Standing::Terminated(reason()));
        assert_eq!(terminated.kind(), ProblemType::TenantTerminated);
        assert!(may_change(&Standing::Active).is_ok());
    }
}
