//! A commit: the unit appended to the log, all events of one command on one aggregate as one record.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{TenantId, Timestamp};

/// Bytes that are not a record of the kind wanted, or one of a later form.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not MessagePack of the expected fields.
    #[error("the record is not in the expected form")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// Written by a later program.
    #[error("the record has form {found}; this program reads up to {known}")]
    Newer {
        /// The version in the record.
        found: u8,
        /// The newest this program reads.
        known: u8,
    },
}

/// Records are plain data of strings, numbers and byte arrays: writing them to memory cannot fail.
pub(crate) fn encode_record<T: Serialize>(record: &T) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "serialising plain data to memory has no failure"
    )]
    rmp_serde::to_vec_named(record).expect("a record is plain data")
}

/// The version, where it is the first of a record's few fields, as it is in all that are written: a look at four bytes
/// instead of a way through the whole record.
fn first_version(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [0x81..=0x8f, 0xa1, b'v', version @ 0..=0x7f, ..] => Some(*version),
        _ => None,
    }
}

/// How deep a record may be nested. JSON that a client sends goes half as deep; one that goes deeper was written by
/// another program, and must not use up the stack of whoever reads it.
const MAX_DEPTH: usize = 256;

/// Reads MessagePack that is not nested deeper than any record of ours.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(MAX_DEPTH);
    T::deserialize(&mut deserializer)
}

pub(crate) fn decode_record<T: DeserializeOwned>(bytes: &[u8], known: u8) -> Result<T, DecodeError> {
    #[derive(Deserialize)]
    struct Version {
        v: u8,
    }
    let found = match first_version(bytes) {
        Some(found) => found,
        None => read::<Version>(bytes)?.v,
    };
    if found > known {
        return Err(DecodeError::Newer { found, known });
    }
    Ok(read(bytes)?)
}

/// One event inside a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// The wire name, as `user.registered`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The version of its data's form, from 1.
    pub schema: u16,
    /// The facts.
    pub data: Value,
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum Actor {
    /// The installation's administrator.
    PlatformAdmin,
    /// The holder of an API key.
    ApiKey(String),
    /// Whoever took up an invitation, by its id.
    Invitee(String),
    /// Another system, which proved to be the source of this id.
    Source(String),
    /// Tidings itself, and which part of it.
    System(String),
}

impl Actor {
    /// The actor as one word: `platform-admin`, `key_…`, `inv_…`, `src_…`, `system:<part>`.
    pub fn label(&self) -> String {
        match self {
            Self::PlatformAdmin => "platform-admin".to_owned(),
            Self::ApiKey(id) | Self::Invitee(id) | Self::Source(id) => id.clone(),
            Self::System(part) => format!("system:{part}"),
        }
    }
}

/// Where a record comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Names the command for ever; the record's message id is `<tenant>:<command id>`.
    pub command_id: String,
    /// The command, as `RegisterUser`.
    pub command: String,
    /// Who asked.
    pub actor: Actor,
    /// The HTTP request it came with.
    pub request_id: Option<String>,
    /// The address the request came from.
    pub origin: Option<String>,
    /// What belongs together across commands.
    pub correlation_id: Option<String>,
    /// What directly led to this.
    pub causation_id: Option<String>,
    /// W3C trace context (<https://www.w3.org/TR/trace-context/>).
    pub traceparent: Option<String>,
    /// When it was decided, by the clock of the process that decided.
    pub at: Timestamp,
}

/// All events of one command on one aggregate: one record of the log, MessagePack with named fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// The version of this form: 1.
    pub v: u8,
    /// Whose it is.
    pub tenant: TenantId,
    /// The kind of aggregate, as `user`.
    pub aggregate: String,
    /// Which one.
    pub id: String,
    /// The version of the first event; an aggregate's versions are 1, 2, 3, … without a gap.
    pub first_version: u64,
    /// What happened; never empty.
    pub events: Vec<EventRecord>,
    /// Where it comes from.
    pub meta: Meta,
    /// SHA-256 of the aggregate's previous record as stored; none for its first.
    #[serde(with = "serde_bytes")]
    pub prev: Option<Vec<u8>>,
}

impl Commit {
    /// The version written.
    pub const VERSION: u8 = 1;

    /// What an event happened to: its kind and id. That is the aggregate itself, as `user` and `usr_…`, unless the
    /// aggregate keeps many things and the event's data names one under the first word of the event's name: a tenant's
    /// `roles` tell `role.renamed` of the `role` in its data.
    pub fn subject_of<'c>(&'c self, event: &'c EventRecord) -> (&'c str, &'c str) {
        let (kind, _) = event.event_type.split_once('.').unwrap_or_default();
        let named = event.data.get(kind).and_then(Value::as_str);
        match named {
            Some(id) if kind != self.aggregate => (kind, id),
            _ => (&self.aggregate, &self.id),
        }
    }

    /// The version of the last event.
    pub fn last_version(&self) -> u64 {
        self.first_version + (self.events.len() as u64).saturating_sub(1)
    }

    /// The bytes the log keeps.
    pub fn encode(&self) -> Vec<u8> {
        encode_record(self)
    }

    /// Reads them back.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_record(bytes, Self::VERSION)
    }

    /// The subject of an aggregate's commits.
    pub fn subject(tenant: &TenantId, aggregate: &str, id: &str) -> String {
        format!("ev.{tenant}.{aggregate}.{id}")
    }

    /// What the next record of the aggregate carries as `prev`.
    pub fn hash(stored: &[u8]) -> Vec<u8> {
        Sha256::digest(stored).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use ulid::Ulid;

    use super::*;
    use crate::aggregate::testing::golden_record;

    fn example() -> Commit {
        Commit {
            v: Commit::VERSION,
            tenant: TenantId::new(Ulid(7)),
            aggregate: "user".into(),
            id: "usr_00000000000000000000000008".into(),
            first_version: 3,
            events: vec![EventRecord {
                event_type: "user.registered".into(),
                schema: 1,
                data: json!({ "email": "ada@example.org", "name": "Ada" }),
            }],
            meta: Meta {
                command_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
                command: "RegisterUser".into(),
                actor: Actor::ApiKey("key_00000000000000000000000009".into()),
                request_id: Some("req-1".into()),
                origin: Some("192.0.2.7".into()),
                correlation_id: None,
                causation_id: None,
                traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
                at: Timestamp::from_millis(1_614_265_330_007),
            },
            prev: Some(Commit::hash(b"the previous record")),
        }
    }

    /// The bytes in the golden file must decode for ever, and this program must still write them.
    #[test]
    fn the_golden_commit_decodes_and_encodes() {
        let golden = golden_record("commit.v1", &example().encode());
        assert_eq!(Commit::decode(&golden).unwrap(), example());
    }

    #[test]
    fn a_later_form_is_refused_by_name_not_misread() {
        let later = Commit { v: 2, ..example() };
        let error = Commit::decode(&later.encode()).unwrap_err();
        assert!(
            matches!(error, DecodeError::Newer { found: 2, known: 1 }),
            "{error}"
        );
        assert!(matches!(Commit::decode(b"\xc1"), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn an_event_of_one_of_many_things_tells_which() {
        let event = |name: &str, data| EventRecord {
            event_type: name.into(),
            schema: 1,
            data,
        };
        let mut commit = example();
        let itself = ("user", "usr_00000000000000000000000008");
        // What a user's own event says of users does not make it another user's.
        let own = event("user.merged", json!({ "user": "usr_2" }));
        assert_eq!(commit.subject_of(&own), itself);
        assert_eq!(commit.subject_of(&event("user.renamed", json!({}))), itself);
        (commit.aggregate, commit.id) = ("roles".into(), "ten_1".into());
        let of_role = event("role.renamed", json!({ "role": "rol_1", "to": "x" }));
        assert_eq!(commit.subject_of(&of_role), ("role", "rol_1"));
        assert_eq!(
            commit.subject_of(&event("roles.counted", json!({ "role": "rol_1" }))),
            ("roles", "ten_1")
        );
    }

    #[test]
    fn the_last_version_counts_the_events() {
        let mut commit = example();
        commit.events.push(commit.events[0].clone());
        assert_eq!(commit.last_version(), 4);
    }

    #[test]
    fn the_subject_of_a_commit_names_tenant_and_aggregate() {
        assert_eq!(
            Commit::subject(&TenantId::new(Ulid(7)), "user", "usr_8"),
            "ev.ten_00000000000000000000000007.user.usr_8"
        );
    }

    /// What is written needs no second way through the record to tell its version.
    #[test]
    fn the_version_is_read_from_the_first_bytes() {
        assert_eq!(first_version(&example().encode()), Some(Commit::VERSION));
        assert_eq!(
            first_version(&Commit { v: 0x7f, ..example() }.encode()),
            Some(0x7f)
        );
        assert_eq!(first_version(&Commit { v: 0x80, ..example() }.encode()), None);
        assert_eq!(first_version(b""), None);
    }
}
