//! Standard Webhooks: `v1` (HMAC-SHA-256) and `v1a` (ed25519) over `id.time.body`, several while a secret is replaced
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use delivery::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP};
use domain::source::{Encoding, Hash, ToleranceSeconds};

use super::key::decode;
use super::{Incoming, Proof, SourceKey};

pub(super) fn prove(
    keys: &[SourceKey],
    incoming: &Incoming<'_>,
    tolerance: ToleranceSeconds,
) -> Option<Proof> {
    let (id, time) = (incoming.header(HEADER_ID)?, incoming.header(HEADER_TIMESTAMP)?);
    // A dot in the id could be read as the one after it.
    if id.is_empty() || id.contains('.') || !incoming.is_timely(time, tolerance) {
        return None;
    }
    let signed = [id.as_bytes(), b".", time.as_bytes(), b".", incoming.body];
    let fits = |version: &str, signature: &[u8]| {
        keys.iter().any(|key| match version {
            "v1" => key.authenticates(Hash::Sha256, &signed, signature),
            "v1a" => key.verifies(&signed, signature),
            _ => false,
        })
    };
    let mut signatures = incoming.header(HEADER_SIGNATURE)?.split(' ');
    signatures
        .any(|signature| {
            let parts = signature.split_once(',');
            parts.is_some_and(|(version, text)| {
                decode(Encoding::Base64, text).is_some_and(|signature| fits(version, &signature))
            })
        })
        .then(|| Proof {
            id: Some(id.to_owned()),
            time: Some(time.to_owned()),
        })
}

#[cfg(test)]
mod tests {
    use domain::source::Verification;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::super::testing::{TOLERANCE, headers, incoming};
    use super::*;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const NOW: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn key(text: &str) -> SourceKey {
        SourceKey::read(&Verification::StandardWebhooks {}, text).unwrap()
    }

    fn proves(keys: &[SourceKey], id: &str, time: &str, signature: &str, body: &[u8]) -> bool {
        let headers = headers(&[
            ("webhook-id", id),
            ("webhook-timestamp", time),
            ("webhook-signature", signature),
        ]);
        prove(keys, &incoming(&headers, body, NOW), TOLERANCE).is_some()
    }

    /// The example of the specification's own libraries.
    #[test]
    fn the_published_vector_proves_itself_and_nothing_else_does() {
        const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let (time, late) = (NOW.to_string(), (NOW - 301).to_string());
        let keys = [key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
        assert!(proves(&keys, ID, &time, SIGNATURE, BODY));
        let among = format!("v1,AAAA v2,x {SIGNATURE}");
        assert!(proves(&keys, ID, &time, &among, BODY));
        let other = [
            key("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
            keys[0].clone(),
        ];
        assert!(proves(&other, ID, &time, SIGNATURE, BODY));
        assert!(!proves(&other[..1], ID, &time, SIGNATURE, BODY));
        assert!(!proves(&keys, "msg_other", &time, SIGNATURE, BODY));
        assert!(!proves(&keys, ID, &late, SIGNATURE, BODY));
        assert!(!proves(&keys, ID, &time, SIGNATURE, b"{}"));
        assert!(!proves(&keys, ID, &time, &SIGNATURE[3..], BODY));
        assert!(!proves(&keys, ID, &time, &SIGNATURE.replace("v1,", "v1a,"), BODY));
    }

    /// Computed with openssl, under the key of the third example of RFC 8032, section 7.1.
    #[test]
    fn an_asymmetric_signature_proves_itself() {
        const SIGNATURE: &str =
            "v1a,CbWWbcW7B69jFUBICrevjm7uB16AqaX4X9zprrpWvW4012zWjiDpguw4L1VnBIktLL4pyfhNhZgLFTYi5s10AA==";
        let keys = [key("whpk_/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU=")];
        let time = NOW.to_string();
        assert!(proves(&keys, ID, &time, SIGNATURE, BODY));
        assert!(!proves(&keys, ID, &time, SIGNATURE, b"{}"));
        assert!(!proves(&keys, ID, &time, &SIGNATURE.replace("v1a", "v1"), BODY));
    }

    /// The language-neutral file: every vector proves itself at its own time, and each that is to be refused is.
    #[test]
    fn every_vector_of_the_file_is_judged_as_it_says() {
        let vectors: serde_json::Value = serde_json::from_str(include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../schemas/vectors/standard-webhooks.json"
        )))
        .unwrap();
        let judge = |vector: &serde_json::Value, keys: &str, now: &str| {
            let text = |field: &str| vector[field].as_str().unwrap();
            let keys = vector[keys].as_array().unwrap().iter();
            let keys: Vec<_> = keys.map(|text| key(text.as_str().unwrap())).collect();
            let headers = headers(&[
                ("webhook-id", text("id")),
                ("webhook-timestamp", &vector["timestamp"].to_string()),
                ("webhook-signature", text("signature")),
            ]);
            let request = incoming(&headers, text("body").as_bytes(), vector[now].as_i64().unwrap());
            prove(&keys, &request, TOLERANCE).is_some()
        };
        for (list, keys, now, good) in [
            ("accepted", "secrets", "timestamp", true),
            ("asymmetric", "public_keys", "timestamp", true),
            ("refused", "keys", "now", false),
        ] {
            let list = vectors[list].as_array().unwrap();
            assert!(list.len() >= 4);
            for vector in list {
                assert_eq!(judge(vector, keys, now), good, "{}", vector["name"]);
            }
        }
    }

    proptest! {
        /// A signature proves the request it was made for; with anything changed, in it or in what it covers, nothing.
        #[test]
        fn a_signature_proves_one_request_only(
            body in vec(any::<u8>(), 0..50),
            header in "[ -~]{0,120}",
            place in any::<Index>(),
            by in "[ -~]",
            which in 0..4_usize,
        ) {
            let secret = delivery::Secret::new([7; 32]);
            let keys = [key(&secret.reveal())];
            let signature = delivery::sign(std::slice::from_ref(&secret), ID, NOW, &body);
            let time = NOW.to_string();
            prop_assert!(proves(&keys, ID, &time, &signature, &body));
            prop_assert!(!proves(&keys, ID, &time, &header, &body));
            prop_assert!(!proves(&keys, ID, &header, &signature, &body) || header == time);
            prop_assert!(!proves(&keys, &header, &time, &signature, &body) || header == ID);
            let spoil = |text: &str| {
                let at = place.index(text.len());
                [&text[..at], &by, &text[at + 1..]].concat()
            };
            let (mut parts, mut spoilt) = ([ID, &time, &signature].map(str::to_owned), body.clone());
            match which {
                3 => spoilt.push(0),
                which => parts[which] = spoil(&parts[which]),
            }
            // Either alphabet of base64 is taken: a signature in the other one says the same.
            let alphabet = parts[2].replace('-', "+").replace('_', "/");
            let alike = [&parts[0], &parts[1], &alphabet] == [ID, &time, &signature] && spoilt == body;
            let proven = proves(&keys, &parts[0], &parts[1], &parts[2], &spoilt);
            prop_assert!(alike || !proven, "{parts:?}");
        }
    }

    #[test]
    fn an_id_with_a_dot_would_be_ambiguous() {
        let secret = delivery::Secret::new([7; 32]);
        let signature = delivery::sign(std::slice::from_ref(&secret), "a.b", NOW, BODY);
        let keys = [key(&secret.reveal())];
        assert!(!proves(&keys, "a.b", &NOW.to_string(), &signature, BODY));
        let signature = delivery::sign(std::slice::from_ref(&secret), "a_b", NOW, BODY);
        assert!(proves(&keys, "a_b", &NOW.to_string(), &signature, BODY));
    }
}
