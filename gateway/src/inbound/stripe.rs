//! Stripe: `Stripe-Signature: t=…,v1=…`, an HMAC-SHA-256 over `t.body`, several `v1` while a secret is rolled
//! (<https://docs.stripe.com/webhooks/signature>).

use domain::source::{Encoding, Hash, ToleranceSeconds};

use super::key::decode;
use super::{Incoming, Proof, SourceKey};

pub(super) fn prove(
    keys: &[SourceKey],
    incoming: &Incoming<'_>,
    tolerance: ToleranceSeconds,
) -> Option<Proof> {
    let parts = incoming.header("stripe-signature")?.split(',');
    let parts = parts.filter_map(|part| part.trim().split_once('='));
    let mut times = parts.clone().filter(|(name, _)| *name == "t");
    let (_, time) = times.next()?;
    if times.next().is_some() || !incoming.is_timely(time, tolerance) {
        return None;
    }
    let signed = [time.as_bytes(), b".", incoming.body];
    let fits = |code: Vec<u8>| {
        keys.iter()
            .any(|key| key.authenticates(Hash::Sha256, &signed, &code))
    };
    let mut codes = parts.filter(|(name, _)| *name == "v1");
    codes
        .any(|(_, text)| decode(Encoding::Hex, text).is_some_and(fits))
        .then(|| Proof {
            id: None,
            time: Some(time.to_owned()),
        })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TOLERANCE, headers, incoming, shared};
    use super::*;

    const BODY: &[u8] = b"{\"id\":\"evt_1\",\"object\":\"event\"}";
    const NOW: i64 = 1_492_774_577;
    /// Computed with Python's hmac module: Stripe publishes no vector with its secret.
    const CODE: &str = "654b43d3508ecadb3f8cefc4bc7d3d2bdc5ba9e03bf2c89b2d0657a8e24e4543";

    #[test]
    fn a_signature_of_the_body_and_its_time_proves_both() {
        // The whole text of the secret is the key, its prefix too.
        let keys = shared(b"whsec_test_secret");
        let proves = |value: &str, body: &[u8], now: i64| {
            let headers = headers(&[("Stripe-Signature", value)]);
            prove(&keys, &incoming(&headers, body, now), TOLERANCE)
        };
        let good = format!("t={NOW},v1={CODE},v0={CODE}");
        assert_eq!(
            proves(&good, BODY, NOW).unwrap().time.as_deref(),
            Some("1492774577")
        );
        assert!(proves(&format!("t={NOW}, v1={}, v1={CODE}", "0".repeat(64)), BODY, NOW).is_some());
        assert!(proves(&good, BODY, NOW + 300).is_some() && proves(&good, BODY, NOW - 300).is_some());
        for (value, body, now) in [
            (good.clone(), BODY, NOW + 301),
            (good.clone(), BODY, NOW - 301),
            (good.clone(), &b"{}"[..], NOW),
            (format!("t={},v1={CODE}", NOW + 1), BODY, NOW),
            (format!("t={NOW},t={NOW},v1={CODE}"), BODY, NOW),
            (format!("t={NOW},v0={CODE}"), BODY, NOW),
            (format!("v1={CODE}"), BODY, NOW),
            (format!("t=now,v1={CODE}"), BODY, NOW),
            (String::new(), BODY, NOW),
        ] {
            assert_eq!(proves(&value, body, now), None, "{value} at {now}");
        }
    }
}
