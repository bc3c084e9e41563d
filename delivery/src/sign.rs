//! Signatures by the Standard Webhooks specification: HMAC-SHA256 (`v1`), or ed25519 (`v1a`, `asymmetric`).
//!
//! What is signed is `<webhook-id>.<webhook-timestamp>.<body>`. The header is a list, so that two secrets can be
//! used at once while one replaces the other.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::endpoint::policy::SigningScheme;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

mod asymmetric;

pub use asymmetric::PublicKey;

/// The header that names the message: the same at every attempt.
pub const HEADER_ID: &str = "webhook-id";
/// The header that holds the time of the attempt, in seconds since the Unix epoch.
pub const HEADER_TIMESTAMP: &str = "webhook-timestamp";
/// The header that holds the signatures, separated by spaces.
pub const HEADER_SIGNATURE: &str = "webhook-signature";

const PREFIX: &str = "whsec_";
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;
const GENERATED: usize = 32;

/// A text that is not a signing secret. It does not repeat the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a signing secret is `whsec_` followed by the base64 form of 24 to 64 bytes")]
pub struct InvalidSecret;

/// An endpoint's signing secret: 24 to 64 bytes. Never printed, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Draws a new one of 32 bytes.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new(vec![0; GENERATED]);
        rand::fill(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Of 32 secret bytes.
    pub fn new(bytes: [u8; GENERATED]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// The secret as the receiver needs it, `whsec_…`: for the one answer that shows it.
    pub fn reveal(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(STANDARD.encode(self.0.as_slice()));
        Zeroizing::new([PREFIX, encoded.as_str()].concat())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Result<Self, InvalidSecret> {
        let bytes = Zeroizing::new(bytes);
        if LENGTHS.contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(InvalidSecret)
        }
    }
}

impl FromStr for Secret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        Self::from_bytes(STANDARD.decode(encoded).map_err(|_| InvalidSecret)?)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The value of [`HEADER_SIGNATURE`]: one `v1` signature for each secret, in their order.
///
/// `timestamp` is the time of the attempt, in seconds since the Unix epoch, as in [`HEADER_TIMESTAMP`].
pub fn sign(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let signatures: Vec<String> = secrets
        .iter()
        .map(|secret| format!("v1,{}", STANDARD.encode(digest(secret, id, timestamp, body))))
        .collect();
    signatures.join(" ")
}

/// The value of [`HEADER_SIGNATURE`] by either scheme: one signature for each secret, in their order.
pub fn sign_by(scheme: SigningScheme, secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> String {
    match scheme {
        SigningScheme::Hmac => sign(secrets, id, timestamp, body),
        SigningScheme::Ed25519 => {
            let keys = secrets.iter().map(asymmetric::key_of);
            let signatures = keys.map(|key| asymmetric::sign(&key, id, timestamp, body));
            signatures.collect::<Vec<_>>().join(" ")
        }
    }
}

/// What is signed.
fn signed(id: &str, timestamp: i64, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body].concat()
}

fn digest(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> impl AsRef<[u8]> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(id.as_bytes());
    mac.update(b".");
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.finalize().into_bytes()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vectors {
        accepted: Vec<Vector>,
        asymmetric: Vec<Asymmetric>,
        refused_secrets: Vec<String>,
    }

    #[derive(Deserialize)]
    struct Vector {
        name: String,
        secrets: Vec<String>,
        id: String,
        timestamp: i64,
        body: String,
        signature: String,
    }

    #[derive(Deserialize)]
    struct Asymmetric {
        name: String,
        private_keys: Vec<String>,
        public_keys: Vec<String>,
        id: String,
        timestamp: i64,
        body: String,
        signature: String,
    }

    fn vectors() -> Vectors {
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/vectors/standard-webhooks.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn every_test_vector_is_signed_as_it_says() {
        let vectors = vectors();
        assert!(vectors.accepted.len() >= 4);
        for vector in vectors.accepted {
            let secrets: Vec<Secret> = vector.secrets.iter().map(|s| s.parse().unwrap()).collect();
            let signature = sign(&secrets, &vector.id, vector.timestamp, vector.body.as_bytes());
            assert_eq!(signature, vector.signature, "{}", vector.name);
        }
        for text in vectors.refused_secrets {
            assert_eq!(
                text.parse::<Secret>(),
                Err(InvalidSecret),
                "{text:?} was accepted"
            );
        }
    }

    /// `whsk_…` is the base64 form of the seed and the public key after it.
    #[test]
    fn every_asymmetric_vector_is_signed_as_it_says() {
        let vectors = vectors();
        assert!(vectors.asymmetric.len() >= 3);
        for vector in vectors.asymmetric {
            let mut signatures = Vec::new();
            for (private, public) in vector.private_keys.iter().zip(&vector.public_keys) {
                let bytes = STANDARD.decode(private.strip_prefix("whsk_").unwrap()).unwrap();
                let key = ed25519_dalek::SigningKey::from_keypair_bytes(&bytes.try_into().unwrap()).unwrap();
                assert_eq!(
                    PublicKey::new(key.verifying_key().to_bytes()).to_string(),
                    *public
                );
                signatures.push(asymmetric::sign(
                    &key,
                    &vector.id,
                    vector.timestamp,
                    vector.body.as_bytes(),
                ));
            }
            assert_eq!(signatures.join(" "), vector.signature, "{}", vector.name);
        }
    }

    /// The vector of the specification's own reference, so that the file above cannot drift with the code.
    #[test]
    fn the_published_vector_is_among_them() {
        let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        assert_eq!(
            sign(
                &[secret],
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#
            ),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn the_standardwebhooks_library_agrees() {
        let secret = Secret::generate();
        let library = standardwebhooks::Webhook::new(&secret.reveal()).unwrap();
        let body = r#"{"type":"invoice.paid","data":{"name":"Ådå"}}"#.as_bytes();
        assert_eq!(
            sign(&[secret], "evt_1", 1_700_000_000, body),
            library.sign("evt_1", 1_700_000_000, body).unwrap()
        );
    }

    #[test]
    fn a_secret_reads_as_it_is_revealed_and_is_never_printed() {
        let secret = Secret::generate();
        let text = secret.reveal();
        assert_eq!(text.parse::<Secret>().unwrap(), secret);
        assert_ne!(Secret::generate(), secret);
        assert!(!format!("{secret:?}").contains(&text[10..20]));
    }

    #[test]
    fn a_secret_has_twenty_four_to_sixty_four_bytes() {
        for (length, is_secret) in [(0, false), (23, false), (24, true), (64, true), (65, false)] {
            assert_eq!(Secret::from_bytes(vec![7; length]).is_ok(), is_secret, "{length}");
        }
        assert_eq!(Secret::from_bytes(vec![7; 32]).unwrap().as_bytes(), [7; 32]);
    }

    #[test]
    fn each_scheme_signs_with_every_secret_in_their_order() {
        let secrets = [Secret::new([1; 32]), Secret::new([2; 32])];
        let hmac = sign_by(SigningScheme::Hmac, &secrets, "evt_1", 7, b"{}");
        assert_eq!(hmac, sign(&secrets, "evt_1", 7, b"{}"));
        let asymmetric = sign_by(SigningScheme::Ed25519, &secrets, "evt_1", 7, b"{}");
        let signatures: Vec<&str> = asymmetric.split(' ').collect();
        assert_eq!(signatures.len(), 2);
        for (secret, text) in secrets.iter().zip(signatures) {
            let public = ed25519_dalek::VerifyingKey::from_bytes(secret.public_key().as_bytes()).unwrap();
            let signature = STANDARD.decode(text.strip_prefix("v1a,").unwrap()).unwrap();
            let signature = ed25519_dalek::Signature::from_slice(&signature).unwrap();
            public.verify_strict(b"evt_1.7.{}", &signature).unwrap();
        }
    }
}
