//! Slack: `X-Slack-Signature: v0=…`, an HMAC-SHA-256 over `v0:time:body`
//! (<https://api.slack.com/authentication/verifying-requests-from-slack>).

use domain::source::{Encoding, Hash, ToleranceSeconds};

use super::key::decode;
use super::{Incoming, Proof, SourceKey};

pub(super) fn prove(
    keys: &[SourceKey],
    incoming: &Incoming<'_>,
    tolerance: ToleranceSeconds,
) -> Option<Proof> {
    let time = incoming.header("x-slack-request-timestamp")?;
    let text = incoming.header("x-slack-signature")?.strip_prefix("v0=")?;
    let code = decode(Encoding::Hex, text)?;
    let signed = [b"v0:", time.as_bytes(), b":", incoming.body];
    let fits = |key: &SourceKey| key.authenticates(Hash::Sha256, &signed, &code);
    (incoming.is_timely(time, tolerance) && keys.iter().any(fits)).then(|| Proof {
        id: None,
        time: Some(time.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TOLERANCE, headers, incoming, shared};
    use super::*;

    /// The example of Slack's documentation.
    #[test]
    fn the_published_vector_proves_itself_and_nothing_else_does() {
        const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        const SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
        const TIME: &str = "1531420618";
        let keys = shared(b"8f742231b10e8888abcd99yyyzzz85a5");
        let proves = |signature: &str, time: &str, body: &str, now: i64| {
            let headers = headers(&[
                ("X-Slack-Signature", signature),
                ("X-Slack-Request-Timestamp", time),
            ]);
            prove(&keys, &incoming(&headers, body.as_bytes(), now), TOLERANCE).is_some()
        };
        let now = 1_531_420_618;
        assert!(proves(SIGNATURE, TIME, BODY, now) && proves(SIGNATURE, TIME, BODY, now + 300));
        assert!(!proves(SIGNATURE, TIME, BODY, now + 301));
        assert!(!proves(SIGNATURE, "1531420619", BODY, now));
        assert!(!proves(SIGNATURE, TIME, &BODY[1..], now));
        assert!(!proves(&SIGNATURE[3..], TIME, BODY, now));
        assert!(!proves(SIGNATURE, "soon", BODY, now));
    }
}
