//! The roles that every new tenant has.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ulid::Ulid;

use crate::{Grant, RoleId};

/// A role that every new tenant has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// Everything.
    Owner,
    /// All that the tenant's daily administration takes.
    Admin,
    /// What everybody of the tenant may do.
    Member,
    /// Seeing everything and changing nothing.
    Auditor,
}

impl Template {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Member, Self::Auditor];

    /// The template as a word, which is also its role's name at first.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Auditor => "auditor",
        }
    }

    /// What its role is for.
    pub fn description(self) -> &'static str {
        match self {
            Self::Owner => "May do everything.",
            Self::Admin => "Administers users, roles, teams, endpoints and events.",
            Self::Member => "Reads and changes what is its own, and publishes events.",
            Self::Auditor => "Sees everything and changes nothing.",
        }
    }

    /// What its role grants at first.
    pub fn permissions(self) -> BTreeSet<Grant> {
        let texts: &[&str] = match self {
            Self::Owner => &["*"],
            Self::Admin => ADMIN,
            Self::Member => MEMBER,
            Self::Auditor => &["*.read.tenant"],
        };
        texts.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// The id of its role in a tenant: the same whoever computes it, so that provisioning twice makes it once.
    pub fn id(self, tenant: Ulid) -> RoleId {
        let mut hash = Sha256::new();
        hash.update(tenant.to_bytes());
        hash.update(self.as_str().as_bytes());
        let digest = hash.finalize();
        let mut bytes = tenant.to_bytes();
        // The first six bytes are the time: the roles are as old as their tenant.
        bytes[6..].copy_from_slice(&digest[..10]);
        RoleId::new(Ulid::from_bytes(bytes))
    }
}

const ADMIN: &[&str] = &[
    "*.read.tenant",
    "users.*.tenant",
    "roles.*.tenant",
    "teams.*.tenant",
    "invitations.*.tenant",
    "endpoints.*.tenant",
    "events.*.tenant",
    "event_types.*.tenant",
    "deliveries.*.tenant",
    "sources.*.tenant",
];

const MEMBER: &[&str] = &[
    "*.read.own",
    "*.read.team",
    "users.write.own",
    "events.publish.tenant",
];

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that are no grants would be left out silently.
    #[test]
    fn every_grant_of_a_template_is_one() {
        let counts = Template::ALL.map(|template| template.permissions().len());
        assert_eq!(counts, [1, ADMIN.len(), MEMBER.len(), 1]);
    }

    #[test]
    fn the_ids_differ_by_tenant_and_template_and_are_as_old_as_the_tenant() {
        let (one, other) = (Ulid::from_parts(7, 1), Ulid::from_parts(7, 2));
        let ids: BTreeSet<_> = [one, other]
            .into_iter()
            .flat_map(|tenant| Template::ALL.map(|template| template.id(tenant)))
            .collect();
        assert_eq!(ids.len(), 8);
        let tenant = one.to_string();
        assert!(
            Template::Owner
                .id(one)
                .as_str()
                .starts_with(&format!("rol_{}", &tenant[..9]))
        );
    }
}
