//! The `KeyValue` port on a NATS key-value bucket.
//!
//! Values are read at the stream's leader, so that a read sees every acknowledged write. A deletion leaves a marker,
//! as the usual tools expect it, which the server removes after a while; an expired value leaves nothing.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_TTL};
use async_nats::jetstream::message::StreamMessage;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::append::{codes, is_passing};
use super::connection::{Connection, PublishError};
use super::log::fetch;
use super::names::{Names, Space};
use crate::layout::Bucket;
use crate::{Cause, Entry, Expect, KeyValue, KvError, Subject};

/// The port's limit of a value.
const MAX_VALUE: usize = 1024 * 1024;
/// How long the marker of a deletion stays.
const MARKER_SECONDS: &str = "60";
/// Values of one scan request.
const PAGE: usize = 1_000;
/// How often a write without expectation, or to an absent key, is tried while others change the key.
const TRIES: usize = 8;

/// One bucket of the installation.
#[derive(Debug)]
pub(super) struct KvBucket {
    connection: Arc<Connection>,
    stream: String,
    space: Space,
}

/// What a write comes to.
enum Written {
    Done(u64),
    Conflict,
}

impl KvBucket {
    pub(super) fn new(connection: Arc<Connection>, names: &Names, bucket: Bucket) -> Self {
        Self {
            connection,
            stream: format!("KV_{}", names.bucket(bucket)),
            space: names.bucket_space(bucket),
        }
    }

    async fn last(&self, key: &Subject) -> Result<Option<StreamMessage>, KvError> {
        let last = self
            .connection
            .last_on(&self.stream, &self.space.wire(key.as_str()))
            .await;
        last.map_err(KvError::Unavailable)
    }

    /// Writes with the expectation; an absent key may have a marker as its last message, which is then expected.
    async fn write(
        &self,
        key: &Subject,
        headers: &HeaderMap,
        value: &Bytes,
        expect: Expect,
    ) -> Result<u64, KvError> {
        let mut sequence = match expect {
            Expect::Anything => None,
            Expect::Absent => Some(0),
            // No change has this revision; the server takes 0 for "no message".
            Expect::Revision(0) => return Err(KvError::Conflict(key.clone())),
            Expect::Revision(revision) => Some(revision),
        };
        for _ in 0..TRIES {
            match self.publish(key, headers, value, sequence).await? {
                Written::Done(revision) => return Ok(revision),
                Written::Conflict if expect == Expect::Absent => match self.last(key).await? {
                    Some(message) if is_value(&message) => return Err(KvError::Conflict(key.clone())),
                    other => sequence = Some(other.map_or(0, |marker| marker.sequence)),
                },
                Written::Conflict => return Err(KvError::Conflict(key.clone())),
            }
        }
        Err(KvError::Conflict(key.clone()))
    }

    async fn publish(
        &self,
        key: &Subject,
        headers: &HeaderMap,
        value: &Bytes,
        expected: Option<u64>,
    ) -> Result<Written, KvError> {
        let mut headers = headers.clone();
        if let Some(sequence) = expected {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, sequence.to_string().as_str());
        }
        let deadline = Instant::now() + self.connection.timeouts.append;
        let subject = self.space.wire(key.as_str());
        let mut pause = Duration::from_millis(5);
        loop {
            let sent = self
                .connection
                .publish(
                    &self.stream,
                    subject.clone(),
                    headers.clone(),
                    value.clone(),
                    deadline,
                )
                .await;
            let cause: Cause = match sent {
                Ok(stored) => return Ok(Written::Done(stored.sequence)),
                Err(PublishError::Refused(refusal)) if refusal.err_code == codes::WRONG_LAST_SEQUENCE => {
                    return Ok(Written::Conflict);
                }
                Err(PublishError::Refused(refusal)) if is_passing(&refusal) => refusal.into(),
                Err(PublishError::NotSent(cause)) => cause,
                // A second try could undo what somebody wrote after the first.
                Err(error) => return Err(KvError::Unavailable(error.into())),
            };
            if Instant::now() + pause >= deadline {
                return Err(KvError::Unavailable(cause));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    fn entry(&self, message: StreamMessage) -> Option<Entry> {
        let key = is_value(&message)
            .then(|| self.space.subject(&message.subject))
            .flatten()?;
        Some(Entry {
            key,
            value: message.payload,
            revision: message.sequence,
        })
    }
}

#[async_trait]
impl KeyValue for KvBucket {
    async fn get(&self, key: &Subject) -> Result<Option<Entry>, KvError> {
        Ok(self.last(key).await?.and_then(|message| self.entry(message)))
    }

    async fn put(
        &self,
        key: &Subject,
        value: Bytes,
        expect: Expect,
        time_to_live: Option<Duration>,
    ) -> Result<u64, KvError> {
        let limit = MAX_VALUE.min(self.connection.max_payload());
        if value.len() > limit {
            return Err(KvError::TooLarge {
                bytes: value.len(),
                limit,
            });
        }
        let mut headers = HeaderMap::new();
        if let Some(time) = time_to_live {
            headers.insert(NATS_MESSAGE_TTL, whole_seconds(time).to_string().as_str());
        }
        self.write(key, &headers, &value, expect).await
    }

    async fn delete(&self, key: &Subject, expect: Expect) -> Result<(), KvError> {
        // Without looking where anything may stand: who may only write to a bucket can remove from it too.
        if expect != Expect::Anything {
            let standing = self.get(key).await?.map(|entry| entry.revision);
            match expect {
                Expect::Absent if standing.is_none() => return Ok(()),
                // A removal leaves a marker with a revision of its own, which is nobody's entry.
                Expect::Revision(revision) if standing == Some(revision) => {}
                _ => return Err(KvError::Conflict(key.clone())),
            }
        }
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        headers.insert(NATS_MESSAGE_TTL, MARKER_SECONDS);
        self.write(key, &headers, &Bytes::new(), expect).await.map(drop)
    }

    async fn scan(&self, prefix: Option<&Subject>) -> Result<Vec<Entry>, KvError> {
        let filter = self
            .space
            .wire(&prefix.map_or(">".to_owned(), |prefix| format!("{prefix}.>")));
        let mut entries = std::collections::BTreeMap::new();
        let mut after = 0;
        loop {
            let page = fetch(&self.connection, &self.stream, after, Some(&filter), PAGE).await;
            let page = page.map_err(KvError::Unavailable)?;
            for message in page.messages {
                after = message.sequence;
                let Some(key) = self.space.subject(&message.subject) else {
                    continue;
                };
                // A key rewritten while the pages are read comes twice; the later one counts.
                match self.entry(message) {
                    Some(entry) => entries.insert(key, entry),
                    None => entries.remove(&key),
                };
            }
            if page.last {
                return Ok(entries.into_values().collect());
            }
        }
    }
}

/// Whether a message is a value, not the marker of a deletion.
fn is_value(message: &StreamMessage) -> bool {
    message.headers.get("KV-Operation").is_none() && message.headers.get("Nats-Marker-Reason").is_none()
}

/// Rounded up, at least one.
fn whole_seconds(time: Duration) -> u64 {
    let started = u64::from(time.subsec_nanos() > 0);
    (time.as_secs() + started).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_is_rounded_up_to_whole_seconds() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::from_millis(2_001)), 3);
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }
}
