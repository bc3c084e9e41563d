//! One record of an export: a line of JSON, in which nothing stands that its leaf does not prove.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use broker::Record;
use bytes::Bytes;
use domain::proof::{Hash, InvalidLeaf, Leaf};
use domain::{Position, Source};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;
use utoipa::ToSchema;

use super::readable::readable;

/// A record of a tenant's log, as exports and proofs show it.
///
/// What the log noted of when it stored the record is left out: no proof covers it. When the command was decided
/// stands in `record`, under `meta.at`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LogRecord)]
pub(crate) struct Line {
    /// Which leaf of the tree it is, from 0.
    pub(crate) leaf: u64,
    /// Where it stands in the log.
    #[schema(value_type = String, example = "e0-42")]
    pub(crate) position: Position,
    /// Where it belongs: `ev.<tenant>.<aggregate>.<id>`, or `uq.<tenant>.…` for claims of unique values.
    pub(crate) subject: String,
    /// The id it was appended under.
    pub(crate) message_id: String,
    /// The leaf's hash in the tree, in base64.
    #[schema(value_type = String)]
    pub(crate) leaf_hash: Hash,
    /// The record's bytes as the log keeps them, in base64.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    #[schema(value_type = String)]
    pub(crate) payload: Bytes,
    /// The same bytes made readable.
    #[schema(value_type = Object)]
    pub(crate) record: Value,
}

impl Line {
    /// A record as leaf `leaf`, whose hash in the tree is `leaf_hash`.
    pub(crate) fn new(leaf: u64, leaf_hash: Hash, shard: u16, record: &Record) -> Self {
        Self {
            leaf,
            position: Position {
                source: Source::Events,
                shard,
                sequence: record.sequence,
            },
            subject: record.subject.to_string(),
            message_id: record.message_id.clone(),
            leaf_hash,
            payload: record.payload.clone(),
            record: readable(&record.payload),
        }
    }

    /// The hash of what stands here.
    pub(crate) fn hash(&self) -> Result<Hash, InvalidLeaf> {
        let leaf = Leaf {
            position: self.position,
            subject: &self.subject,
            message_id: &self.message_id,
            payload: &self.payload,
        };
        leaf.hash()
    }

    /// Whether the readable part says what the bytes say.
    pub(crate) fn is_read_rightly(&self) -> bool {
        self.record == readable(&self.payload)
    }
}

fn to_base64<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| D::Error::custom("payload is not base64"))?;
    Ok(bytes.into())
}
