//! Unique values inside a tenant, and how the log keeps them unique.
//!
//! A value is claimed by a record on its own subject, `uq.<tenant>.<kind>.<hash>`, appended atomically with the
//! event that needs it and expecting the subject to be as it was read: of two that race for it, the log accepts
//! one. The hash is keyed (by the caller), so that the log does not tell which e-mail addresses a tenant knows.

use serde::{Deserialize, Serialize};

use crate::commit::{DecodeError, decode_record, encode_record};

/// A unique value that an event takes or gives back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The value must be free, or already this aggregate's.
    Take {
        /// What is unique, as `email`; a subject token.
        kind: &'static str,
        /// The value, folded to the form in which it is compared.
        value: String,
    },
    /// The value becomes free.
    Release {
        /// What is unique, as `email`.
        kind: &'static str,
        /// The value, folded likewise.
        value: String,
    },
}

impl Claim {
    /// What is unique and the folded value.
    pub fn key(&self) -> (&'static str, &str) {
        match self {
            Self::Take { kind, value } | Self::Release { kind, value } => (kind, value),
        }
    }
}

/// A claim as the log keeps it: MessagePack with named fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// The version of this form: 1.
    pub v: u8,
    /// Whose value it is.
    pub tenant: String,
    /// What is unique, as `email`.
    pub kind: String,
    /// The aggregate that holds the value, as `user.usr_…`; none when it was released.
    pub holder: Option<String>,
}

impl ClaimRecord {
    /// The version written.
    pub const VERSION: u8 = 1;

    /// The bytes the log keeps.
    pub fn encode(&self) -> Vec<u8> {
        encode_record(self)
    }

    /// Reads them back.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_record(bytes, Self::VERSION)
    }

    /// The subject that stands for a value; `hash` is its keyed hash as a subject token.
    pub fn subject(tenant: &crate::TenantId, kind: &str, hash: &str) -> String {
        format!("uq.{tenant}.{kind}.{hash}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::testing::golden_record;

    #[test]
    fn the_golden_claim_decodes_and_encodes() {
        let example = ClaimRecord {
            v: ClaimRecord::VERSION,
            tenant: "ten_00000000000000000000000007".into(),
            kind: "email".into(),
            holder: Some("user.usr_00000000000000000000000008".into()),
        };
        let golden = golden_record("claim.v1", &example.encode());
        assert_eq!(ClaimRecord::decode(&golden).unwrap(), example);
    }

    #[test]
    fn a_claim_is_told_by_what_is_unique_and_its_value() {
        let (kind, value) = ("email", "ada@example.org".to_owned());
        let take = Claim::Take {
            kind,
            value: value.clone(),
        };
        let release = Claim::Release { kind, value };
        for claim in [take, release] {
            assert_eq!(claim.key(), ("email", "ada@example.org"));
        }
    }

    #[test]
    fn the_subject_of_a_claim_names_tenant_kind_and_hash() {
        let tenant = crate::TenantId::new(ulid::Ulid(7));
        assert_eq!(
            ClaimRecord::subject(&tenant, "email", "f6dc"),
            "uq.ten_00000000000000000000000007.email.f6dc"
        );
    }
}
