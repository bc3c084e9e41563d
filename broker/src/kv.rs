//! The `KeyValue` port: small values with revisions and expiry.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Cause, Subject};

/// A value as it stands in its bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key: dotted tokens, as a [`Subject`].
    pub key: Subject,
    /// The value.
    pub value: Bytes,
    /// Grows with every change of this key; no two changes in a bucket share one.
    pub revision: u64,
}

/// What a write requires of the key's present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing: the last writer wins.
    Anything,
    /// The key is absent (never written, deleted, or expired).
    Absent,
    /// The key stands at this revision.
    Revision(u64),
}

/// Why a key-value call failed.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// The key is not in the state expected; nothing was changed.
    #[error("the key {0} is not in the state expected")]
    Conflict(Subject),
    /// The value is over the engine's limit, which is [`MAX_RECORD`](crate::MAX_RECORD) bytes at least; nothing was
    /// changed.
    #[error("a value of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// The size refused.
        bytes: usize,
        /// The size allowed.
        limit: usize,
    },
    /// The bucket could not be reached, or failed; a write may or may not have had its effect.
    #[error("the key-value bucket is unavailable")]
    Unavailable(#[source] Cause),
}

/// One bucket of small values.
///
/// **Consistency.** A write is atomic per key and durable when acknowledged; `get` sees every write acknowledged
/// before it was called.
///
/// **Expiry.** A key written with a time to live is absent once that has passed, within a second or two; a
/// rewrite sets a new time to live, or none.
///
/// **Idempotency.** After `Unavailable` read the key to learn what happened.
#[async_trait]
pub trait KeyValue: Send + Sync + std::fmt::Debug {
    /// The key's value, if it is there.
    async fn get(&self, key: &Subject) -> Result<Option<Entry>, KvError>;

    /// Writes a value and answers its revision. A time to live is at least one second, counted in whole seconds,
    /// rounded up.
    async fn put(
        &self,
        key: &Subject,
        value: Bytes,
        expect: Expect,
        time_to_live: Option<Duration>,
    ) -> Result<u64, KvError>;

    /// Removes a key. With `Expect::Anything` an absent key is no error.
    async fn delete(&self, key: &Subject, expect: Expect) -> Result<(), KvError>;

    /// Every key under a prefix (`a.b` selects `a.b.c` and `a.b.c.d`), or all, with its value, in order of keys.
    /// For buckets that are small by design.
    async fn scan(&self, prefix: Option<&Subject>) -> Result<Vec<Entry>, KvError>;
}
