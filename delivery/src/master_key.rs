//! The installation's master key, from which the keys of all encrypted values derive.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// A text that is not a master key. It does not repeat the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a master key is 32 bytes, as 64 hexadecimal digits or in base64")]
pub struct InvalidMasterKey;

/// 32 secret bytes. Never printed, wiped from memory when dropped.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// Of 32 bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Draws a new one.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rand::fill(bytes.as_mut_slice());
        Self(bytes)
    }

    /// The key as 64 hexadecimal digits: for the file that keeps a generated one.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0.as_slice()))
    }

    /// The key for one purpose (HKDF-SHA256, RFC 5869); `info` names the purpose.
    pub fn derive(&self, info: &str) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        #[expect(clippy::expect_used, reason = "HKDF-SHA256 yields up to 8160 bytes")]
        Hkdf::<Sha256>::new(None, self.0.as_slice())
            .expand(info.as_bytes(), key.as_mut_slice())
            .expect("32 bytes can be derived");
        key
    }
}

impl FromStr for MasterKey {
    type Err = InvalidMasterKey;

    fn from_str(text: &str) -> Result<Self, InvalidMasterKey> {
        let text = text.trim();
        let bytes = Zeroizing::new(
            hex::decode(text)
                .ok()
                .or_else(|| from_base64(text))
                .ok_or(InvalidMasterKey)?,
        );
        let bytes = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| InvalidMasterKey)?;
        Ok(Self::new(bytes))
    }
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    [STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(text).ok())
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_key_is_read_from_hex_and_base64() {
        let bytes: [u8; 32] = std::array::from_fn(|i| u8::try_from(i * 7).unwrap());
        let key = MasterKey::new(bytes);
        for text in [
            key.reveal().to_string(),
            key.reveal().to_uppercase(),
            STANDARD.encode(bytes),
            URL_SAFE_NO_PAD.encode(bytes),
        ] {
            assert_eq!(text.parse::<MasterKey>().unwrap().0.as_slice(), bytes);
        }
        for text in [
            "",
            "abc",
            &"0".repeat(63),
            &"g".repeat(64),
            &STANDARD.encode([0; 31]),
        ] {
            assert!(text.parse::<MasterKey>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn purposes_have_unlike_keys_and_the_master_is_never_printed() {
        let key = MasterKey::generate();
        assert_ne!(*key.derive("a"), *key.derive("b"));
        assert_eq!(*key.derive("a"), *key.derive("a"));
        assert!(!format!("{key:?}").contains(&key.reveal()[..8]));
    }
}
