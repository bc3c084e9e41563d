//! Where endpoints' secrets lie: encrypted, in a bucket of their own. Most sign webhooks; others are what an endpoint's
//! policy keeps secret, such as a password of the receiver's.
//!
//! A value is sealed with XChaCha20-Poly1305 under a key derived from the master key for its tenant, and bound to
//! its tenant, endpoint and name, so a value copied to another key opens nowhere. Writing and reading are two types: the
//! gateway, which makes secrets, can't read them back, and delivery, which uses them, can't replace them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use broker::{Expect, KeyValue, KvError, Subject};
use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use domain::{EndpointId, SecretId, TenantId};
use moka::sync::Cache;
use zeroize::Zeroizing;

use crate::work::subject;
use crate::{MasterKey, Secret};

const VERSION: u8 = 1;
const NONCE: usize = 24;
/// How long a secret may be used after it was replaced.
const CACHED_FOR: Duration = Duration::from_secs(30);
const CACHED: u64 = 100_000;

/// Why a secret could not be stored or had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is none for this endpoint.
    #[error("a secret of the endpoint is not there")]
    Missing,
    /// What is stored is of another form, was tampered with, belongs to another endpoint, or was sealed under
    /// another master key.
    #[error("a secret of the endpoint cannot be opened with this master key")]
    Unreadable,
    /// The bucket could not be reached; trying again may help.
    #[error("the endpoints' secrets are unavailable")]
    Unavailable(#[from] KvError),
}

/// A secret text, such as a password or a private key. Never printed, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// This text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for the moment in which it is needed.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// Keeps secrets; can't read them.
#[derive(Debug, Clone)]
pub struct SecretWriter {
    bucket: Arc<dyn KeyValue>,
    master: MasterKey,
}

impl SecretWriter {
    /// Over the bucket `EndpointSecrets`.
    pub fn new(bucket: Arc<dyn KeyValue>, master: MasterKey) -> Self {
        Self { bucket, master }
    }

    /// Stores a secret of an endpoint sealed, in place of any of this name; `None` names the one it is created with.
    ///
    /// Call it *before* the endpoint is created, or given this secret, so that no endpoint is ever without: one whose
    /// creation then fails leaves only a value nobody reads, and a creation tried again replaces it.
    pub async fn keep(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        name: Option<&SecretId>,
        secret: &Secret,
    ) -> Result<(), SecretError> {
        let key = key(tenant, endpoint, name);
        let sealed = seal(&self.master, tenant, &key, secret.as_bytes());
        self.bucket.put(&key, sealed, Expect::Anything, None).await?;
        Ok(())
    }

    /// Stores what an endpoint's policy keeps secret, sealed; call it before the endpoint has this policy.
    pub async fn keep_text(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        name: &SecretId,
        text: &SecretText,
    ) -> Result<(), SecretError> {
        let key = key(tenant, endpoint, Some(name));
        let sealed = seal(&self.master, tenant, &key, text.reveal().as_bytes());
        self.bucket.put(&key, sealed, Expect::Anything, None).await?;
        Ok(())
    }

    /// Removes a secret of an endpoint; one that is not there is no error.
    pub async fn erase(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        name: Option<&SecretId>,
    ) -> Result<(), SecretError> {
        let key = key(tenant, endpoint, name);
        Ok(self.bucket.delete(&key, Expect::Anything).await?)
    }
}

/// Reads secrets; can't make them. Clones share a cache of half a minute.
#[derive(Debug, Clone)]
pub struct SecretReader {
    bucket: Arc<dyn KeyValue>,
    master: MasterKey,
    cache: Cache<Subject, Secret>,
    texts: Cache<Subject, SecretText>,
}

impl SecretReader {
    /// Over the bucket `EndpointSecrets`.
    pub fn new(bucket: Arc<dyn KeyValue>, master: MasterKey) -> Self {
        Self {
            bucket,
            master,
            cache: half_a_minute(),
            texts: half_a_minute(),
        }
    }

    /// A secret of the endpoint, by its name; `None` names the one it was created with.
    pub async fn open(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        name: Option<&SecretId>,
    ) -> Result<Secret, SecretError> {
        let key = key(tenant, endpoint, name);
        if let Some(secret) = self.cache.get(&key) {
            return Ok(secret);
        }
        let entry = self.bucket.get(&key).await?;
        let sealed = entry.ok_or(SecretError::Missing)?.value;
        let opened = unseal(&self.master, tenant, &key, &sealed);
        let secret = opened.and_then(|opened| Secret::from_bytes(opened).ok());
        let secret = secret.ok_or(SecretError::Unreadable)?;
        self.cache.insert(key, secret.clone());
        Ok(secret)
    }

    /// What an endpoint's policy keeps secret, by its name.
    pub async fn open_text(
        &self,
        tenant: &TenantId,
        endpoint: &EndpointId,
        name: &SecretId,
    ) -> Result<SecretText, SecretError> {
        let key = key(tenant, endpoint, Some(name));
        if let Some(text) = self.texts.get(&key) {
            return Ok(text);
        }
        let entry = self.bucket.get(&key).await?;
        let sealed = entry.ok_or(SecretError::Missing)?.value;
        let opened = unseal(&self.master, tenant, &key, &sealed);
        let text = opened.and_then(|opened| String::from_utf8(opened).ok());
        let text = SecretText::new(text.ok_or(SecretError::Unreadable)?);
        self.texts.insert(key, text.clone());
        Ok(text)
    }
}

fn half_a_minute<T: Clone + Send + Sync + 'static>() -> Cache<Subject, T> {
    Cache::builder()
        .max_capacity(CACHED)
        .time_to_live(CACHED_FOR)
        .build()
}

/// Where a secret lies, which is also what its sealed form is bound to.
pub(crate) fn key(tenant: &TenantId, endpoint: &EndpointId, name: Option<&SecretId>) -> Subject {
    subject(match name {
        Some(name) => format!("{tenant}.{endpoint}.{name}"),
        None => format!("{tenant}.{endpoint}"),
    })
}

fn cipher(master: &MasterKey, tenant: &TenantId) -> XChaCha20Poly1305 {
    let key = master.derive(&format!("tidings/endpoint-secrets/v1/{tenant}"));
    XChaCha20Poly1305::new((&*key).into())
}

/// `version (1) ‖ nonce (24) ‖ ciphertext and tag`
fn seal(master: &MasterKey, tenant: &TenantId, key: &Subject, secret: &[u8]) -> Bytes {
    let mut nonce = [0; NONCE];
    rand::fill(&mut nonce[..]);
    let payload = Payload {
        msg: secret,
        aad: key.as_str().as_bytes(),
    };
    #[expect(clippy::expect_used, reason = "sealing fails only beyond 256 GiB")]
    let ciphertext = cipher(master, tenant)
        .encrypt(&XNonce::from(nonce), payload)
        .expect("a short text can be sealed");
    [&[VERSION], &nonce[..], &ciphertext].concat().into()
}

fn unseal(master: &MasterKey, tenant: &TenantId, key: &Subject, sealed: &[u8]) -> Option<Vec<u8>> {
    let (&version, sealed) = sealed.split_first()?;
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE>()?;
    if version != VERSION {
        return None;
    }
    let payload = Payload {
        msg: ciphertext,
        aad: key.as_str().as_bytes(),
    };
    cipher(master, tenant)
        .decrypt(&XNonce::from(*nonce), payload)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> (TenantId, Subject) {
        let tenant: TenantId = "ten_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let endpoint: EndpointId = "ep_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let key = key(&tenant, &endpoint, None);
        (tenant, key)
    }

    #[test]
    fn only_the_same_key_tenant_endpoint_and_name_open_a_secret() {
        let (tenant, endpoint) = ids();
        let other: EndpointId = "ep_01ARZ3NDEKTSV4RRFFQ69G5FAW".parse().unwrap();
        let same: EndpointId = "ep_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let name: SecretId = "sec_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let (master, secret) = (MasterKey::generate(), Secret::generate());
        let sealed = seal(&master, &tenant, &endpoint, secret.as_bytes());
        let opened = unseal(&master, &tenant, &endpoint, &sealed);
        assert_eq!(opened.as_deref(), Some(secret.as_bytes()));
        for another in [key(&tenant, &other, None), key(&tenant, &same, Some(&name))] {
            assert_eq!(unseal(&master, &tenant, &another, &sealed), None);
        }
        assert_eq!(unseal(&master, &TenantId::platform(), &endpoint, &sealed), None);
        assert_eq!(unseal(&MasterKey::generate(), &tenant, &endpoint, &sealed), None);
    }

    #[test]
    fn any_change_to_what_is_stored_is_noticed() {
        let (tenant, endpoint) = ids();
        let master = MasterKey::generate();
        let sealed = seal(&master, &tenant, &endpoint, Secret::generate().as_bytes());
        for i in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[i] ^= 1;
            assert_eq!(unseal(&master, &tenant, &endpoint, &changed), None, "byte {i}");
            assert_eq!(
                unseal(&master, &tenant, &endpoint, &sealed[..i]),
                None,
                "cut at {i}"
            );
        }
    }

    #[test]
    fn two_sealings_of_one_secret_differ() {
        let (tenant, endpoint) = ids();
        let (master, secret) = (MasterKey::generate(), Secret::generate());
        assert_ne!(
            seal(&master, &tenant, &endpoint, secret.as_bytes()),
            seal(&master, &tenant, &endpoint, secret.as_bytes())
        );
    }
}
