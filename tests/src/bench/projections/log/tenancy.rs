//! A tenant while the log is made: of each kind of thing those that may still change.
//!
//! Of users only the last few dozen are remembered: old ones rest, as most users do.

use std::collections::BTreeSet;

use domain::api_key::{ApiKey, ApiKeyCommand, By, KeySettings, Scopes};
use domain::endpoint::Endpoint;
use domain::event_type::EventTypeRegistration;
use domain::invitation::Invitation;
use domain::role::{Roles, RolesCommand};
use domain::settings::Settings;
use domain::team::Teams;
use domain::tenant::{Slug, Tenant, TenantCommand};
use domain::user::User;
use domain::{Actor, Grant, KeyId, Meta, RoleId, TeamId, TenantId, Text, UserId};

use super::draw::Draw;
use super::live::{Live, Out};

/// How many users are remembered, and how many of each other kind of thing.
pub(super) const USERS: usize = 48;
pub(super) const FEW: usize = 12;

/// One tenant.
#[derive(Debug)]
pub(super) struct Tenancy {
    pub(super) id: TenantId,
    pub(super) account: Live<Tenant>,
    pub(super) roles: Live<Roles>,
    pub(super) teams: Live<Teams>,
    pub(super) team_ids: Vec<TeamId>,
    pub(super) members: Vec<(TeamId, UserId)>,
    pub(super) settings: Live<Settings>,
    pub(super) users: Vec<Live<User>>,
    /// The first is the owner's and is never revoked.
    pub(super) keys: Vec<Live<ApiKey>>,
    pub(super) endpoints: Vec<Live<Endpoint>>,
    pub(super) event_types: Vec<Live<EventTypeRegistration>>,
    pub(super) invitations: Vec<Live<Invitation>>,
    /// Numbers what must be unique in the tenant.
    pub(super) count: u64,
}

impl Tenancy {
    /// A tenant comes into being, with its owner's key and the roles every tenant has.
    pub(super) fn provision(rank: usize, draw: &mut Draw, out: &mut Out) -> anyhow::Result<Self> {
        let ulid = draw.ulid();
        let (id, platform) = (TenantId::new(ulid), TenantId::platform());
        let mut tenancy = Self {
            account: Live::new(&platform, id.as_str()),
            roles: Live::new(&id, id.as_str()),
            teams: Live::new(&id, id.as_str()),
            team_ids: Vec::new(),
            members: Vec::new(),
            settings: Live::new(&id, id.as_str()),
            users: Vec::new(),
            keys: Vec::new(),
            endpoints: Vec::new(),
            event_types: Vec::new(),
            invitations: Vec::new(),
            count: 0,
            id: id.clone(),
        };
        let provision = TenantCommand::Provision {
            id: id.clone(),
            name: Text::new(&format!("{} {rank}", draw.person()))?,
            slug: Slug::try_from(format!("{}-{rank}", draw.word()))?,
            plan: Some(Text::new("standard")?),
        };
        let meta = draw.meta(&platform, "ProvisionTenant", Actor::PlatformAdmin);
        tenancy.account.act(provision, meta, out)?;
        let install = RolesCommand::Install { tenant: ulid };
        let meta = draw.meta(&id, "InstallRoles", Actor::PlatformAdmin);
        tenancy.roles.act(install, meta, out)?;
        tenancy.issue_key("owner", Actor::PlatformAdmin, draw, out)?;
        Ok(tenancy)
    }

    /// Makes another key.
    pub(super) fn issue_key(
        &mut self,
        name: &str,
        actor: Actor,
        draw: &mut Draw,
        out: &mut Out,
    ) -> anyhow::Result<()> {
        let mut key = Live::new(&self.id, KeyId::new(draw.ulid()).as_str());
        let settings = KeySettings {
            name: Text::new(name)?,
            scopes: Scopes::everything(),
            expires_at: None,
            rate_limit: None,
        };
        let issue = ApiKeyCommand::Issue {
            settings,
            by: by(draw),
        };
        let meta = draw.meta(&self.id, "IssueApiKey", actor);
        key.act(issue, meta, out)?;
        self.keys.push(key);
        Ok(())
    }

    /// Where a command of one of the tenant's keys comes from: half of them from the owner's.
    pub(super) fn meta(&self, command: &str, draw: &mut Draw) -> Meta {
        let key = if draw.once_in(2) {
            self.keys.first()
        } else {
            draw.one(&self.keys)
        };
        let actor = key.map_or(Actor::PlatformAdmin, |key| Actor::ApiKey(key.id().to_owned()));
        draw.meta(&self.id, command, actor)
    }

    /// Another number.
    pub(super) fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Up to two of the tenant's roles.
    pub(super) fn some_roles(&self, draw: &mut Draw) -> BTreeSet<RoleId> {
        let all: Vec<&RoleId> = self.roles.state().iter().map(|(id, _)| id).collect();
        let some = (0..draw.below(3)).filter_map(|_| draw.one(&all).copied().cloned());
        some.collect()
    }

    /// One of the tenant's roles.
    pub(super) fn role(&self, draw: &mut Draw) -> Option<RoleId> {
        let all: Vec<&RoleId> = self.roles.state().iter().map(|(id, _)| id).collect();
        draw.one(&all).copied().cloned()
    }
}

/// One who may do everything, now.
pub(super) fn by(draw: &Draw) -> By {
    By {
        at: draw.now(),
        grants: vec![Grant::everything()],
        longest: None,
    }
}

/// Remembers a thing, in the place of another where there are enough.
pub(super) fn remember<T>(things: &mut Vec<T>, most: usize, thing: T, draw: &mut Draw) {
    if things.len() < most {
        things.push(thing);
    } else {
        let place = draw.below(things.len());
        things[place] = thing;
    }
}
