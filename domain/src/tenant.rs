//! Tenants: the isolation unit of the installation.
//!
//! Rules:
//! * A tenant is provisioned once, under a slug no other tenant of the installation has.
//! * It can be renamed as often as wanted; its slug never changes.
//!
//! Tenants live in the log of the platform's own tenant, so that a slug can be claimed in the append that
//! provisions.

use std::fmt;

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::{Claim, Root, TenantId, Text};

/// A text that is not a slug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 3 to 40 characters of a-z, 0-9 and -, beginning and ending with a letter or digit")]
pub struct InvalidSlug;

/// A tenant's short name in addresses, as `acme`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slug(String);

impl Slug {
    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Slug {
    type Error = InvalidSlug;

    fn try_from(text: String) -> Result<Self, InvalidSlug> {
        let alphabet = text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let ends = !text.starts_with('-') && !text.ends_with('-');
        if alphabet && ends && (3..=40).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(InvalidSlug)
        }
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> Self {
        slug.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tenant's display name.
pub type TenantName = Text<100>;
/// The name of a plan; what it allows is the installation's affair.
pub type PlanName = Text<40>;

/// The state of one tenant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    provisioned: Option<Provisioned>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Provisioned {
    id: TenantId,
    name: TenantName,
}

impl Tenant {
    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.provisioned.is_some()
    }
}

/// What can be asked of a tenant.
#[derive(Debug, Clone, PartialEq)]
pub enum TenantCommand {
    /// Bring a tenant into being.
    Provision {
        /// Its id, drawn by the caller.
        id: TenantId,
        /// Its display name.
        name: TenantName,
        /// Its slug.
        slug: Slug,
        /// Its plan.
        plan: Option<PlanName>,
    },
    /// Change the display name.
    Rename {
        /// The new one.
        name: TenantName,
    },
}

/// What has happened to a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum TenantEvent {
    /// It came into being.
    #[serde(rename = "tenant.provisioned")]
    Provisioned {
        /// Its id.
        id: TenantId,
        /// Its display name.
        name: TenantName,
        /// Its slug, unique in the installation.
        slug: Slug,
        /// Its plan.
        plan: Option<PlanName>,
    },
    /// Its display name changed.
    #[serde(rename = "tenant.renamed")]
    Renamed {
        /// The old one.
        from: TenantName,
        /// The new one.
        to: TenantName,
    },
}

domain_event!(TenantEvent {
    Provisioned => ("tenant.provisioned", 1),
    Renamed => ("tenant.renamed", 1),
});

/// Why a tenant says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TenantRejection {
    /// There is a tenant of this id.
    #[error("the tenant exists already")]
    AlreadyProvisioned,
    /// There is none.
    #[error("there is no such tenant")]
    NotFound,
}

impl cqrs_es::Aggregate for Tenant {
    const TYPE: &'static str = "tenant";
    type Command = TenantCommand;
    type Event = TenantEvent;
    type Error = TenantRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: TenantCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), TenantRejection> {
        let event = match (command, &self.provisioned) {
            (TenantCommand::Provision { .. }, Some(_)) => return Err(TenantRejection::AlreadyProvisioned),
            (TenantCommand::Provision { id, name, slug, plan }, None) => {
                TenantEvent::Provisioned { id, name, slug, plan }
            }
            (_, None) => return Err(TenantRejection::NotFound),
            (TenantCommand::Rename { name }, Some(tenant)) if tenant.name == name => return Ok(()),
            (TenantCommand::Rename { name }, Some(tenant)) => TenantEvent::Renamed {
                from: tenant.name.clone(),
                to: name,
            },
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: TenantEvent) {
        match event {
            TenantEvent::Provisioned { id, name, .. } => self.provisioned = Some(Provisioned { id, name }),
            TenantEvent::Renamed { to, .. } => {
                if let Some(tenant) = &mut self.provisioned {
                    tenant.name = to;
                }
            }
        }
    }
}

impl Root for Tenant {
    fn claims(event: &TenantEvent) -> Vec<Claim> {
        match event {
            TenantEvent::Provisioned { slug, .. } => {
                vec![Claim::Take {
                    kind: "slug",
                    value: slug.as_str().to_owned(),
                }]
            }
            TenantEvent::Renamed { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::aggregate::testing::{check_golden_files, decide};

    fn name(text: &str) -> TenantName {
        Text::new(text).unwrap()
    }

    fn provisioned() -> TenantEvent {
        TenantEvent::Provisioned {
            id: TenantId::new(Ulid(7)),
            name: name("Acme"),
            slug: Slug::try_from("acme".to_owned()).unwrap(),
            plan: Some(Text::new("team").unwrap()),
        }
    }

    fn provision() -> TenantCommand {
        TenantCommand::Provision {
            id: TenantId::new(Ulid(7)),
            name: name("Acme"),
            slug: Slug::try_from("acme".to_owned()).unwrap(),
            plan: Some(Text::new("team").unwrap()),
        }
    }

    #[tokio::test]
    async fn a_tenant_is_provisioned_once() {
        assert_eq!(decide::<Tenant>(&[], provision()).await, Ok(vec![provisioned()]));
        let again = decide::<Tenant>(&[provisioned()], provision()).await;
        assert_eq!(again, Err(TenantRejection::AlreadyProvisioned));
    }

    #[tokio::test]
    async fn a_tenant_is_renamed_and_the_event_tells_both_names() {
        let rename = TenantCommand::Rename {
            name: name("Acme Ltd"),
        };
        let renamed = TenantEvent::Renamed {
            from: name("Acme"),
            to: name("Acme Ltd"),
        };
        assert_eq!(
            decide::<Tenant>(&[provisioned()], rename.clone()).await,
            Ok(vec![renamed.clone()])
        );
        assert_eq!(
            decide::<Tenant>(&[provisioned(), renamed], rename.clone()).await,
            Ok(vec![])
        );
        assert_eq!(
            decide::<Tenant>(&[], rename).await,
            Err(TenantRejection::NotFound)
        );
    }

    #[test]
    fn slugs_are_lower_case_words() {
        for text in ["acme", "a-1", "abc-def-2"] {
            assert!(Slug::try_from(text.to_owned()).is_ok(), "{text:?} was refused");
        }
        for text in [
            "",
            "ab",
            "-abc",
            "abc-",
            "Acme",
            "a.b.c",
            "a_b",
            "äöü",
            &"a".repeat(41),
        ] {
            assert!(Slug::try_from(text.to_owned()).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn stored_events_decode_for_ever() {
        let renamed = TenantEvent::Renamed {
            from: name("Acme"),
            to: name("Acme Ltd"),
        };
        check_golden_files(TenantEvent::WIRE, &[provisioned(), renamed]);
    }
}
