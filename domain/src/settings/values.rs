//! The settings themselves: their types, bounds and defaults.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Bounded;
use crate::edit::Edit;
use crate::user::Email;

/// How long an invitation can be accepted, in hours: 1 to 720.
pub type InvitationHours = Bounded<1, 720>;
/// How deep teams can lie in each other: 1 (no team in a team) to 20.
pub type TeamDepth = Bounded<1, 20>;
/// How long an old secret is good beside the new one, in hours: 0 to 168.
pub type OverlapHours = Bounded<0, 168>;
/// The longest an API key can be valid, in days: 1 to 3650.
pub type KeyLifetimeDays = Bounded<1, 3650>;

/// For how many days the audit trail is shown and kept in the read model: 30 to 36,500.
pub type RetentionDays = Bounded<30, 36_500>;

/// What holds for a tenant. `Values::default()` are the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    /// Whether events of types that are not registered are refused.
    pub strict_event_types: bool,
    /// How long an invitation can be accepted.
    pub invitation_lifetime_hours: InvitationHours,
    /// How deep teams can lie in each other.
    pub team_max_depth: TeamDepth,
    /// How long an endpoint's old secret signs beside the new one, and an old API key is accepted.
    pub secret_rotation_overlap_hours: OverlapHours,
    /// The longest a new API key can be valid; none: a key need not expire.
    pub api_key_max_lifetime_days: Option<KeyLifetimeDays>,
    /// The domains in which users' e-mail addresses may be; empty: in any.
    pub allowed_email_domains: AllowedDomains,
    /// For how long the audit trail is kept; none: for ever.
    pub audit_retention_days: Option<RetentionDays>,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            strict_event_types: false,
            invitation_lifetime_hours: InvitationHours::fixed::<168>(),
            team_max_depth: TeamDepth::fixed::<8>(),
            secret_rotation_overlap_hours: OverlapHours::fixed::<24>(),
            api_key_max_lifetime_days: None,
            allowed_email_domains: AllowedDomains::default(),
            audit_retention_days: None,
        }
    }
}

impl Values {
    /// Whether a user may have this address.
    pub fn admits(&self, email: &Email) -> bool {
        let domains = &self.allowed_email_domains.0;
        let (_, domain) = email.as_str().rsplit_once('@').unwrap_or_default();
        domains.is_empty()
            || EmailDomain::try_from(domain.to_owned()).is_ok_and(|domain| domains.contains(&domain))
    }
}

/// What a tenant has set itself; what it has not is none and follows the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// See [`Values::strict_event_types`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_event_types: Option<bool>,
    /// See [`Values::invitation_lifetime_hours`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invitation_lifetime_hours: Option<InvitationHours>,
    /// See [`Values::team_max_depth`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team_max_depth: Option<TeamDepth>,
    /// See [`Values::secret_rotation_overlap_hours`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_rotation_overlap_hours: Option<OverlapHours>,
    /// See [`Values::api_key_max_lifetime_days`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_max_lifetime_days: Option<KeyLifetimeDays>,
    /// See [`Values::allowed_email_domains`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_email_domains: Option<AllowedDomains>,
    /// See [`Values::audit_retention_days`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_retention_days: Option<RetentionDays>,
}

impl Overrides {
    /// What holds with these.
    pub fn values(&self) -> Values {
        let default = Values::default();
        Values {
            strict_event_types: self.strict_event_types.unwrap_or(default.strict_event_types),
            invitation_lifetime_hours: self
                .invitation_lifetime_hours
                .unwrap_or(default.invitation_lifetime_hours),
            team_max_depth: self.team_max_depth.unwrap_or(default.team_max_depth),
            secret_rotation_overlap_hours: self
                .secret_rotation_overlap_hours
                .unwrap_or(default.secret_rotation_overlap_hours),
            api_key_max_lifetime_days: self
                .api_key_max_lifetime_days
                .or(default.api_key_max_lifetime_days),
            allowed_email_domains: self
                .allowed_email_domains
                .clone()
                .unwrap_or(default.allowed_email_domains),
            audit_retention_days: self.audit_retention_days.or(default.audit_retention_days),
        }
    }

    /// These, changed.
    pub(super) fn with(&self, change: Change) -> Self {
        Self {
            strict_event_types: change.strict_event_types.of(self.strict_event_types),
            invitation_lifetime_hours: change
                .invitation_lifetime_hours
                .of(self.invitation_lifetime_hours),
            team_max_depth: change.team_max_depth.of(self.team_max_depth),
            secret_rotation_overlap_hours: change
                .secret_rotation_overlap_hours
                .of(self.secret_rotation_overlap_hours),
            api_key_max_lifetime_days: change
                .api_key_max_lifetime_days
                .of(self.api_key_max_lifetime_days),
            allowed_email_domains: change
                .allowed_email_domains
                .of(self.allowed_email_domains.clone()),
            audit_retention_days: change.audit_retention_days.of(self.audit_retention_days),
        }
    }
}

/// What shall become of each setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// See [`Values::strict_event_types`].
    pub strict_event_types: Edit<bool>,
    /// See [`Values::invitation_lifetime_hours`].
    pub invitation_lifetime_hours: Edit<InvitationHours>,
    /// See [`Values::team_max_depth`].
    pub team_max_depth: Edit<TeamDepth>,
    /// See [`Values::secret_rotation_overlap_hours`].
    pub secret_rotation_overlap_hours: Edit<OverlapHours>,
    /// See [`Values::api_key_max_lifetime_days`].
    pub api_key_max_lifetime_days: Edit<KeyLifetimeDays>,
    /// See [`Values::allowed_email_domains`].
    pub allowed_email_domains: Edit<AllowedDomains>,
    /// See [`Values::audit_retention_days`].
    pub audit_retention_days: Edit<RetentionDays>,
}

/// A text that is not a domain in which e-mail addresses are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a domain such as example.org, without @ and without wildcards")]
pub struct InvalidDomain;

/// A domain of e-mail addresses, in lower case and, where it is international, in its ASCII form (RFC 5891).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailDomain(String);

impl EmailDomain {
    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EmailDomain {
    type Error = InvalidDomain;

    fn try_from(text: String) -> Result<Self, InvalidDomain> {
        let text = text.trim();
        // The parser of URLs would decode `%41` first.
        if text.contains('%') {
            return Err(InvalidDomain);
        }
        let Ok(url::Host::Domain(domain)) = url::Host::parse(text) else {
            return Err(InvalidDomain);
        };
        let label = |label: &str| {
            let alphabet = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            alphabet && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
        };
        let fits = domain.len() <= 253 && domain.contains('.') && domain.split('.').all(label);
        if fits {
            Ok(Self(domain))
        } else {
            Err(InvalidDomain)
        }
    }
}

impl From<EmailDomain> for String {
    fn from(domain: EmailDomain) -> Self {
        domain.0
    }
}

impl fmt::Display for EmailDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// More domains than a tenant can name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must hold at most {} domains", AllowedDomains::MAX)]
pub struct TooManyDomains;

/// The domains in which users' e-mail addresses may be, each exactly: subdomains are named themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<EmailDomain>", into = "Vec<EmailDomain>")]
pub struct AllowedDomains(BTreeSet<EmailDomain>);

impl AllowedDomains {
    /// The most a tenant can name.
    pub const MAX: usize = 50;

    /// The domains, in their alphabetical order; none: every domain.
    pub fn iter(&self) -> impl Iterator<Item = &EmailDomain> {
        self.0.iter()
    }
}

impl TryFrom<Vec<EmailDomain>> for AllowedDomains {
    type Error = TooManyDomains;

    fn try_from(domains: Vec<EmailDomain>) -> Result<Self, TooManyDomains> {
        if domains.len() > Self::MAX {
            return Err(TooManyDomains);
        }
        Ok(Self(domains.into_iter().collect()))
    }
}

impl From<AllowedDomains> for Vec<EmailDomain> {
    fn from(domains: AllowedDomains) -> Self {
        domains.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(names: &[&str]) -> Result<AllowedDomains, serde_json::Error> {
        serde_json::from_value(serde_json::json!(names))
    }

    #[test]
    fn addresses_are_admitted_by_their_domain_whatever_its_case_and_script() {
        let email = |text: &str| Email::try_from(text.to_owned()).unwrap();
        let values = Values {
            allowed_email_domains: domains(&["Example.org", "müller.example"]).unwrap(),
            ..Values::default()
        };
        for good in ["ada@example.org", "ADA@EXAMPLE.ORG", "ada@xn--mller-kva.example"] {
            assert!(values.admits(&email(good)), "{good}");
            assert!(Values::default().admits(&email(good)), "{good}");
        }
        for bad in ["ada@example.net", "ada@sub.example.org", "ada@notexample.org"] {
            assert!(!values.admits(&email(bad)), "{bad}");
        }
    }

    #[test]
    fn only_domains_are_taken_and_not_too_many() {
        for text in [
            "",
            "org",
            "@example.org",
            "*.example.org",
            "192.0.2.1",
            "a..b",
            "-a.org",
            "%41.org",
            "a b.org",
        ] {
            assert!(domains(&[text]).is_err(), "{text:?} was accepted");
        }
        let many: Vec<_> = (0..=AllowedDomains::MAX)
            .map(|i| format!("d{i}.example"))
            .collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let error = domains(&many).unwrap_err().to_string();
        assert!(error.contains("at most 50 domains"), "{error}");
        assert!(domains(&many[1..]).is_ok());
    }

    #[test]
    fn a_missing_setting_of_an_old_event_is_not_set() {
        let overrides: Overrides = serde_json::from_str(r#"{"team_max_depth":3}"#).unwrap();
        assert_eq!(overrides.values().team_max_depth.get(), 3);
        assert_eq!(overrides.values().invitation_lifetime_hours.get(), 168);
        assert_eq!(
            serde_json::to_string(&overrides).unwrap(),
            r#"{"team_max_depth":3}"#
        );
    }

    #[test]
    fn the_allowed_domains_are_told_in_order_and_in_their_ascii_form() {
        let allowed = domains(&["müller.example", "Example.org"]).unwrap();
        let names: Vec<_> = allowed.iter().map(EmailDomain::as_str).collect();
        assert_eq!(names, ["example.org", "xn--mller-kva.example"]);
    }
}
