//! GitHub: `X-Hub-Signature-256`, an HMAC-SHA-256 over the body
//! (<https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>). No time is signed.

use domain::source::{Encoding, Hash};

use super::key::decode;
use super::{Incoming, Proof, SourceKey};

pub(super) fn prove(keys: &[SourceKey], incoming: &Incoming<'_>) -> Option<Proof> {
    let text = incoming.header("x-hub-signature-256")?.strip_prefix("sha256=")?;
    let code = decode(Encoding::Hex, text)?;
    let fits = |key: &SourceKey| key.authenticates(Hash::Sha256, &[incoming.body], &code);
    keys.iter().any(fits).then_some(Proof { id: None, time: None })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{headers, incoming, shared};
    use super::*;

    /// The example of GitHub's documentation.
    #[test]
    fn the_published_vector_proves_itself_and_nothing_else_does() {
        const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let keys = shared(b"It's a Secret to Everybody");
        let proves = |body: &[u8], pairs: &[(&str, &str)]| {
            let headers = headers(pairs);
            prove(&keys, &incoming(&headers, body, 0)).is_some()
        };
        let header = "x-hub-signature-256";
        assert!(proves(b"Hello, World!", &[(header, SIGNATURE)]));
        assert!(!proves(b"Hello, World?", &[(header, SIGNATURE)]));
        assert!(!proves(b"Hello, World!", &[(header, &SIGNATURE[7..])]));
        assert!(!proves(b"Hello, World!", &[(header, &SIGNATURE[..70])]));
        assert!(!proves(b"Hello, World!", &[("x-hub-signature", SIGNATURE)]));
        assert!(!proves(b"Hello, World!", &[]));
        let twice = [(header, SIGNATURE), (header, SIGNATURE)];
        assert!(!proves(b"Hello, World!", &twice));
        let headers = headers(&[(header, SIGNATURE)]);
        let other = shared(b"It's a Secret to Nobody at all");
        assert!(prove(&other, &incoming(&headers, b"Hello, World!", 0)).is_none());
    }
}
