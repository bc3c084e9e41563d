//! Typed ids: a prefix that tells what is named, and 26 characters of a ULID (<https://github.com/ulid/spec>).
//!
//! The type keeps a user's id out of an endpoint's place; the prefix keeps it out of a person's. Ids are also
//! tokens of log subjects, so nothing else is ever accepted as one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ulid::Ulid;

use crate::EventType;

/// A text that is not an id of the kind wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a valid id: expected `{prefix}` followed by 26 characters of Crockford base 32")]
pub struct InvalidId {
    prefix: &'static str,
}

fn parse_suffix(text: &str, prefix: &'static str) -> Result<(), InvalidId> {
    let invalid = InvalidId { prefix };
    let suffix = text.strip_prefix(prefix).ok_or_else(|| invalid.clone())?;
    // Ulid's parser is lenient (lower case, i for 1): only the canonical form is an id here, or one thing
    // would have several names.
    match Ulid::from_string(suffix) {
        Ok(ulid) if ulid.to_string() == suffix => Ok(()),
        _ => Err(invalid),
    }
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// What every id of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id of a ULID drawn by the caller.
            pub fn new(ulid: Ulid) -> Self {
                Self(format!("{}{ulid}", $prefix))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_suffix(text, $prefix)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                parse_suffix(&text, $prefix)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

typed_id!(
    /// Names a user.
    UserId,
    "usr_"
);
typed_id!(
    /// Names a webhook endpoint.
    EndpointId,
    "ep_"
);
typed_id!(
    /// Names a message: an application event a tenant published.
    EventId,
    "evt_"
);
typed_id!(
    /// Names a delivery: one message for one endpoint.
    DeliveryId,
    "dlv_"
);
typed_id!(
    /// Names an API key; not secret.
    KeyId,
    "key_"
);
typed_id!(
    /// Names what one text of an API key is checked against; not secret.
    CredentialId,
    "crd_"
);
typed_id!(
    /// Names a signing secret of an endpoint; not secret itself.
    SecretId,
    "sec_"
);
typed_id!(
    /// Names a registered event type in the log.
    EventTypeId,
    "ety_"
);

impl EventTypeId {
    /// A name has one id, whoever computes it: dotted names are no tokens of a subject, and a name must be one type
    /// only.
    pub fn derive(name: &EventType) -> Self {
        Self::new(digest(&["event type", name.as_str()]))
    }
}

typed_id!(
    /// Names a role.
    RoleId,
    "rol_"
);
typed_id!(
    /// Names a team.
    TeamId,
    "team_"
);
typed_id!(
    /// Names an invitation; not secret.
    InvitationId,
    "inv_"
);
typed_id!(
    /// Names a recovery of an endpoint's messages.
    RecoveryId,
    "rcv_"
);
typed_id!(
    /// Names a replay of projections.
    ReplayId,
    "rpl_"
);
typed_id!(
    /// Names what one process wrote down of refusals and shown secrets.
    AccessLogId,
    "acc_"
);
typed_id!(
    /// Names the token of an invitation; not secret.
    TokenId,
    "tok_"
);

impl EventId {
    /// The message that Tidings itself publishes about a fact has one id, whoever makes it and however often.
    pub fn of_fact(tenant: &TenantId, event_type: &EventType, name: &str) -> Self {
        Self::new(digest(&["fact", tenant.as_str(), event_type.as_str(), name]))
    }
}

typed_id!(
    /// Names a source: another system whose webhooks a tenant receives; not secret.
    SourceId,
    "src_"
);

impl EventId {
    /// What a source sent under a name of its own is one message, however often it is sent again.
    pub fn derive(tenant: &TenantId, source: &SourceId, name: &str) -> Self {
        Self::new(digest(&["inbound", tenant.as_str(), source.as_str(), name]))
    }
}

/// Where a source's webhooks are posted: `in_`, the 26 characters of the tenant's ULID, and the 26 of the source's. It
/// names the one aggregate that tells how a request is to prove itself, so that nothing has to be looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceAddress {
    /// Whose messages they become.
    pub tenant: TenantId,
    /// The source.
    pub source: SourceId,
}

impl SourceAddress {
    const PREFIX: &'static str = "in_";
    const ULID: usize = 26;
}

impl FromStr for SourceAddress {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId { prefix: Self::PREFIX };
        let ids = text.strip_prefix(Self::PREFIX).ok_or_else(|| invalid.clone())?;
        let (tenant, source) = ids.split_at_checked(Self::ULID).ok_or(invalid)?;
        Ok(Self {
            tenant: format!("{}{tenant}", TenantId::PREFIX).parse()?,
            source: format!("{}{source}", SourceId::PREFIX).parse()?,
        })
    }
}

impl fmt::Display for SourceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenant = self.tenant.as_str().trim_start_matches(TenantId::PREFIX);
        let source = self.source.as_str().trim_start_matches(SourceId::PREFIX);
        write!(f, "{}{tenant}{source}", Self::PREFIX)
    }
}

impl DeliveryId {
    /// The delivery of a message to an endpoint has one id, whoever computes it and however often: matching
    /// the same message again therefore makes no second delivery.
    pub fn derive(tenant: &TenantId, message: &EventId, endpoint: &EndpointId) -> Self {
        Self::new(digest(&[tenant.as_str(), message.as_str(), endpoint.as_str()]))
    }
}

/// The first half of the SHA-256 of texts, each ended by a zero byte.
fn digest(parts: &[&str]) -> Ulid {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Ulid::from_bytes(bytes)
}

/// Names a tenant: `ten_…`, or `platform`, the tenant in whose log the tenants themselves live.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(String);

impl TenantId {
    /// What every tenant's id but the platform's starts with.
    pub const PREFIX: &'static str = "ten_";
    const PLATFORM: &'static str = "platform";

    /// Makes an id of a ULID drawn by the caller.
    pub fn new(ulid: Ulid) -> Self {
        Self(format!("{}{ulid}", Self::PREFIX))
    }

    /// The platform itself.
    pub fn platform() -> Self {
        Self(Self::PLATFORM.to_owned())
    }

    /// Whether this is the platform itself.
    pub fn is_platform(&self) -> bool {
        self.0 == Self::PLATFORM
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TenantId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        if text != Self::PLATFORM {
            parse_suffix(&text, Self::PREFIX)?;
        }
        Ok(Self(text))
    }
}

impl FromStr for TenantId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::try_from(text.to_owned())
    }
}

impl From<TenantId> for String {
    fn from(id: TenantId) -> Self {
        id.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_an_id() {
        let id = "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        assert_eq!(id.parse::<UserId>().unwrap().as_str(), id);
        for text in [
            "",
            "usr_",
            "ep_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "usr_01arz3ndektsv4rrffq69g5fav",
            "usr_01ARZ3NDEKTSV4RRFFQ69G5FA",
            "usr_01ARZ3NDEKTSV4RRFFQ69G5FAVV",
            "usr_01ARZ3NDEKTSV4RRFFQ69G5FA.",
            "usr_81ARZ3NDEKTSV4RRFFQ69G5FAV",
        ] {
            assert!(text.parse::<UserId>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_delivery_has_one_id_and_differs_by_each_part() {
        let tenant = TenantId::new(Ulid(1));
        let (message, endpoint) = (EventId::new(Ulid(2)), EndpointId::new(Ulid(3)));
        let id = DeliveryId::derive(&tenant, &message, &endpoint);
        assert_eq!(id, DeliveryId::derive(&tenant, &message, &endpoint));
        assert_ne!(
            id,
            DeliveryId::derive(&TenantId::new(Ulid(9)), &message, &endpoint)
        );
        assert_ne!(id, DeliveryId::derive(&tenant, &EventId::new(Ulid(9)), &endpoint));
        assert_ne!(
            id,
            DeliveryId::derive(&tenant, &message, &EndpointId::new(Ulid(9)))
        );
        assert_eq!(id.as_str().parse::<DeliveryId>().unwrap(), id);
    }

    #[test]
    fn a_source_has_one_address_and_what_it_sends_one_id_by_its_name() {
        let (tenant, source) = (TenantId::new(Ulid(10)), SourceId::new(Ulid(11)));
        let address = SourceAddress {
            tenant: tenant.clone(),
            source: source.clone(),
        };
        let text = address.to_string();
        assert_eq!(text.parse::<SourceAddress>().unwrap(), address);
        for text in [
            "",
            "in_",
            &text[1..],
            &text[..text.len() - 1],
            &text.to_lowercase(),
            "in_ä",
        ] {
            assert!(text.parse::<SourceAddress>().is_err(), "{text:?} was accepted");
        }
        let id = EventId::derive(&tenant, &source, "a");
        assert_eq!(id, EventId::derive(&tenant, &source, "a"));
        assert_ne!(id, EventId::derive(&tenant, &source, "b"));
        assert_ne!(id, EventId::derive(&tenant, &SourceId::new(Ulid(9)), "a"));
        assert_ne!(id, EventId::derive(&TenantId::new(Ulid(9)), &source, "a"));
    }

    #[test]
    fn the_platform_is_a_tenant() {
        assert!("platform".parse::<TenantId>().unwrap().is_platform());
        assert!(!TenantId::new(Ulid(1)).is_platform());
        assert!("platform2".parse::<TenantId>().is_err());
    }
}
