//! What API keys are checked against: keyed hashes in a bucket of their own.
//!
//! Whether a key was issued or revoked is in the log, for everyone who reads the log; what proves that somebody holds
//! it is here, for the gateway alone (design §9: what delivers never sees credentials).

use std::sync::Arc;

use broker::{Expect, KeyValue, KvError, Subject};
use domain::{KeyId, TenantId};
use moka::sync::Cache;
use subtle::ConstantTimeEq;

use crate::auth::NewKey;
use crate::keys::KeyHasher;

/// Hashes kept in memory. The hash of a key never changes, so none is ever out of date.
const CACHED: u64 = 100_000;

/// The hashes of API keys.
pub(crate) struct Credentials {
    bucket: Arc<dyn KeyValue>,
    hasher: KeyHasher,
    cache: Cache<(TenantId, KeyId), [u8; 32]>,
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

    /// Keeps what a new key will be checked against. It is worth nothing before the key is issued.
    pub(crate) async fn keep(&self, tenant: &TenantId, key: &NewKey) -> Result<(), KvError> {
        let hash = self.hash(&key.text);
        let value = hash.to_vec().into();
        let place = place(tenant, &key.id)?;
        match self.bucket.put(&place, value, Expect::Absent, None).await {
            // A repeated request draws the same key again.
            Err(KvError::Conflict(_)) if self.read(&place).await? == Some(hash) => Ok(()),
            put => put.map(drop),
        }
    }

    /// Whether the text with this hash is the key's; compared in constant time.
    pub(crate) async fn matches(
        &self,
        tenant: &TenantId,
        key: &KeyId,
        hash: &[u8; 32],
    ) -> Result<bool, KvError> {
        let id = (tenant.clone(), key.clone());
        let known = match self.cache.get(&id) {
            Some(known) => Some(known),
            None => self.read(&place(tenant, key)?).await?,
        };
        let Some(known) = known else { return Ok(false) };
        self.cache.insert(id, known);
        Ok(known.ct_eq(hash).into())
    }

    async fn read(&self, place: &Subject) -> Result<Option<[u8; 32]>, KvError> {
        let entry = self.bucket.get(place).await?;
        Ok(entry.and_then(|entry| entry.value.as_ref().try_into().ok()))
    }
}

fn place(tenant: &TenantId, key: &KeyId) -> Result<Subject, KvError> {
    Subject::new(format!("{tenant}.{key}")).map_err(|error| KvError::Unavailable(Box::new(error)))
}
