//! How the requests of a source prove where they come from.
//!
//! Each well-known sender has a scheme of its own; [`Verification::Hmac`] and [`Verification::Ed25519`] can be set to
//! what others do. What is checked with which secret is not said here: secrets are kept elsewhere.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::EventTypeRule;
use crate::endpoint::JsonPointer;

/// A text that is not the name of an HTTP header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be the name of an HTTP header: 1 to 64 letters, digits and any of !#$%&'*+-.^_`|~")]
pub struct InvalidHeader;

/// The name of an HTTP header, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Header(String);

impl Header {
    const MAX: usize = 64;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Header {
    type Error = InvalidHeader;

    /// A token of RFC 9110, section 5.6.2.
    fn try_from(text: String) -> Result<Self, InvalidHeader> {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if (1..=Self::MAX).contains(&text.len()) && text.bytes().all(token) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(InvalidHeader)
        }
    }
}

impl From<Header> for String {
    fn from(header: Header) -> Self {
        header.0
    }
}

/// A text that no signature stands behind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be at most 32 ASCII characters, visible ones and spaces")]
pub struct InvalidPrefix;

/// What stands before the signature in its header, as `sha256=`; may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(String);

impl Prefix {
    const MAX: usize = 32;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Prefix {
    type Error = InvalidPrefix;

    fn try_from(text: String) -> Result<Self, InvalidPrefix> {
        if text.len() <= Self::MAX && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            Ok(Self(text))
        } else {
            Err(InvalidPrefix)
        }
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.0
    }
}

/// Which hash an HMAC is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Hexadecimal digits.
    #[default]
    Hex,
    /// Base64, with or without padding.
    Base64,
}

/// How the text of a secret becomes the key of an HMAC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyForm {
    /// Its characters are the key, as most senders have it.
    #[default]
    Text,
    /// It is the hexadecimal form of the key.
    Hex,
    /// It is the base64 form of the key.
    Base64,
}

/// An HMAC over the body, in a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HmacScheme {
    /// The header that holds the signature.
    pub header: Header,
    /// What stands before it.
    #[serde(default)]
    pub prefix: Prefix,
    /// Which hash it is made with.
    pub hash: Hash,
    /// How it is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// What the secret's text means.
    #[serde(default)]
    pub key: KeyForm,
    /// Where in the body a request names itself, so that it is recognised when it comes again; the body itself unless
    /// given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<JsonPointer>,
}

/// An ed25519 signature (RFC 8032) over the body, in a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ed25519Scheme {
    /// The header that holds the signature.
    pub header: Header,
    /// How it is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// The header with the time in seconds since 1970, whose text is signed before the body; no time is signed unless
    /// given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_header: Option<Header>,
    /// Where in the body a request names itself; what is signed unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<JsonPointer>,
}

/// How requests prove themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scheme", rename_all = "snake_case", deny_unknown_fields)]
pub enum Verification {
    /// <https://www.standardwebhooks.com>: `v1` with a `whsec_…`, `v1a` with a `whpk_…`.
    StandardWebhooks {},
    /// `X-Hub-Signature-256`.
    Github {},
    /// `Stripe-Signature`.
    Stripe {},
    /// `X-Slack-Signature` and `X-Slack-Request-Timestamp`.
    Slack {},
    /// Any HMAC over the body.
    Hmac(HmacScheme),
    /// Any ed25519 signature over the body.
    Ed25519(Ed25519Scheme),
}

impl Verification {
    /// The scheme's name.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::StandardWebhooks {} => "standard_webhooks",
            Self::Github {} => "github",
            Self::Stripe {} => "stripe",
            Self::Slack {} => "slack",
            Self::Hmac(_) => "hmac",
            Self::Ed25519(_) => "ed25519",
        }
    }

    /// Where the well-known senders say what a request is about.
    pub fn usual_event_type(&self) -> Option<EventTypeRule> {
        match self {
            Self::StandardWebhooks {} => EventTypeRule::in_body("/type", None),
            Self::Github {} => EventTypeRule::in_header("x-github-event", "github"),
            Self::Stripe {} => EventTypeRule::in_body("/type", Some("stripe")),
            Self::Slack {} => EventTypeRule::in_body("/event/type", Some("slack")),
            Self::Hmac(_) | Self::Ed25519(_) => None,
        }
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_headers_are_tokens_in_lower_case() {
        let header = Header::try_from("X-Hub-Signature-256".to_owned()).unwrap();
        assert_eq!(header.as_str(), "x-hub-signature-256");
        for text in ["", "a b", "a:b", "ä", &"a".repeat(65)] {
            assert_eq!(Header::try_from(text.to_owned()), Err(InvalidHeader), "{text:?}");
        }
        let prefix = Prefix::try_from("HMAC ".to_owned()).unwrap();
        assert_eq!(prefix.as_str(), "HMAC ");
        for text in ["a\tb", "ä", &"=".repeat(33)] {
            assert_eq!(Prefix::try_from(text.to_owned()), Err(InvalidPrefix), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_what_most_senders_do_and_what_is_unknown_is_refused() {
        let read = |json: &str| serde_json::from_str::<Verification>(json);
        let Verification::Hmac(hmac) = read(r#"{"scheme":"hmac","header":"X-Sig","hash":"sha512"}"#).unwrap()
        else {
            panic!("another scheme");
        };
        assert_eq!((hmac.encoding, hmac.key), (Encoding::Hex, KeyForm::Text));
        assert_eq!((hmac.prefix.as_str(), hmac.id), ("", None));
        for json in [
            r#"{"scheme":"md5"}"#,
            r#"{"scheme":"github","header":"x"}"#,
            r#"{"scheme":"hmac","header":"x","hash":"sha1"}"#,
            r#"{"scheme":"hmac","header":"x","hash":"sha256","salt":1}"#,
            r#"{"scheme":"ed25519"}"#,
        ] {
            assert!(read(json).is_err(), "{json} was accepted");
        }
    }

    #[test]
    fn well_known_senders_say_where_their_types_stand() {
        for verification in [
            Verification::StandardWebhooks {},
            Verification::Github {},
            Verification::Stripe {},
            Verification::Slack {},
        ] {
            assert!(verification.usual_event_type().is_some(), "{verification}");
        }
    }

    #[test]
    fn a_scheme_is_called_as_it_is_written() {
        for (scheme, more) in [
            ("standard_webhooks", json!({})),
            ("github", json!({})),
            ("stripe", json!({})),
            ("slack", json!({})),
            ("hmac", json!({ "header": "x", "hash": "sha256" })),
            ("ed25519", json!({ "header": "x" })),
        ] {
            let mut written = more;
            written["scheme"] = json!(scheme);
            let read: Verification = serde_json::from_value(written).unwrap();
            assert_eq!(read.scheme(), scheme);
        }
    }
}
