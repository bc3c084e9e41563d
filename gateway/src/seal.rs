//! Sealing: values that lie in a bucket and only this installation may read.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

const VERSION: u8 = 1;
const NONCE: usize = 24;

/// Seals and opens under one key: XChaCha20-Poly1305, each value bound to its place.
pub(crate) struct Sealer(XChaCha20Poly1305);

impl Sealer {
    /// Under 32 secret bytes.
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// `version (1) ‖ nonce (24) ‖ ciphertext and tag`, which opens under the same binding only.
    pub(crate) fn seal(&self, binding: &str, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        rand::fill(&mut nonce[..]);
        let payload = Payload {
            msg: plain,
            aad: binding.as_bytes(),
        };
        #[expect(clippy::expect_used, reason = "sealing fails only beyond 256 GiB")]
        let ciphertext = self
            .0
            .encrypt(&XNonce::from(nonce), payload)
            .expect("what fits into memory can be sealed");
        [&[VERSION], &nonce[..], &ciphertext].concat()
    }

    /// What was sealed; none if it was not sealed here, or for another place.
    pub(crate) fn open(&self, binding: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (&version, sealed) = sealed.split_first()?;
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE>()?;
        let payload = Payload {
            msg: ciphertext,
            aad: binding.as_bytes(),
        };
        let opened = self.0.decrypt(&XNonce::from(*nonce), payload).ok()?;
        (version == VERSION).then_some(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_at_its_own_place_under_its_own_key_only() {
        let sealer = Sealer::new(&[7; 32]);
        let sealed = sealer.seal("here", b"secret");
        assert_eq!(sealer.open("here", &sealed).as_deref(), Some(&b"secret"[..]));
        assert_eq!(sealer.open("there", &sealed), None);
        assert_eq!(Sealer::new(&[8; 32]).open("here", &sealed), None);
        let mut bent = sealed.clone();
        bent[30] ^= 1;
        assert_eq!(sealer.open("here", &bent), None);
        assert_eq!(sealer.open("here", &sealed[..10]), None);
        assert_ne!(sealer.seal("here", b"secret"), sealed);
    }
}
