//! The public halves of the keys that endpoints' webhooks are signed with, for receivers to ask for.
//!
//! They lie in a bucket of their own beside the sealed secrets: whoever makes a secret keeps its public key here in the
//! same step, since nobody who answers receivers can read the secret again.

use std::sync::Arc;

use broker::{Expect, KeyValue, KvError};
use domain::{EndpointId, SecretId, TenantId};

use crate::PublicKey;
use crate::secrets::key;

/// Keeps and finds public keys.
#[derive(Debug, Clone)]
pub struct PublicKeys(Arc<dyn KeyValue>);

impl PublicKeys {
    /// Over the bucket `PublicKeys`.
    pub fn new(bucket: Arc<dyn KeyValue>) -> Self {
        Self(bucket)
    }

    /// Keeps the public key of a secret of an endpoint.
    pub async fn keep(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        name: Option<&SecretId>,
        key_of_secret: PublicKey,
    ) -> Result<(), KvError> {
        let value = key_of_secret.as_bytes().to_vec().into();
        let place = key(tenant, endpoint, name);
        self.0.put(&place, value, Expect::Anything, None).await?;
        Ok(())
    }

    /// The public key of a secret, by its name; none where it was erased or never kept.
    pub async fn find(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        name: Option<&SecretId>,
    ) -> Result<Option<PublicKey>, KvError> {
        let entry = self.0.get(&key(tenant, endpoint, name)).await?;
        let bytes = entry.and_then(|entry| <[u8; 32]>::try_from(entry.value.as_ref()).ok());
        Ok(bytes.map(PublicKey::new))
    }

    /// Removes a key; one that is not there is no error.
    pub async fn erase(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        name: Option<&SecretId>,
    ) -> Result<(), KvError> {
        self.0
            .delete(&key(tenant, endpoint, name), Expect::Anything)
            .await
    }
}
