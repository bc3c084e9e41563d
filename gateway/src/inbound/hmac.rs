//! Any HMAC over the body, in a header that the source names. No time is signed.

use domain::source::HmacScheme;

use super::key::decode;
use super::{Incoming, Proof, SourceKey};

pub(super) fn prove(scheme: &HmacScheme, keys: &[SourceKey], incoming: &Incoming<'_>) -> Option<Proof> {
    let text = incoming.header(scheme.header.as_str())?;
    let code = decode(scheme.encoding, text.strip_prefix(scheme.prefix.as_str())?)?;
    let fits = |key: &SourceKey| key.authenticates(scheme.hash, &[incoming.body], &code);
    keys.iter().any(fits).then_some(Proof { id: None, time: None })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{headers, incoming, shared};
    use super::*;

    /// The second test case of RFC 4231, with both hashes and in both encodings.
    #[test]
    fn the_published_vectors_prove_themselves_and_nothing_else_does() {
        const BODY: &[u8] = b"what do ya want for nothing?";
        let keys = shared(b"Jefe");
        let sha256 = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let sha512 = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737";
        let base64 = "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=";
        for (hash, encoding, prefix, code) in [
            ("sha256", "hex", "sha256=", sha256),
            ("sha512", "hex", "", sha512),
            ("sha256", "base64", "HMAC_", base64),
        ] {
            let json = format!(
                r#"{{"header":"X-Sig","prefix":"{prefix}","hash":"{hash}","encoding":"{encoding}"}}"#
            );
            let scheme: HmacScheme = serde_json::from_str(&json).unwrap();
            let proves = |value: String, body: &[u8]| {
                let headers = headers(&[("x-sig", &value)]);
                prove(&scheme, &keys, &incoming(&headers, body, 0)).is_some()
            };
            assert!(proves(format!("{prefix}{code}"), BODY), "{json}");
            assert!(!proves(format!("{prefix}{code}"), b"nothing"), "{json}");
            assert!(!proves(format!("{prefix}{}", &code[4..]), BODY), "{json}");
            assert!(!proves(format!("x{prefix}{code}"), BODY), "{json}");
        }
    }
}
