//! The asymmetric scheme (`v1a`): ed25519 (RFC 8032), whose public half receivers are told, so that nobody but Tidings
//! can sign.
//!
//! A key is derived from the endpoint's signing secret, of which an endpoint that signs so never shows anything: one
//! secret is kept, rotated and erased, whatever the scheme.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Secret, signed};

const PREFIX: &str = "whpk_";
const PURPOSE: &[u8] = b"tidings/webhook-ed25519/v1";

/// The public half of a key: 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// These bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its base64url form, the `x` of a JSON Web Key (RFC 8037, section 2).
    pub fn x(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// What it is called: its thumbprint (RFC 7638), the same whoever computes it.
    pub fn id(&self) -> String {
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, self.x());
        URL_SAFE_NO_PAD.encode(Sha256::digest(members))
    }
}

impl fmt::Display for PublicKey {
    /// As the Standard Webhooks write it, `whpk_…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0))
    }
}

impl Secret {
    /// The public half of the key that this secret signs with.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(key_of(self).verifying_key().to_bytes())
    }
}

/// The key that a secret signs with.
pub(super) fn key_of(secret: &Secret) -> SigningKey {
    let mut seed = Zeroizing::new([0; 32]);
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 yields up to 8160 bytes")]
    Hkdf::<Sha256>::new(None, secret.as_bytes())
        .expand(PURPOSE, seed.as_mut_slice())
        .expect("32 bytes can be derived");
    SigningKey::from_bytes(&seed)
}

/// One signature, as it stands in the header.
pub(super) fn sign(key: &SigningKey, id: &str, timestamp: i64, body: &[u8]) -> String {
    let signature = key.sign(&signed(id, timestamp, body));
    format!("v1a,{}", STANDARD.encode(signature.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037, appendix A.
    #[test]
    fn a_public_key_is_written_and_called_as_the_standard_says() {
        let bytes = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        let key = PublicKey::new(bytes.unwrap().try_into().unwrap());
        assert_eq!(key.x(), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert!(key.to_string().starts_with("whpk_"));
    }

    #[test]
    fn a_secret_has_one_key_and_another_has_another() {
        let secret = Secret::new([7; 32]);
        assert_eq!(secret.public_key(), Secret::new([7; 32]).public_key());
        assert_ne!(secret.public_key(), Secret::new([8; 32]).public_key());
        // What signs is not the secret itself, which other code may use as a key too.
        let plain = SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
        assert_ne!(secret.public_key().as_bytes(), &plain);
    }
}
