//! What was answered to an event whose id the client chose, so that sending it again gives the same answer.
//!
//! The log itself recognises a repeated message id for two minutes at least; a receipt does so for a day. One that was
//! never finished says since when the log has to be searched.

use std::sync::Arc;
use std::time::Duration;

use broker::{Expect, KeyValue, KvError, Subject};
use domain::{EventId, Position, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How long a client can repeat itself.
const KEPT: Duration = Duration::from_hours(24);

/// The receipts of published events.
#[derive(Clone)]
pub(crate) struct Receipts(pub(crate) Arc<dyn KeyValue>);

#[derive(Serialize, Deserialize)]
struct Receipt {
    /// SHA-256 of what tells two events of this id apart, hexadecimal: type and data, unless their sender says so
    /// otherwise.
    content: String,
    /// Where the event stands; none while it is being appended.
    position: Option<Position>,
    /// When it was first tried.
    #[serde(default)]
    begun: Option<Timestamp>,
}

/// What is known of an id.
pub(crate) enum Known {
    /// It is ours to append, or was being appended when a process died: appending (again) is right.
    Open {
        key: Subject,
        content: String,
        revision: u64,
        /// When somebody else began with it.
        begun: Option<Timestamp>,
    },
    /// The same event is in the log.
    Stored(Position),
    /// Another event has this id.
    Other,
}

impl Receipts {
    /// Notes that an event is about to be appended, or tells what is known of its id. `content` tells two events of one
    /// id apart.
    pub(crate) async fn begin(
        &self,
        tenant: &TenantId,
        id: &EventId,
        content: &[&[u8]],
        at: Timestamp,
    ) -> Result<Known, KvError> {
        let content = hex::encode(digest(content));
        let key = key(tenant, id)?;
        let fresh = encode(&Receipt {
            content: content.clone(),
            position: None,
            begun: Some(at),
        });
        match self.0.put(&key, fresh, Expect::Absent, Some(KEPT)).await {
            Ok(revision) => {
                return Ok(Known::Open {
                    key,
                    content,
                    revision,
                    begun: None,
                });
            }
            Err(KvError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        let Some(entry) = self.0.get(&key).await? else {
            // It expired in between; the caller's client may simply try again.
            return Err(KvError::Conflict(key));
        };
        let known: Receipt =
            serde_json::from_slice(&entry.value).map_err(|error| KvError::Unavailable(Box::new(error)))?;
        Ok(match known.position {
            _ if known.content != content => Known::Other,
            Some(position) => Known::Stored(position),
            None => Known::Open {
                key,
                content,
                revision: entry.revision,
                begun: known.begun,
            },
        })
    }

    /// Whether an event of this id is known to be in the log.
    pub(crate) async fn is_stored(&self, tenant: &TenantId, id: &EventId) -> Result<bool, KvError> {
        let Some(entry) = self.0.get(&key(tenant, id)?).await? else {
            return Ok(false);
        };
        let known: Receipt =
            serde_json::from_slice(&entry.value).map_err(|error| KvError::Unavailable(Box::new(error)))?;
        Ok(known.position.is_some())
    }

    /// Notes where the event came to stand.
    pub(crate) async fn finish(
        &self,
        key: &Subject,
        content: String,
        revision: u64,
        position: Position,
    ) -> Result<(), KvError> {
        let done = encode(&Receipt {
            content,
            position: Some(position),
            begun: None,
        });
        match self
            .0
            .put(key, done, Expect::Revision(revision), Some(KEPT))
            .await
        {
            // Somebody else finished the same event.
            Ok(_) | Err(KvError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn key(tenant: &TenantId, id: &EventId) -> Result<Subject, KvError> {
    Subject::new(format!("event.{tenant}.{id}")).map_err(|error| KvError::Unavailable(Box::new(error)))
}

/// The SHA-256 of several things, a zero byte between each and the next.
fn digest(parts: &[&[u8]]) -> impl AsRef<[u8]> {
    let mut hash = Sha256::new();
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            hash.update([0]);
        }
        hash.update(part);
    }
    hash.finalize()
}

fn encode(receipt: &Receipt) -> bytes::Bytes {
    serde_json::to_vec(receipt).unwrap_or_default().into()
}
