//! The permission algebra: what a call needs, and what a key, a role or a person is granted.
//!
//! A [`Permission`] is `resource.action.scope`, as `users.read.tenant`. A [`Grant`] is a pattern of permissions:
//! `*` for all, or three parts of which each may be `*`, as `users.*.tenant` or `*.read.tenant`. A wider scope
//! covers a narrower one: who may read the tenant's users may read their own.
//!
//! Nothing is allowed unless a grant covers it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest resource or action, in bytes.
const MAX_PART: usize = 40;
const ANY: &str = "*";

/// A text that is neither a permission nor a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPermission {
    /// Not a permission.
    #[error(
        "must be `resource.action.scope`: two words of 1 to 40 characters of a-z, 0-9, _ and -, beginning with a \
         letter, and own, team or tenant"
    )]
    Permission,
    /// Not a grant.
    #[error(
        "must be `*` or `resource.action.scope`, as `users.read.tenant`: each of the three may be `*`; words are 1 to \
         40 characters of a-z, 0-9, _ and -, beginning with a letter; the scope is own, team or tenant"
    )]
    Grant,
}

/// How far a permission reaches; a wider scope covers the narrower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// What belongs to the one who acts.
    Own,
    /// What belongs to a team of theirs.
    Team,
    /// All of the tenant.
    Tenant,
}

impl Scope {
    /// The scope as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Team => "team",
            Self::Tenant => "tenant",
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Own, Self::Team, Self::Tenant]
            .into_iter()
            .find(|scope| scope.as_str() == text)
    }
}

/// Something one may be allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Permission {
    resource: Cow<'static, str>,
    action: Cow<'static, str>,
    scope: Scope,
}

impl Permission {
    /// A permission known to the program, on all of a tenant.
    pub const fn on_tenant(resource: &'static str, action: &'static str) -> Self {
        Self {
            resource: Cow::Borrowed(resource),
            action: Cow::Borrowed(action),
            scope: Scope::Tenant,
        }
    }

    /// On what kind of thing.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// What is done with it.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// The same on what belongs to the one who acts.
    #[must_use]
    pub fn on_own(&self) -> Self {
        Self {
            scope: Scope::Own,
            ..self.clone()
        }
    }

    /// How far it reaches.
    pub fn scope(&self) -> Scope {
        self.scope
    }
}

impl FromStr for Permission {
    type Err = InvalidPermission;

    fn from_str(text: &str) -> Result<Self, InvalidPermission> {
        let invalid = InvalidPermission::Permission;
        let [resource, action, scope] = parts(text).ok_or(invalid.clone())?;
        if !is_word(resource) || !is_word(action) {
            return Err(invalid);
        }
        Ok(Self {
            resource: Cow::Owned(resource.to_owned()),
            action: Cow::Owned(action.to_owned()),
            scope: Scope::read(scope).ok_or(invalid)?,
        })
    }
}

impl TryFrom<String> for Permission {
    type Error = InvalidPermission;

    fn try_from(text: String) -> Result<Self, InvalidPermission> {
        text.parse()
    }
}

impl From<Permission> for String {
    fn from(permission: Permission) -> Self {
        permission.to_string()
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.resource, self.action, self.scope.as_str())
    }
}

/// A pattern of permissions that somebody is granted, or denied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grant {
    /// None: any.
    resource: Option<Cow<'static, str>>,
    action: Option<Cow<'static, str>>,
    scope: Scope,
}

impl Grant {
    /// Everything.
    pub const fn everything() -> Self {
        Self {
            resource: None,
            action: None,
            scope: Scope::Tenant,
        }
    }

    /// Whether it grants this permission.
    pub fn covers(&self, permission: &Permission) -> bool {
        let fits = |granted: &Option<Cow<'_, str>>, needed: &str| {
            granted.as_deref().is_none_or(|granted| granted == needed)
        };
        fits(&self.resource, &permission.resource)
            && fits(&self.action, &permission.action)
            && self.scope >= permission.scope
    }

    /// Whether every permission that `other` grants is granted by this one too.
    pub fn implies(&self, other: &Self) -> bool {
        let fits = |wide: &Option<Cow<'_, str>>, narrow: &Option<Cow<'_, str>>| {
            wide.as_deref().is_none_or(|wide| narrow.as_deref() == Some(wide))
        };
        fits(&self.resource, &other.resource)
            && fits(&self.action, &other.action)
            && self.scope >= other.scope
    }
}

impl From<Permission> for Grant {
    fn from(permission: Permission) -> Self {
        Self {
            resource: Some(permission.resource),
            action: Some(permission.action),
            scope: permission.scope,
        }
    }
}

impl FromStr for Grant {
    type Err = InvalidPermission;

    fn from_str(text: &str) -> Result<Self, InvalidPermission> {
        if text == ANY {
            return Ok(Self::everything());
        }
        let invalid = InvalidPermission::Grant;
        let word = |text: &str| match text {
            ANY => Ok(None),
            word if is_word(word) => Ok(Some(Cow::Owned(word.to_owned()))),
            _ => Err(invalid.clone()),
        };
        let [resource, action, scope] = parts(text).ok_or(invalid.clone())?;
        Ok(Self {
            resource: word(resource)?,
            action: word(action)?,
            scope: match scope {
                ANY => Scope::Tenant,
                scope => Scope::read(scope).ok_or(invalid)?,
            },
        })
    }
}

impl TryFrom<String> for Grant {
    type Error = InvalidPermission;

    fn try_from(text: String) -> Result<Self, InvalidPermission> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> Self {
        grant.to_string()
    }
}

impl fmt::Display for Grant {
    /// The one canonical form: `*.*.tenant` is written `*`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &Option<Cow<'static, str>>| part.clone().unwrap_or(Cow::Borrowed(ANY));
        if *self == Self::everything() {
            return f.write_str(ANY);
        }
        let (resource, action) = (part(&self.resource), part(&self.action));
        write!(f, "{resource}.{action}.{}", self.scope.as_str())
    }
}

fn parts(text: &str) -> Option<[&str; 3]> {
    let mut parts = text.split('.');
    let found = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(found)
}

fn is_word(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    (1..=MAX_PART).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permission(text: &str) -> Permission {
        text.parse().unwrap()
    }

    fn grant(text: &str) -> Grant {
        text.parse().unwrap()
    }

    #[test]
    fn a_grant_covers_what_its_parts_allow_and_nothing_else() {
        let needed = permission("users.read.team");
        for text in [
            "*",
            "*.*.*",
            "users.*.tenant",
            "*.read.team",
            "users.read.team",
            "users.read.tenant",
        ] {
            assert!(grant(text).covers(&needed), "{text}");
        }
        for text in [
            "users.read.own",
            "users.write.tenant",
            "roles.read.tenant",
            "*.*.own",
            "user.read.tenant",
        ] {
            assert!(!grant(text).covers(&needed), "{text}");
        }
    }

    #[test]
    fn what_is_not_of_the_form_is_refused() {
        for text in [
            "",
            "users",
            "users.read",
            "users.read.all",
            "users.read.tenant.x",
            "Users.read.own",
            "users..own",
            "us*.read.own",
            "users.read. own",
            "1.read.own",
        ] {
            assert!(text.parse::<Permission>().is_err(), "{text:?}");
            assert!(text.parse::<Grant>().is_err(), "{text:?}");
        }
        assert!("users.*.own".parse::<Permission>().is_err());
        assert!(
            format!("{}.read.own", "a".repeat(41))
                .parse::<Permission>()
                .is_err()
        );
    }

    #[test]
    fn words_may_be_long_and_have_more_than_letters() {
        let longest = format!("{}.re-send_2.own", "a".repeat(MAX_PART));
        assert_eq!(permission(&longest).to_string(), longest);
        assert_eq!(String::from(permission(&longest)), longest);
        let text = "dead-letters.re-send_2.own";
        assert_eq!(String::from(grant(text)), text);
    }

    #[test]
    fn a_permission_tells_its_parts_and_on_ones_own_is_less() {
        let whole = Permission::on_tenant("users", "read");
        assert_eq!(
            (whole.resource(), whole.action(), whole.scope()),
            ("users", "read", Scope::Tenant)
        );
        let own = whole.on_own();
        assert_eq!(own, permission("users.read.own"));
        assert!(Grant::from(whole.clone()).covers(&own));
        assert!(!Grant::from(own).covers(&whole));
    }

    fn part() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["*", "a", "b"])
    }

    fn any_grant() -> impl Strategy<Value = Grant> {
        let scope = prop::sample::select(vec!["*", "own", "team", "tenant"]);
        (part(), part(), scope)
            .prop_map(|(resource, action, scope)| grant(&format!("{resource}.{action}.{scope}")))
    }

    proptest! {
        /// `implies` is told by `covers`: over every permission there can be of these parts and one more.
        #[test]
        fn a_grant_implies_what_it_covers_whole(wide in any_grant(), narrow in any_grant()) {
            let mut all = Vec::new();
            for resource in ["a", "b", "other"] {
                for action in ["a", "b", "other"] {
                    for scope in ["own", "team", "tenant"] {
                        all.push(permission(&format!("{resource}.{action}.{scope}")));
                    }
                }
            }
            let whole = all.iter().all(|one| !narrow.covers(one) || wide.covers(one));
            prop_assert_eq!(wide.implies(&narrow), whole);
        }

        #[test]
        fn a_grant_is_read_as_it_is_written(one in any_grant()) {
            prop_assert_eq!(grant(&one.to_string()), one);
        }
    }
}
