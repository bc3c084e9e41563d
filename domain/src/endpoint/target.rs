//! The URL of a receiver. Its form is checked here; whether its address may be reached is the delivery side's
//! affair, checked anew at every send.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

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

/// Why no receiver can have a URL, although it has the form of one.
///
/// Apart from [`InvalidUrl`] because such URLs were taken once: what the log holds must be readable for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHost {
    /// A name that the domain name system cannot hold (RFC 1035, RFC 1123; `_`, which some use, is taken).
    #[error(
        "must name a host: words of 1 to 63 letters, digits, - and _ joined by dots, which neither begin nor end with -, \
         253 characters in all"
    )]
    Name,
    /// Port 0.
    #[error("must not name port 0, at which nobody can listen")]
    Port,
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

    /// Refuses what no receiver can have; asked when an endpoint is to get this URL.
    pub fn check_host(&self) -> Result<(), InvalidHost> {
        if self.0.port() == Some(0) {
            return Err(InvalidHost::Port);
        }
        let Some(Host::Domain(name)) = self.0.host() else {
            return Ok(());
        };
        let fits = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // A dot at the end only says that the name is complete.
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.len() <= 253 && name.split('.').all(fits) {
            Ok(())
        } else {
            Err(InvalidHost::Name)
        }
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
        for credentials in ["ada:pw", "ada", ":pw"] {
            let url = format!("https://{credentials}@example.org/");
            assert_eq!(parse(&url), Err(InvalidUrl::Credentials), "{url}");
        }
        assert_eq!(parse("https://example.org/#top"), Err(InvalidUrl::Fragment));
        assert_eq!(
            parse(&format!("https://example.org/{}", "a".repeat(2048))),
            Err(InvalidUrl::TooLong)
        );
    }

    #[test]
    fn a_receiver_is_at_a_host_that_can_be() {
        let check = |text: &str| TargetUrl::try_from(text.to_owned()).unwrap().check_host();
        let long = format!("https://{}/", ["a"; 127].join("."));
        for text in [
            "https://example.org/",
            "https://my_hooks.example.org.:8443/",
            "http://[::1]:9000/",
            "http://192.0.2.7/",
            "https://bücher.example/",
            "http://localhost/",
            &long,
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        let (label, longer) = (
            format!("https://{}.org/", "a".repeat(64)),
            long.replace("//", "//a."),
        );
        for text in [
            "https://a..b/",
            "https://.example.org/",
            "https://-a.example.org/",
            "https://a-.example.org/",
            "https://a!b.example.org/",
            "https://example.org../",
            &label,
            &longer,
        ] {
            assert_eq!(check(text), Err(InvalidHost::Name), "{text}");
        }
        assert_eq!(check("https://example.org:0/"), Err(InvalidHost::Port));
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

    #[test]
    fn a_url_reads_in_its_normal_form() {
        let url = TargetUrl::try_from("HTTPS://Example.org:443/hooks?x=1".to_owned()).unwrap();
        assert_eq!(url.as_str(), "https://example.org/hooks?x=1");
    }
}
