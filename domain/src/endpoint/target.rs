//! The URL of a receiver. Its form is checked here; whether its address may be reached is the delivery side's
//! affair, checked anew at every send.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

/// Why a text is not a receiver's URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Not a URL.
    #[error("must be an absolute URL such as https://example.org/webhooks")]
    Malformed,
    /// Neither `http` nor `https`.
    #[error("must begin with https:// or http://")]
    Scheme,
    /// User name or password in the URL.
    #[error("must not contain a user name or password")]
    Credentials,
    /// A fragment, which is never sent.
    #[error("must not contain a fragment (#…)")]
    Fragment,
    /// Too long, as written or in normal form.
    #[error("must be at most {MAX_BYTES} bytes long, each byte of what is not ASCII counted as three")]
    TooLong,
}

/// How long a URL may be. The log holds the normal form, which must be readable for ever: it is what counts.
const MAX_BYTES: usize = 2048;

/// An absolute `http` or `https` URL without credentials or fragment, in normal form (WHATWG URL).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetUrl(Url);

impl TargetUrl {
    /// The URL.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<String> for TargetUrl {
    type Error = InvalidUrl;

    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        if text.len() > MAX_BYTES {
            return Err(InvalidUrl::TooLong);
        }
        let url = Url::parse(&text).map_err(|_| InvalidUrl::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidUrl::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidUrl::Credentials);
        }
        if url.fragment().is_some() {
            return Err(InvalidUrl::Fragment);
        }
        // Percent-encoding makes three bytes of one.
        if url.as_str().len() > MAX_BYTES {
            return Err(InvalidUrl::TooLong);
        }
        Ok(Self(url))
    }
}

impl From<TargetUrl> for String {
    fn from(url: TargetUrl) -> Self {
        url.0.into()
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_its_reason() {
        let parse = |text: &str| TargetUrl::try_from(text.to_owned());
        assert!(parse("https://example.org/hooks?x=1").is_ok());
        assert!(parse("http://127.0.0.1:9000/").is_ok());
        assert_eq!(parse("example.org"), Err(InvalidUrl::Malformed));
        assert_eq!(parse("https://"), Err(InvalidUrl::Malformed));
        assert_eq!(parse("ftp://example.org/"), Err(InvalidUrl::Scheme));
        assert_eq!(parse("file:///etc/passwd"), Err(InvalidUrl::Scheme));
        assert_eq!(parse("https://ada:pw@example.org/"), Err(InvalidUrl::Credentials));
        assert_eq!(parse("https://example.org/#top"), Err(InvalidUrl::Fragment));
        assert_eq!(
            parse(&format!("https://example.org/{}", "a".repeat(2048))),
            Err(InvalidUrl::TooLong)
        );
    }

    #[test]
    fn whatever_is_accepted_can_be_read_again() {
        let longest = format!("https://example.org/{}", "ä".repeat((MAX_BYTES - 20) / 6));
        let url = TargetUrl::try_from(longest.clone()).unwrap();
        assert_eq!(TargetUrl::try_from(String::from(url.clone())).unwrap(), url);
        let longer = format!("{longest}ä");
        assert!(longer.len() < MAX_BYTES);
        assert_eq!(TargetUrl::try_from(longer), Err(InvalidUrl::TooLong));
    }
}
