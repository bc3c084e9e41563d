//! What a user may do: the naive evaluation of its roles and its own permissions, which says why.
//!
//! Nothing is allowed unless something grants it; what a user is denied wins over all that grants it; a user that is
//! not active may do nothing. An index that answers faster must answer the same.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::role::Roles;
use crate::user::{User, UserStatus};
use crate::{Grant, Permission, RoleId};

/// What a user's own word on a permission does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It allows.
    Allow,
    /// It denies, whatever else allows.
    Deny,
}

/// Something that a user is allowed or denied, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// What.
    pub grant: Grant,
    /// Allowed or denied.
    pub effect: Effect,
    /// The way to it: the user's role, the role that one inherits from, and so on to the role that grants it. Empty
    /// where the user has it by itself.
    pub through: Vec<RoleId>,
}

/// Why a user may do something or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This grants it.
    Allowed(Right),
    /// This denies it.
    Denied(Right),
    /// Nothing grants it.
    NotGranted,
    /// The user is not active.
    Inactive,
}

impl Verdict {
    /// Whether the user may.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, right) = match self {
            Self::NotGranted => return f.write_str("nothing grants it"),
            Self::Inactive => return f.write_str("the user is not active"),
            Self::Allowed(right) => ("granted", right),
            Self::Denied(right) => ("denied", right),
        };
        write!(f, "{word} by {}", right.grant)?;
        if right.through.is_empty() {
            return f.write_str(" of the user itself");
        }
        let ids: Vec<&str> = right.through.iter().map(RoleId::as_str).collect();
        write!(f, " through {}", ids.join(" > "))
    }
}

/// All that a user is allowed and denied: its own first, then its roles', the shortest ways first. A user that is not
/// active has its rights still, and they are worth nothing.
pub fn rights(user: &User, roles: &Roles) -> Vec<Right> {
    gathered(user.permissions(), user.roles(), roles)
}

fn gathered<'a>(
    own: impl IntoIterator<Item = (&'a Permission, Effect)>,
    has: impl IntoIterator<Item = &'a RoleId>,
    roles: &'a Roles,
) -> Vec<Right> {
    let own = own.into_iter().map(|(permission, effect)| Right {
        grant: permission.clone().into(),
        effect,
        through: Vec::new(),
    });
    let inherited = roles.reach(has).into_iter().flat_map(|(way, role)| {
        role.permissions.iter().map(move |grant| Right {
            grant: grant.clone(),
            effect: Effect::Allow,
            through: way.iter().copied().cloned().collect(),
        })
    });
    own.chain(inherited).collect()
}

/// Whether a user may do something, and why.
pub fn check(user: &User, roles: &Roles, permission: &Permission) -> Verdict {
    if user.status() != Some(UserStatus::Active) {
        return Verdict::Inactive;
    }
    judge(user.permissions(), user.roles(), roles, permission)
}

/// Whether an active user may do something, and why, by what it is allowed and denied by itself and the roles it has.
pub fn judge<'a>(
    own: impl IntoIterator<Item = (&'a Permission, Effect)>,
    has: impl IntoIterator<Item = &'a RoleId>,
    roles: &'a Roles,
    permission: &Permission,
) -> Verdict {
    let rights = gathered(own, has, roles);
    let find = |effect| {
        let mut fitting = rights.iter().filter(|right| right.effect == effect);
        fitting.find(|right| right.grant.covers(permission)).cloned()
    };
    if let Some(denial) = find(Effect::Deny) {
        return Verdict::Denied(denial);
    }
    find(Effect::Allow).map_or(Verdict::NotGranted, Verdict::Allowed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cqrs_es::Aggregate;
    use ulid::Ulid;

    use super::*;
    use crate::Text;
    use crate::role::Role;
    use crate::user::{Attributes, Email, UserEvent};

    fn id(number: u128) -> RoleId {
        RoleId::new(Ulid(number))
    }

    fn roles(of: &[(u128, &[&str], &[u128])]) -> Roles {
        let role = |(number, permissions, inherits): &(u128, &[&str], &[u128])| {
            let role = Role {
                name: Text::new(&number.to_string()).unwrap(),
                description: None,
                permissions: permissions.iter().map(|text| text.parse().unwrap()).collect(),
                inherits: inherits.iter().copied().map(id).collect(),
                template: None,
            };
            (id(*number), role)
        };
        of.iter().map(role).collect()
    }

    fn user(has: &[u128], own: &[(&str, Effect)]) -> User {
        let mut user = User::default();
        user.apply(UserEvent::Registered {
            email: Email::try_from("ada@example.org".to_owned()).unwrap(),
            name: Text::new("Ada").unwrap(),
            attributes: Attributes::default(),
            roles: has.iter().copied().map(id).collect::<BTreeSet<_>>(),
        });
        for (permission, effect) in own {
            user.apply(UserEvent::PermissionSet {
                permission: permission.parse().unwrap(),
                effect: *effect,
                was: None,
            });
        }
        user
    }

    fn verdict(user: &User, roles: &Roles, permission: &str) -> String {
        check(user, roles, &permission.parse().unwrap()).to_string()
    }

    #[test]
    fn nothing_is_allowed_that_nothing_grants() {
        let roles = roles(&[(1, &["users.read.tenant"], &[])]);
        let nobody = User::default();
        assert_eq!(
            verdict(&nobody, &roles, "users.read.own"),
            "the user is not active"
        );
        let plain = user(&[], &[]);
        assert_eq!(verdict(&plain, &roles, "users.read.own"), "nothing grants it");
        let reader = user(&[1], &[]);
        assert_eq!(verdict(&reader, &roles, "users.update.own"), "nothing grants it");
        assert!(check(&reader, &roles, &"users.read.own".parse().unwrap()).is_allowed());
        let of_a_retired_role = user(&[9], &[]);
        assert_eq!(
            verdict(&of_a_retired_role, &roles, "users.read.own"),
            "nothing grants it"
        );
    }

    #[test]
    fn a_right_is_found_through_the_shortest_way() {
        let roles = roles(&[
            (1, &[], &[2]),
            (2, &[], &[3]),
            (3, &["users.read.tenant"], &[]),
            (4, &[], &[3]),
        ]);
        let expected = format!("granted by users.read.tenant through {} > {}", id(4), id(3));
        assert_eq!(verdict(&user(&[1, 4], &[]), &roles, "users.read.own"), expected);
    }

    #[test]
    fn what_is_denied_wins_over_all_that_grants_it() {
        let roles = roles(&[(1, &["*"], &[])]);
        let own = [
            ("users.read.tenant", Effect::Deny),
            ("users.update.own", Effect::Deny),
            ("teams.read.own", Effect::Allow),
        ];
        let user = user(&[1], &own);
        for (permission, allowed) in [
            ("users.read.tenant", false),
            ("users.read.own", false),
            ("users.update.own", false),
            ("users.update.tenant", true),
            ("teams.read.own", true),
        ] {
            assert_eq!(
                check(&user, &roles, &permission.parse().unwrap()).is_allowed(),
                allowed,
                "{permission}"
            );
        }
        assert_eq!(
            verdict(&user, &roles, "users.read.own"),
            "denied by users.read.tenant of the user itself"
        );
    }

    #[test]
    fn a_deactivated_user_keeps_its_rights_and_may_do_nothing() {
        let roles = roles(&[(1, &["*"], &[])]);
        let mut user = user(&[1], &[]);
        user.apply(UserEvent::Deactivated { reason: None });
        assert_eq!(rights(&user, &roles).len(), 1);
        assert_eq!(
            check(&user, &roles, &"users.read.own".parse().unwrap()),
            Verdict::Inactive
        );
        user.apply(UserEvent::Reactivated {});
        assert!(check(&user, &roles, &"users.read.own".parse().unwrap()).is_allowed());
    }

    /// Roles are checked for circles when they change; a graph that has one all the same must not hang a check.
    #[test]
    fn a_circle_ends() {
        let roles = roles(&[(1, &[], &[2]), (2, &["users.read.own"], &[1])]);
        assert!(check(&user(&[1], &[]), &roles, &"users.read.own".parse().unwrap()).is_allowed());
    }
}
