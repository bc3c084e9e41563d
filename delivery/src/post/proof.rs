//! How a try proves to the receiver who it comes from, besides its signature: a header, a token asked for elsewhere, or
//! a client certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::SecretId;
use domain::endpoint::policy::{Authentication, CertificateChain};
use reqwest::header::{HeaderValue, InvalidHeaderValue};
use url::Url;
use zeroize::Zeroizing;

use crate::SecretText;

/// What proves it, with the secret opened.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    /// Nothing does.
    None,
    /// This in the header `authorization`.
    Header(HeaderValue),
    /// A token from elsewhere in that header.
    Token(TokenSource),
    /// A certificate in the TLS handshake.
    Certificate(Certificate),
}

/// Where a token is asked for, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct TokenSource {
    /// What is the same for all tries with the same token: a new setting has a new name.
    pub(super) name: SecretId,
    pub(super) url: Url,
    pub(super) client_id: String,
    pub(super) client_secret: SecretText,
    pub(super) scope: Option<String>,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    /// What is the same for all tries with it.
    pub(super) name: SecretId,
    pub(super) chain: CertificateChain,
    pub(super) key: SecretText,
}

impl Proof {
    /// Of an endpoint's setting and the secret that it names.
    pub(crate) fn new(setting: &Authentication, secret: SecretText) -> Result<Self, InvalidHeaderValue> {
        Ok(match setting {
            Authentication::Basic { username, .. } => {
                Self::Header(basic(username.as_str(), secret.reveal())?)
            }
            Authentication::Bearer { .. } => Self::Header(bearer(secret.reveal())?),
            Authentication::Oauth2 {
                token_url,
                client_id,
                client_secret,
                scope,
            } => Self::Token(TokenSource {
                name: client_secret.clone(),
                url: token_url.as_url().clone(),
                client_id: client_id.as_str().to_owned(),
                client_secret: secret,
                scope: scope.as_ref().map(|scope| scope.as_str().to_owned()),
            }),
            Authentication::Mtls { certificate, key } => Self::Certificate(Certificate {
                name: key.clone(),
                chain: certificate.clone(),
                key: secret,
            }),
        })
    }
}

/// User name and password (RFC 7617), never printed.
pub(super) fn basic(username: &str, password: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let both = Zeroizing::new(format!("{username}:{password}"));
    sensitive(&Zeroizing::new(format!(
        "Basic {}",
        STANDARD.encode(both.as_bytes())
    )))
}

/// A token (RFC 6750), never printed.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    sensitive(&Zeroizing::new(format!("Bearer {token}")))
}

/// A value of a header that is never printed.
pub(crate) fn sensitive(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}
