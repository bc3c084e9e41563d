//! The keys that requests are checked with, from the text of a source's secret.

use ::hmac::{Hmac, KeyInit, Mac};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use domain::source::{Encoding, Hash, KeyForm, Verification};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

/// What a `whsec_…` may hold, in bytes (Standard Webhooks).
const STANDARD_SECRET: std::ops::RangeInclusive<usize> = 24..=64;
/// What any other shared key may hold, in bytes: the shortest that cannot be guessed, and more than anybody gives.
const SHARED: std::ops::RangeInclusive<usize> = 16..=512;

const INDIFFERENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, INDIFFERENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, INDIFFERENT);

/// A text that is not a secret of its source. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidKey {
    /// Of the Standard Webhooks.
    #[error(
        "must be `whsec_` and the base64 form of 24 to 64 bytes, or `whpk_` and that of an ed25519 public key"
    )]
    Standard,
    /// Of an HMAC.
    #[error("must be a key of 16 to 512 bytes in the form that the source asks for")]
    Shared,
    /// Of ed25519.
    #[error("must be an ed25519 public key: 32 bytes, as 64 hexadecimal digits or in base64")]
    Public,
}

/// What a request is checked with.
#[derive(Clone)]
pub(crate) enum SourceKey {
    /// A secret that the sender has too.
    Shared(Zeroizing<Vec<u8>>),
    /// The public half of the sender's key.
    Public(Box<VerifyingKey>),
}

impl SourceKey {
    /// The key that a text means to a source.
    pub(crate) fn read(verification: &Verification, text: &str) -> Result<Self, InvalidKey> {
        match verification {
            Verification::StandardWebhooks {} => standard(text).ok_or(InvalidKey::Standard),
            Verification::Github {} | Verification::Stripe {} | Verification::Slack {} => {
                shared(text.as_bytes().to_vec())
            }
            Verification::Hmac(scheme) => shared(match scheme.key {
                KeyForm::Text => text.as_bytes().to_vec(),
                KeyForm::Hex => decode(Encoding::Hex, text).ok_or(InvalidKey::Shared)?,
                KeyForm::Base64 => decode(Encoding::Base64, text).ok_or(InvalidKey::Shared)?,
            }),
            Verification::Ed25519(_) => {
                let bytes = match text.len() {
                    64 => decode(Encoding::Hex, text),
                    _ => decode(Encoding::Base64, text),
                };
                bytes.and_then(|bytes| public(&bytes)).ok_or(InvalidKey::Public)
            }
        }
    }

    /// The text of a new secret, from 32 secret bytes; none where only the sender can make one.
    pub(crate) fn draw(verification: &Verification, bytes: &[u8; 32]) -> Option<Zeroizing<String>> {
        let text = match verification {
            Verification::StandardWebhooks {} => format!("whsec_{}", BASE64_STANDARD.encode(bytes)),
            Verification::Github {} | Verification::Stripe {} | Verification::Slack {} => {
                BASE64_URL_SAFE_NO_PAD.encode(bytes)
            }
            Verification::Hmac(scheme) => match scheme.key {
                KeyForm::Text => BASE64_URL_SAFE_NO_PAD.encode(bytes),
                KeyForm::Hex => hex::encode(bytes),
                KeyForm::Base64 => BASE64_STANDARD.encode(bytes),
            },
            Verification::Ed25519(_) => return None,
        };
        Some(Zeroizing::new(text))
    }

    /// Whether this is the HMAC of these parts, one after the other; compared in constant time.
    pub(super) fn authenticates(&self, hash: Hash, parts: &[&[u8]], code: &[u8]) -> bool {
        let Self::Shared(key) = self else {
            return false;
        };
        match hash {
            Hash::Sha256 => fits::<Hmac<Sha256>>(key, parts, code),
            Hash::Sha512 => fits::<Hmac<Sha512>>(key, parts, code),
        }
    }

    /// Whether this is the ed25519 signature of these parts, one after the other.
    pub(super) fn verifies(&self, parts: &[&[u8]], signature: &[u8]) -> bool {
        let (Self::Public(key), Ok(signature)) = (self, Signature::from_slice(signature)) else {
            return false;
        };
        key.verify_strict(&parts.concat(), &signature).is_ok()
    }
}

fn fits<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]], code: &[u8]) -> bool {
    let Ok(mut mac) = M::new_from_slice(key) else {
        return false;
    };
    for part in parts {
        mac.update(part);
    }
    mac.verify_slice(code).is_ok()
}

fn standard(text: &str) -> Option<SourceKey> {
    if let Some(encoded) = text.strip_prefix("whpk_") {
        return public(&decode(Encoding::Base64, encoded)?);
    }
    let bytes = decode(Encoding::Base64, text.strip_prefix("whsec_")?)?;
    STANDARD_SECRET
        .contains(&bytes.len())
        .then(|| SourceKey::Shared(bytes.into()))
}

fn shared(bytes: Vec<u8>) -> Result<SourceKey, InvalidKey> {
    let bytes = Zeroizing::new(bytes);
    if SHARED.contains(&bytes.len()) {
        Ok(SourceKey::Shared(bytes))
    } else {
        Err(InvalidKey::Shared)
    }
}

/// A key under which anything could be signed is none.
fn public(bytes: &[u8]) -> Option<SourceKey> {
    let key = VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()?;
    (!key.is_weak()).then(|| SourceKey::Public(Box::new(key)))
}

/// The bytes that a text writes; base64 in either alphabet, with or without padding.
pub(super) fn decode(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Hex => hex::decode(text).ok(),
        Encoding::Base64 => STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verification(json: &str) -> Verification {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_drawn_for_a_scheme_is_read_by_it() {
        for json in [
            r#"{"scheme":"standard_webhooks"}"#,
            r#"{"scheme":"github"}"#,
            r#"{"scheme":"stripe"}"#,
            r#"{"scheme":"slack"}"#,
            r#"{"scheme":"hmac","header":"x","hash":"sha256"}"#,
            r#"{"scheme":"hmac","header":"x","hash":"sha256","key":"hex"}"#,
            r#"{"scheme":"hmac","header":"x","hash":"sha512","key":"base64"}"#,
        ] {
            let verification = verification(json);
            let text = SourceKey::draw(&verification, &[0xfb; 32]).unwrap();
            assert!(SourceKey::read(&verification, &text).is_ok(), "{json}: {}", *text);
            assert!(SourceKey::read(&verification, "short").is_err(), "{json}");
        }
        let ed25519 = verification(r#"{"scheme":"ed25519","header":"x"}"#);
        assert!(SourceKey::draw(&ed25519, &[7; 32]).is_none());
    }

    #[test]
    fn public_keys_are_points_that_prove_something() {
        let ed25519 = verification(r#"{"scheme":"ed25519","header":"x"}"#);
        let standard = verification(r#"{"scheme":"standard_webhooks"}"#);
        let key = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        let encoded = BASE64_STANDARD.encode(hex::decode(key).unwrap());
        assert!(SourceKey::read(&ed25519, key).is_ok());
        assert!(SourceKey::read(&ed25519, &encoded).is_ok());
        assert!(SourceKey::read(&standard, &format!("whpk_{encoded}")).is_ok());
        // The identity: its signatures fit every message.
        let weak = format!("01{}", "00".repeat(31));
        for text in ["", &key[2..], &weak] {
            assert!(SourceKey::read(&ed25519, text).is_err(), "{text:?}");
        }
        assert!(SourceKey::read(&standard, &format!("whsec_{}", &encoded[..20])).is_err());
    }

    #[test]
    fn base64_is_read_in_either_alphabet_with_or_without_padding() {
        for text in ["+/8=", "+/8", "-_8=", "-_8"] {
            assert_eq!(
                decode(Encoding::Base64, text).as_deref(),
                Some(&[0xfb, 0xff][..]),
                "{text}"
            );
        }
        assert_eq!(decode(Encoding::Hex, "0G"), None);
    }
}
