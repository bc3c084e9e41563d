//! Any ed25519 signature over the body, or over the text of a time header and the body (as Discord has it).

use domain::source::{Ed25519Scheme, ToleranceSeconds};

use super::key::decode;
use super::{Incoming, Proof, SourceKey};

pub(super) fn prove(
    scheme: &Ed25519Scheme,
    keys: &[SourceKey],
    incoming: &Incoming<'_>,
    tolerance: ToleranceSeconds,
) -> Option<Proof> {
    let signature = decode(scheme.encoding, incoming.header(scheme.header.as_str())?)?;
    let time = match &scheme.timestamp_header {
        Some(header) => {
            let time = incoming.header(header.as_str())?;
            if !incoming.is_timely(time, tolerance) {
                return None;
            }
            Some(time)
        }
        None => None,
    };
    let signed = [time.unwrap_or_default().as_bytes(), incoming.body];
    let fits = |key: &SourceKey| key.verifies(&signed, &signature);
    keys.iter().any(fits).then(|| Proof {
        id: None,
        time: time.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use domain::source::Verification;

    use super::super::testing::{TOLERANCE, headers, incoming};
    use super::*;

    fn scheme(json: &str) -> (Ed25519Scheme, Vec<SourceKey>) {
        let scheme: Ed25519Scheme = serde_json::from_str(json).unwrap();
        // The second example of RFC 8032, section 7.1.
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        let key = SourceKey::read(&Verification::Ed25519(scheme.clone()), public).unwrap();
        (scheme, vec![key])
    }

    #[test]
    fn the_published_vector_proves_itself_and_nothing_else_does() {
        const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                                 085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        let (scheme, keys) = scheme(r#"{"header":"X-Signature-Ed25519"}"#);
        let proves = |signature: &str, body: &[u8]| {
            let headers = headers(&[("x-signature-ed25519", signature)]);
            prove(&scheme, &keys, &incoming(&headers, body, 0), TOLERANCE).is_some()
        };
        assert!(proves(SIGNATURE, b"\x72"));
        assert!(!proves(SIGNATURE, b"\x73"));
        assert!(!proves(&SIGNATURE[2..], b"\x72"));
        assert!(!proves(&SIGNATURE.replace("92a0", "92a1"), b"\x72"));
    }

    /// The time's text and the body together are the message of the vector.
    #[test]
    fn the_time_is_signed_with_the_body_where_the_source_names_its_header() {
        const SIGNATURE: &str =
            "6ygoRo+NywDeAco8lmn9Er2vJoBI/ybsHO+Kj1oghEZHjvWyMk9V7jnuevBSCNr9b1fGPfK2UYBP3FX94XJnBg==";
        let (scheme, keys) = scheme(r#"{"header":"x-sig","timestamp_header":"x-time","encoding":"base64"}"#);
        let proves = |time: &str, body: &[u8], now: i64| {
            let headers = headers(&[("x-sig", SIGNATURE), ("x-time", time)]);
            prove(&scheme, &keys, &incoming(&headers, body, now), TOLERANCE).is_some()
        };
        assert!(proves("1700000000", b"{}", 1_700_000_300));
        assert!(!proves("1700000000", b"{}", 1_700_000_301));
        assert!(!proves("1700000001", b"{}", 1_700_000_000));
        assert!(!proves("1700000000", b"[]", 1_700_000_000));
    }
}
