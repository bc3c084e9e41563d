//! What happens to everything but users.

use std::time::Duration;

use anyhow::Context as _;
use domain::api_key::{ApiKeyCommand, KeyChange, Overlap};
use domain::endpoint::{EndpointChange, EndpointCommand, EndpointSettings, Selection};
use domain::event_type::{EventTypeCommand, MAX_VERSIONS};
use domain::invitation::{InvitationCommand, Status};
use domain::role::{RoleChange, RolesCommand};
use domain::settings::{Change, SettingsCommand};
use domain::team::{Membership, TeamRole, TeamsCommand};
use domain::tenant::{TenantChange, TenantCommand};
use domain::{
    Actor, CredentialId, DeliveryId, Edit, EndpointId, EventId, EventTypeId, Grant, InvitationId, RoleId,
    SecretId, TeamId, TenantId, Text, TokenId, UserId,
};
use serde_json::{Value, json};

use super::draw::Draw;
use super::live::{Live, Out};
use super::tenancy::{FEW, Tenancy, by, remember};
use super::users;

const WEEK: Duration = Duration::from_hours(168);
/// The most teams, roles and memberships that are remembered of a tenant.
const MANY: usize = 40;
const MEMBERS: usize = 400;

pub(super) fn invite(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    let command = InvitationCommand::Invite {
        email: users::email(tenant, draw)?,
        name: Some(Text::new(&draw.person())?),
        roles: tenant.some_roles(draw),
        token: TokenId::new(draw.ulid()),
        expires_at: draw.now().saturating_add(WEEK),
    };
    let mut invitation = Live::new(&tenant.id, InvitationId::new(draw.ulid()).as_str());
    invitation.act(command, tenant.meta("InviteUser", draw), out)?;
    remember(&mut tenant.invitations, FEW, invitation, draw);
    Ok(())
}

pub(super) fn resend_invitation(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    let meta = tenant.meta("ResendInvitation", draw);
    let now = draw.now();
    if let Some(invitation) = draw.one_mut(&mut tenant.invitations)
        && invitation.state().terms().map(|terms| terms.status(now)) == Some(Status::Pending)
    {
        let command = InvitationCommand::Resend {
            token: TokenId::new(draw.ulid()),
            expires_at: draw.now().saturating_add(WEEK),
        };
        invitation.act(command, meta, out)?;
    }
    Ok(())
}

/// The invitation ends and the user begins, in one append.
pub(super) fn accept_invitation(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    let now = draw.now();
    let pending = tenant
        .invitations
        .iter()
        .position(|one| one.state().terms().map(|terms| terms.status(now)) == Some(Status::Pending));
    let Some(place) = pending else { return Ok(()) };
    let mut invitation = tenant.invitations.swap_remove(place);
    let terms = invitation.state().terms().context("terms")?.clone();
    let user = UserId::new(draw.ulid());
    let command = InvitationCommand::Accept {
        token: terms.token,
        user: user.clone(),
        at: now,
    };
    let actor = Actor::Invitee(invitation.id().to_owned());
    let meta = draw.meta(&tenant.id, "AcceptInvitation", actor);
    invitation.act(command, meta, out)?;
    users::registered(tenant, &user, terms.email, terms.roles, draw, out)
}

/// Revoked where it is still good, noted as expired where it is not.
pub(super) fn end_invitation(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    if tenant.invitations.is_empty() {
        return Ok(());
    }
    let place = draw.below(tenant.invitations.len());
    let mut invitation = tenant.invitations.swap_remove(place);
    let at = draw.now();
    if invitation.state().terms().map(|terms| terms.status(at)) == Some(Status::Pending) {
        let meta = tenant.meta("RevokeInvitation", draw);
        invitation.act(InvitationCommand::Revoke, meta, out)?;
    } else {
        let actor = Actor::System("invitations".to_owned());
        let meta = draw.meta(&tenant.id, "ExpireInvitation", actor);
        invitation.act(InvitationCommand::Expire { at }, meta, out)?;
    }
    Ok(())
}

pub(super) fn create_team(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    if tenant.team_ids.len() >= MANY {
        return rename_team(tenant, draw, out);
    }
    let (id, number) = (TeamId::new(draw.ulid()), tenant.number());
    let create = TeamsCommand::Create {
        id: id.clone(),
        name: Text::new(&format!("{} {number}", draw.word()))?,
        parent: None,
        description: Some(Text::new(&format!("All who work on {}", draw.word()))?),
        max_depth: 5,
    };
    tenant.teams.act(create, tenant.meta("CreateTeam", draw), out)?;
    tenant.team_ids.push(id);
    Ok(())
}

pub(super) fn rename_team(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    let Some(id) = draw.one(&tenant.team_ids).cloned() else {
        return Ok(());
    };
    let number = tenant.number();
    let change = TeamsCommand::Change {
        id,
        name: Some(Text::new(&format!("{} {number}", draw.word()))?),
        description: None,
    };
    tenant.teams.act(change, tenant.meta("ChangeTeam", draw), out)?;
    Ok(())
}

pub(super) fn add_team_members(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    if tenant.members.len() >= MEMBERS {
        return remove_team_member(tenant, draw, out);
    }
    let Some(team) = draw.one(&tenant.team_ids).cloned() else {
        return Ok(());
    };
    let mut members: Vec<Membership> = Vec::new();
    for _ in 0..=draw.below(3) {
        let Some(user) = draw.one(&tenant.users) else {
            return Ok(());
        };
        let user: UserId = user.id().parse()?;
        let known = tenant.members.contains(&(team.clone(), user.clone()));
        if !known && members.iter().all(|member| member.user != user) {
            members.push(Membership {
                user,
                role: TeamRole::Member,
            });
        }
    }
    let added = members.iter().map(|member| (team.clone(), member.user.clone()));
    tenant.members.extend(added);
    let add = TeamsCommand::AddMembers { id: team, members };
    tenant.teams.act(add, tenant.meta("AddTeamMembers", draw), out)?;
    Ok(())
}

pub(super) fn remove_team_member(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    if tenant.members.is_empty() {
        return Ok(());
    }
    let place = draw.below(tenant.members.len());
    let (id, user) = tenant.members.swap_remove(place);
    let remove = TeamsCommand::RemoveMembers {
        id,
        users: vec![user],
    };
    tenant
        .teams
        .act(remove, tenant.meta("RemoveTeamMember", draw), out)?;
    Ok(())
}

fn grants(draw: &mut Draw) -> anyhow::Result<std::collections::BTreeSet<Grant>> {
    let mut grants = std::collections::BTreeSet::new();
    for _ in 0..=draw.below(6) {
        let action = ["read", "write", "*"][draw.below(3)];
        grants.insert(format!("{}.{action}.tenant", draw.word()).parse()?);
    }
    Ok(grants)
}

pub(super) fn define_role(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    if tenant.roles.state().iter().count() >= MANY {
        return change_role(tenant, draw, out);
    }
    let number = tenant.number();
    let define = RolesCommand::Define {
        id: RoleId::new(draw.ulid()),
        name: Text::new(&format!("{} {number}", draw.word()))?,
        description: None,
        permissions: grants(draw)?,
        inherits: std::collections::BTreeSet::new(),
        within: vec![Grant::everything()],
    };
    tenant.roles.act(define, tenant.meta("DefineRole", draw), out)?;
    Ok(())
}

pub(super) fn change_role(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    let own = |(_, role): &(&RoleId, &domain::role::Role)| role.template.is_none();
    let Some((id, _)) = tenant.roles.state().iter().find(own) else {
        return Ok(());
    };
    let change = RolesCommand::Change {
        id: id.clone(),
        change: RoleChange {
            permissions: Some(grants(draw)?),
            ..RoleChange::default()
        },
        within: vec![Grant::everything()],
    };
    tenant.roles.act(change, tenant.meta("ChangeRole", draw), out)?;
    Ok(())
}

/// Another key where there are few; otherwise one is renamed, rotated or revoked.
pub(super) fn change_api_key(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    let number = tenant.number();
    let name = format!("{} {number}", draw.word());
    let owners = tenant.keys.first().map(|key| Actor::ApiKey(key.id().to_owned()));
    let actor = owners.unwrap_or(Actor::PlatformAdmin);
    if tenant.keys.len() < 3 || (tenant.keys.len() < FEW && draw.once_in(4)) {
        return tenant.issue_key(&name, actor, draw, out);
    }
    let place = 1 + draw.below(tenant.keys.len() - 1);
    let (name, command) = match draw.below(4) {
        0 => ("RevokeApiKey", ApiKeyCommand::Revoke),
        1 => {
            let rotate = ApiKeyCommand::Rotate {
                credential: CredentialId::new(draw.ulid()),
                overlap: Overlap::fixed::<3_600>(),
                by: by(draw),
            };
            ("RotateApiKey", rotate)
        }
        _ => {
            let change = KeyChange {
                name: Some(Text::new(&name)?),
                ..KeyChange::default()
            };
            ("ChangeApiKey", ApiKeyCommand::Change { change, by: by(draw) })
        }
    };
    let revoked = command == ApiKeyCommand::Revoke;
    let meta = draw.meta(&tenant.id, name, actor);
    tenant.keys[place].act(command, meta, out)?;
    if revoked {
        tenant.keys.swap_remove(place);
    }
    Ok(())
}

fn schema(draw: &mut Draw) -> Value {
    json!({
        "type": "object",
        "required": ["id", "amount"],
        "properties": {
            "id": { "type": "string", "maxLength": 64 },
            "amount": { "type": "integer", "minimum": draw.below(10) },
            "currency": { "enum": ["CHF", "EUR", "JPY", "USD"] },
            "note": { "type": "string" }
        }
    })
}

/// A new type where there are few; otherwise one gets another schema or description.
pub(super) fn register_event_type(
    tenant: &mut Tenancy,
    draw: &mut Draw,
    out: &mut Out,
) -> anyhow::Result<()> {
    if tenant.event_types.len() < FEW {
        let number = tenant.number();
        let name = format!("{}.updated_{number}", draw.word()).parse()?;
        let mut event_type = Live::new(&tenant.id, EventTypeId::derive(&name).as_str());
        let register = EventTypeCommand::Register {
            name,
            description: Some(Text::new(&format!("Something of {} has changed.", draw.word()))?),
            schema: schema(draw).try_into()?,
        };
        event_type.act(register, tenant.meta("RegisterEventType", draw), out)?;
        tenant.event_types.push(event_type);
        return Ok(());
    }
    let meta = tenant.meta("ChangeEventType", draw);
    let Some(event_type) = draw.one_mut(&mut tenant.event_types) else {
        return Ok(());
    };
    let last = event_type.state().last_version();
    let command = if draw.once_in(2) && last < MAX_VERSIONS {
        EventTypeCommand::AddVersion {
            number: last + 1,
            schema: schema(draw).try_into()?,
        }
    } else {
        EventTypeCommand::Describe {
            description: Some(Some(Text::new(&format!("About {}.", draw.word()))?)),
            deprecated: None,
        }
    };
    event_type.act(command, meta, out)?;
    Ok(())
}

fn url(draw: &mut Draw) -> String {
    let path = draw.below(1_000_000);
    format!("https://hooks.{}.example.com/tidings/{path}", draw.word())
}

/// Another endpoint where there are few; otherwise one is changed, disabled, enabled, redriven and so on.
pub(super) fn change_endpoint(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    if tenant.endpoints.len() < 2 || (tenant.endpoints.len() < FEW && draw.once_in(4)) {
        let mut endpoint = Live::new(&tenant.id, EndpointId::new(draw.ulid()).as_str());
        let create = EndpointCommand::Create(EndpointSettings {
            url: url(draw).try_into()?,
            event_types: vec!["*".to_owned().try_into()?],
            description: Some(Text::new(draw.word())?),
            policy: Box::default(),
        });
        endpoint.act(create, tenant.meta("CreateEndpoint", draw), out)?;
        tenant.endpoints.push(endpoint);
        return Ok(());
    }
    let place = draw.below(tenant.endpoints.len());
    let enabled = tenant.endpoints[place].state().is_enabled();
    let (name, command) = match draw.below(10) {
        0 => ("RemoveEndpoint", EndpointCommand::Remove),
        1 => {
            let rotate = EndpointCommand::RotateSecret {
                secret: SecretId::new(draw.ulid()),
                at: draw.now(),
                overlap: domain::settings::OverlapHours::fixed::<24>(),
            };
            ("RotateEndpointSecret", rotate)
        }
        2 | 3 if enabled => {
            let reason = Text::new("it answered 410 Gone")?;
            ("DisableEndpoint", EndpointCommand::Disable { reason })
        }
        2..=4 if !enabled => ("EnableEndpoint", EndpointCommand::Enable),
        5 if enabled => ("RedriveDeadLetters", redrive(Selection::All)),
        6 if enabled => {
            let endpoint: EndpointId = tenant.endpoints[place].id().parse()?;
            let some = (0..3).map(|_| DeliveryId::derive(&tenant.id, &EventId::new(draw.ulid()), &endpoint));
            let selection = Selection::Deliveries(some.collect());
            ("RedriveDeadLetters", redrive(selection))
        }
        _ => {
            let change = EndpointChange {
                url: Some(url(draw).try_into()?),
                ..EndpointChange::default()
            };
            ("ChangeEndpoint", EndpointCommand::Change(change))
        }
    };
    let removed = command == EndpointCommand::Remove;
    let meta = tenant.meta(name, draw);
    tenant.endpoints[place].act(command, meta, out)?;
    if removed {
        tenant.endpoints.swap_remove(place);
    }
    Ok(())
}

pub(super) fn change_settings(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    let change = Change {
        strict_event_types: Edit::Set(draw.once_in(2)),
        invitation_lifetime_hours: Edit::Set(u32::try_from(1 + draw.below(720))?.try_into()?),
        ..Change::default()
    };
    let meta = tenant.meta("ChangeSettings", draw);
    tenant.settings.act(SettingsCommand::Change(change), meta, out)?;
    Ok(())
}

pub(super) fn change_tenant(tenant: &mut Tenancy, draw: &mut Draw, out: &mut Out) -> anyhow::Result<()> {
    let change = TenantChange {
        name: Some(Text::new(&format!("{} and partners", draw.person()))?),
        plan: Edit::Set(Text::new(["standard", "business"][draw.below(2)])?),
        ..TenantChange::default()
    };
    let at = draw.now();
    let meta = draw.meta(&TenantId::platform(), "ChangeTenant", Actor::PlatformAdmin);
    tenant
        .account
        .act(TenantCommand::Change { change, at }, meta, out)?;
    Ok(())
}

fn redrive(selection: Selection) -> EndpointCommand {
    EndpointCommand::Redrive {
        selection,
        rate: None,
    }
}
