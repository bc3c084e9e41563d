//! What happens to users.

use std::collections::BTreeSet;

use anyhow::Context as _;
use domain::user::{Attributes, Email, Preferences, User, UserCommand, UserStatus};
use domain::{Effect, RoleId, Text, UserId};
use serde_json::json;

use super::draw::Draw;
use super::live::{Live, Out};
use super::tenancy::{Tenancy, USERS, remember};

pub(super) fn register(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    let roles = tenant.some_roles(draw);
    let email = email(tenant, draw)?;
    let id = UserId::new(draw.ulid());
    registered(tenant, &id, email, roles, draw, out)
}

/// Registers a user, as an invitation does too.
pub(super) fn registered(
    tenant: &mut Tenancy,
    id: &UserId,
    email: Email,
    roles: BTreeSet<RoleId>,
    draw: &mut Draw,
    out: &mut Out,
) -> anyhow::Result<()> {
    let mut user = Live::new(&tenant.id, id.as_str());
    let command = UserCommand::Register {
        email,
        name: Text::new(&draw.person())?,
        attributes: Attributes::try_from(draw.attributes())?,
        roles,
    };
    let meta = tenant.meta("RegisterUser", draw);
    user.act(command, meta, out)?;
    remember(&mut tenant.users, USERS, user, draw);
    Ok(())
}

/// An address that nobody of the tenant has had.
pub(super) fn email(tenant: &mut Tenancy, draw: &mut Draw) -> anyhow::Result<Email> {
    let (number, slug) = (tenant.number(), draw.word());
    let email = Email::try_from(format!("{slug}.{number}@example.org"));
    email.context("an address")
}

/// Gives a command to one of the users that are not removed.
fn command(
    tenant: &mut Tenancy,
    name: &str,
    draw: &mut Draw,
    out: &mut Out,
    fits: impl Fn(&User) -> bool,
    command: impl FnOnce(&User, &mut Draw) -> anyhow::Result<UserCommand>,
) -> anyhow::Result<()> {
    let meta = tenant.meta(name, draw);
    if let Some(user) = draw.one_mut(&mut tenant.users)
        && fits(user.state())
    {
        let command = command(user.state(), draw)?;
        user.act(command, meta, out)?;
    }
    Ok(())
}

fn is_active(user: &User) -> bool {
    user.status() == Some(UserStatus::Active)
}

fn is_there(user: &User) -> bool {
    user.status() != Some(UserStatus::Removed)
}

pub(super) fn rename(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    command(tenant, "UpdateUser", draw, out, is_there, |_, draw| {
        Ok(UserCommand::Update {
            email: None,
            name: Some(Text::new(&draw.person())?),
            attributes: None,
        })
    })
}

pub(super) fn change_attributes(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    command(tenant, "UpdateUser", draw, out, is_there, |_, draw| {
        Ok(UserCommand::Update {
            email: None,
            name: None,
            attributes: Some(draw.attributes()),
        })
    })
}

/// Name and attributes at once: two events in one commit.
pub(super) fn edit_profile(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    command(tenant, "UpdateUser", draw, out, is_there, |_, draw| {
        Ok(UserCommand::Update {
            email: None,
            name: Some(Text::new(&draw.person())?),
            attributes: Some(draw.attributes()),
        })
    })
}

pub(super) fn change_email(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    let email = email(tenant, draw)?;
    command(tenant, "UpdateUser", draw, out, is_there, |_, _| {
        Ok(UserCommand::Update {
            email: Some(email),
            name: None,
            attributes: None,
        })
    })
}

pub(super) fn grant_role(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    let Some(role) = tenant.role(draw) else {
        return Ok(());
    };
    let fits = |user: &User| is_active(user) && user.roles().count() < 8;
    command(tenant, "GrantRole", draw, out, fits, |_, _| {
        Ok(UserCommand::GrantRole { role })
    })
}

pub(super) fn revoke_role(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    let fits = |user: &User| is_there(user) && user.roles().next().is_some();
    command(tenant, "RevokeRole", draw, out, fits, |user, _| {
        let role = user.roles().next().cloned().context("a role")?;
        Ok(UserCommand::RevokeRole { role })
    })
}

pub(super) fn set_preferences(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    command(tenant, "SetPreferences", draw, out, is_active, |_, draw| {
        let (theme, every) = (["dark", "light"][draw.below(2)], ["day", "week"][draw.below(2)]);
        let value = json!({
            "theme": theme,
            "digest": { "every": every, "hour": draw.below(24) },
            "columns": draw.below(6),
        });
        let preferences = Preferences::try_from(value.as_object().cloned().unwrap_or_default())?;
        Ok(UserCommand::SetPreferences { preferences })
    })
}

pub(super) fn set_permission(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    let fits = |user: &User| is_active(user) && user.permissions().count() < 8;
    command(tenant, "SetPermission", draw, out, fits, |_, draw| {
        let permission = format!("{}.read.tenant", draw.word());
        Ok(UserCommand::SetPermission {
            permission: permission.parse()?,
            effect: [Effect::Allow, Effect::Deny][draw.below(2)],
        })
    })
}

pub(super) fn deactivate(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    command(tenant, "DeactivateUser", draw, out, is_active, |_, draw| {
        let reason = Some(Text::new(&format!("left {}", draw.word()))?);
        Ok(UserCommand::Deactivate { reason })
    })
}

/// Whom [`deactivate`] has put aside, wherever there is one.
pub(super) fn reactivate(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    let meta = tenant.meta("ReactivateUser", draw);
    let aside = |user: &&mut Live<User>| user.state().status() == Some(UserStatus::Deactivated);
    if let Some(user) = tenant.users.iter_mut().find(aside) {
        user.act(UserCommand::Reactivate, meta, out)?;
    }
    Ok(())
}

pub(super) fn remove(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    command(tenant, "RemoveUser", draw, out, is_there, |_, _| {
        Ok(UserCommand::Remove)
    })
}
