//! What API keys are checked against: keyed hashes in a bucket of their own.
//!
//! Whether a key was issued, rotated or revoked is in the log, for everyone who reads the log; what proves that
//! somebody holds it is here, for the gateway alone (design §9: what delivers never sees credentials).
//!
//! Each text a key ever had is a credential of its own, and its hash never changes. Which of them count is said by
//! the log, so no hash kept in memory can outlive its overlap.

use std::sync::Arc;

use broker::{Expect, KeyValue, KvError, Subject};
use domain::{CredentialId, KeyId, TenantId};
use moka::sync::Cache;
use subtle::ConstantTimeEq;

use crate::auth::NewKey;
use crate::keys::KeyHasher;

/// Hashes kept in memory. None is ever out of date.
const CACHED: u64 = 100_000;

/// The hashes of API keys.
pub(crate) struct Credentials {
    bucket: Arc<dyn KeyValue>,
    hasher: KeyHasher,
    cache: Cache<Subject, [u8; 32]>,
}

impl Credentials {
    /// Over the bucket of credentials.
    pub(crate) fn new(bucket: Arc<dyn KeyValue>, hasher: KeyHasher) -> Self {
        Self {
            bucket,
            hasher,
            cache: Cache::new(CACHED),
        }
    }

    /// The keyed hash of a credential's text.
    pub(crate) fn hash(&self, text: &str) -> [u8; 32] {
        self.hasher.hash(text)
    }

    /// Keeps what a new text will be checked against. It is worth nothing before the log says so. Keeping the same
    /// again changes nothing; another text in its place is a conflict.
    pub(crate) async fn keep(&self, tenant: &TenantId, key: &NewKey) -> Result<(), KvError> {
        let hash = self.hash(&key.text);
        let place = place(tenant, &key.id, key.credential.as_ref())?;
        let value = hash.to_vec().into();
        match self.bucket.put(&place, value, Expect::Absent, None).await {
            // A repeated request draws the same key again.
            Err(KvError::Conflict(_)) if self.read(&place).await? == Some(hash) => Ok(()),
            put => put.map(drop),
        }
    }

    /// Whether the text with this hash is that of a credential of the key; compared in constant time.
    pub(crate) async fn matches(
        &self,
        tenant: &TenantId,
        key: &KeyId,
        credential: Option<&CredentialId>,
        hash: &[u8; 32],
    ) -> Result<bool, KvError> {
        let place = place(tenant, key, credential)?;
        let known = match self.cache.get(&place) {
            Some(known) => Some(known),
            None => self.read(&place).await?,
        };
        let Some(known) = known else { return Ok(false) };
        self.cache.insert(place, known);
        Ok(known.ct_eq(hash).into())
    }

    async fn read(&self, place: &Subject) -> Result<Option<[u8; 32]>, KvError> {
        let entry = self.bucket.get(place).await?;
        Ok(entry.and_then(|entry| entry.value.as_ref().try_into().ok()))
    }
}

/// The credential a key was issued with goes by the key's own id.
fn place(tenant: &TenantId, key: &KeyId, credential: Option<&CredentialId>) -> Result<Subject, KvError> {
    let place = match credential {
        Some(credential) => format!("{tenant}.{key}.{credential}"),
        None => format!("{tenant}.{key}"),
    };
    Subject::new(place).map_err(|error| KvError::Unavailable(Box::new(error)))
}
