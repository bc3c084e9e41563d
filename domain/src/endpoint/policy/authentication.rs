//! How Tidings proves to a receiver who it is. Passwords, tokens and keys only have names here; they are kept sealed
//! elsewhere.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::endpoint::TargetUrl;
use crate::{SecretId, Text};

/// How Tidings proves to a receiver who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Authentication {
    /// User name and password (RFC 7617).
    Basic {
        /// The user name.
        username: Username,
        /// The password's name.
        password: SecretId,
    },
    /// A token that does not change (RFC 6750).
    Bearer {
        /// The token's name.
        token: SecretId,
    },
    /// A token that is asked for at another server, with client credentials (RFC 6749 §4.4).
    Oauth2 {
        /// Where tokens are given out.
        token_url: TargetUrl,
        /// What Tidings is called there.
        client_id: ClientId,
        /// The name of the secret it proves that with.
        client_secret: SecretId,
        /// What the token shall be good for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scope: Option<Scopes>,
    },
    /// A client certificate (RFC 8446 §4.4.2).
    Mtls {
        /// The certificate and those that lead to its authority.
        certificate: CertificateChain,
        /// The name of its private key.
        key: SecretId,
    },
}

impl Authentication {
    /// The name of the secret it needs.
    pub fn secret(&self) -> &SecretId {
        match self {
            Self::Basic { password: secret, .. }
            | Self::Bearer { token: secret }
            | Self::Oauth2 {
                client_secret: secret,
                ..
            }
            | Self::Mtls { key: secret, .. } => secret,
        }
    }

    /// Whether it is proved in the header `authorization`.
    pub fn takes_header(&self) -> bool {
        !matches!(self, Self::Mtls { .. })
    }
}

/// A user name that Basic authentication can say: without a colon, which ends it (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Text<200>", into = "Text<200>")]
pub struct Username(Text<200>);

/// A user name with a colon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must not contain a colon")]
pub struct ColonInUsername;

impl Username {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<Text<200>> for Username {
    type Error = ColonInUsername;

    fn try_from(text: Text<200>) -> Result<Self, ColonInUsername> {
        if text.as_str().contains(':') {
            return Err(ColonInUsername);
        }
        Ok(Self(text))
    }
}

impl From<Username> for Text<200> {
    fn from(name: Username) -> Self {
        name.0
    }
}

/// What Tidings is called where it asks for tokens.
pub type ClientId = Text<200>;
/// What a token shall be good for: words with spaces between.
pub type Scopes = Text<500>;

/// A text that is no chain of certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be certificates in PEM form (-----BEGIN CERTIFICATE-----), {} bytes at most",
    CertificateChain::MAX
)]
pub struct InvalidChain;

/// Certificates in PEM form, the client's own first. Only what marks them is checked here.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateChain(String);

impl CertificateChain {
    /// The most bytes.
    pub const MAX: usize = 16_384;

    /// The PEM text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CertificateChain {
    type Error = InvalidChain;

    fn try_from(text: String) -> Result<Self, InvalidChain> {
        // A private key among them would be shown to everybody who sees the endpoint.
        let only_certificates = text
            .match_indices("-----BEGIN ")
            .all(|(at, _)| text[at..].starts_with("-----BEGIN CERTIFICATE-----"));
        if text.len() <= Self::MAX && only_certificates && text.contains("-----BEGIN CERTIFICATE-----") {
            Ok(Self(text))
        } else {
            Err(InvalidChain)
        }
    }
}

impl From<CertificateChain> for String {
    fn from(chain: CertificateChain) -> Self {
        chain.0
    }
}

impl fmt::Debug for CertificateChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateChain(…)")
    }
}
