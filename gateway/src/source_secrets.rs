//! Where the secrets of sources lie: encrypted, in a bucket of their own, which delivery cannot read.
//!
//! Each is sealed under a key derived from the master key for its tenant, and bound to its place, so that a value
//! copied to another place opens nowhere.

use std::sync::Arc;
use std::time::Duration;

use broker::{Expect, KeyValue, KvError, Subject};
use delivery::MasterKey;
use domain::{SecretId, SourceId, TenantId};
use moka::sync::Cache;
use zeroize::Zeroizing;

use crate::seal::Sealer;

/// How long a secret may be used after it was erased.
const CACHED_FOR: Duration = Duration::from_secs(30);
const CACHED: u64 = 10_000;

/// Why a secret could not be stored or had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceSecretError {
    /// There is none of this name.
    #[error("the source has no such secret")]
    Missing,
    /// It was sealed for another place, or under another master key.
    #[error("the secret of a source cannot be opened with this master key")]
    Unreadable,
    /// The bucket could not be reached; trying again may help.
    #[error("the secrets of sources are unavailable")]
    Unavailable(#[from] KvError),
}

/// Whose secret, and which; no name is that of the one the source was created with.
pub(crate) type Place<'p> = (&'p TenantId, &'p SourceId, Option<&'p SecretId>);

/// The secrets. What a name stands for never changes, so they are remembered for half a minute.
pub(crate) struct SourceSecrets {
    bucket: Arc<dyn KeyValue>,
    master: MasterKey,
    cache: Cache<Subject, Arc<Zeroizing<String>>>,
}

impl SourceSecrets {
    /// Over the bucket `SourceSecrets`.
    pub(crate) fn new(bucket: Arc<dyn KeyValue>, master: MasterKey) -> Self {
        let cache = Cache::builder().max_capacity(CACHED).time_to_live(CACHED_FOR);
        Self {
            bucket,
            master,
            cache: cache.build(),
        }
    }

    /// Stores a secret sealed. Call it before the source is created, or given it.
    pub(crate) async fn keep(&self, place: Place<'_>, secret: &str) -> Result<(), SourceSecretError> {
        let key = key(place)?;
        let sealed = self.sealer(place.0).seal(key.as_str(), secret.as_bytes());
        self.bucket
            .put(&key, sealed.into(), Expect::Anything, None)
            .await?;
        self.cache.invalidate(&key);
        Ok(())
    }

    /// A secret.
    pub(crate) async fn open(&self, place: Place<'_>) -> Result<Arc<Zeroizing<String>>, SourceSecretError> {
        let key = key(place)?;
        if let Some(secret) = self.cache.get(&key) {
            return Ok(secret);
        }
        let entry = self.bucket.get(&key).await?.ok_or(SourceSecretError::Missing)?;
        let opened = self.sealer(place.0).open(key.as_str(), &entry.value);
        let text = opened.and_then(|bytes| String::from_utf8(bytes).ok());
        let secret = Arc::new(Zeroizing::new(text.ok_or(SourceSecretError::Unreadable)?));
        self.cache.insert(key, Arc::clone(&secret));
        Ok(secret)
    }

    /// Removes a secret; one that is not there is no error.
    pub(crate) async fn erase(&self, place: Place<'_>) -> Result<(), SourceSecretError> {
        let key = key(place)?;
        self.bucket.delete(&key, Expect::Anything).await?;
        self.cache.invalidate(&key);
        Ok(())
    }

    fn sealer(&self, tenant: &TenantId) -> Sealer {
        Sealer::new(&self.master.derive(&format!("tidings/source-secrets/v1/{tenant}")))
    }
}

fn key((tenant, source, name): Place<'_>) -> Result<Subject, SourceSecretError> {
    let key = Subject::new(match name {
        Some(name) => format!("{tenant}.{source}.{name}"),
        None => format!("{tenant}.{source}"),
    });
    key.map_err(|error| KvError::Unavailable(Box::new(error)).into())
}
