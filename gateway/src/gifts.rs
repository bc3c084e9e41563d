//! Giving rights: nobody gives a role, or allows a permission, that grants more than their own key does.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::role::Roles;
use domain::user::MAX_ROLES;
use domain::{Grant, Permission, RoleId};

use crate::app::App;
use crate::auth::Member;
use crate::problem::{Problem, ProblemType};

/// What giving roles needs beside what the roles grant.
const GRANTING: Permission = Permission::on_tenant("roles", "grant");

/// What a caller can give, judged by the tenant's roles as they are now.
pub(crate) struct Gifts<'m> {
    member: &'m Member,
    roles: Roles,
}

impl<'m> Gifts<'m> {
    /// Reads the tenant's roles.
    pub(crate) async fn of(app: &App, member: &'m Member) -> Result<Self, Problem> {
        let (tenant, now) = (&member.tenant, Duration::ZERO);
        let loaded = app.dispatcher.load::<Roles>(tenant, tenant.as_str(), now).await;
        let roles = loaded.map_err(|error| Problem::unavailable(&error))?.aggregate;
        Ok(Self { member, roles })
    }

    /// Whether the caller can give this role, which an address names: 404 where there is none, 403 where it grants
    /// what the caller's key does not.
    pub(crate) fn role(&self, id: &RoleId) -> Result<(), Problem> {
        match self.roles.get(id) {
            Some(_) => self.within(id),
            None => Err(Problem::not_found()),
        }
    }

    /// Whether the caller can give these roles, which a body names at `path`: a role that is not there is the body's
    /// mistake, at its place.
    pub(crate) fn roles(&self, ids: &[RoleId], path: &str) -> Result<BTreeSet<RoleId>, Problem> {
        allowed(self.member, &GRANTING.into(), "Giving roles needs")?;
        if ids.len() > MAX_ROLES {
            return Err(Problem::invalid_body(
                path,
                format!("must be at most {MAX_ROLES} roles"),
            ));
        }
        for (place, id) in ids.iter().enumerate() {
            if self.roles.get(id).is_none() {
                let path = format!("{path}[{place}]");
                return Err(Problem::invalid_body(path, format!("there is no role {id}")));
            }
            self.within(id)?;
        }
        Ok(ids.iter().cloned().collect())
    }

    fn within(&self, id: &RoleId) -> Result<(), Problem> {
        let mut granted = self.roles.effective(id).into_iter();
        granted.try_for_each(|grant| allowed(self.member, grant, &format!("The role {id} grants")))
    }
}

/// The roles that a body names at `path`, if the caller can give them; see [`Gifts::roles`].
pub(crate) async fn roles(
    app: &App,
    member: &Member,
    ids: &[RoleId],
    path: &str,
) -> Result<BTreeSet<RoleId>, Problem> {
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    Gifts::of(app, member).await?.roles(ids, path)
}

/// Whether the caller can allow this permission to somebody.
pub(crate) fn permission(member: &Member, permission: &Permission) -> Result<(), Problem> {
    allowed(member, &permission.clone().into(), "This gives")
}

fn allowed(member: &Member, grant: &Grant, what: &str) -> Result<(), Problem> {
    if member.holds(grant) {
        return Ok(());
    }
    Err(beyond(&format!("{what} {grant}")))
}

/// Something grants more than the caller can give; `what` says which.
pub(crate) fn beyond(what: &str) -> Problem {
    Problem::new(
        ProblemType::Forbidden,
        format!("{what}, which no scope of this key covers."),
    )
}
