//! What a policy may not ask for, although each of its parts can be read.

use super::{Authentication, Policy};
use crate::endpoint::TargetUrl;

/// The most headers.
const MAX_HEADERS: usize = 16;

/// Names that an endpoint cannot have: what HTTP itself sends, what only concerns one connection (RFC 9110 §7.6.1), and
/// what Tidings sets.
const RESERVED: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
/// What such names begin with: Standard Webhooks' headers, `CloudEvents`' and those for proxies.
const RESERVED_PREFIXES: &[&str] = &["webhook-", "ce-", "proxy-"];

/// Why an endpoint cannot have a policy. Headers are told by their number, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// More headers than an endpoint can have.
    #[error("an endpoint has at most {MAX_HEADERS} headers")]
    TooManyHeaders,
    /// A header that is not the endpoint's to set.
    #[error("this header is set by Tidings or by HTTP itself")]
    ReservedHeader(usize),
    /// A name that another header has.
    #[error("another header has this name")]
    HeaderTwice(usize),
    /// The header that authentication sets.
    #[error("`authorization` is set by the endpoint's authentication")]
    AuthorizationTwice(usize),
    /// A client certificate without TLS.
    #[error("a client certificate can only be shown to a receiver at an https address")]
    NoTls,
}

impl InvalidPolicy {
    /// Where in the policy, as the API names its parts.
    pub fn place(self) -> String {
        match self {
            Self::TooManyHeaders => "headers".to_owned(),
            Self::ReservedHeader(number) | Self::HeaderTwice(number) | Self::AuthorizationTwice(number) => {
                format!("headers[{number}].name")
            }
            Self::NoTls => "authentication".to_owned(),
        }
    }
}

pub(super) fn check(policy: &Policy, url: &TargetUrl) -> Result<(), InvalidPolicy> {
    if policy.headers.len() > MAX_HEADERS {
        return Err(InvalidPolicy::TooManyHeaders);
    }
    let authenticated = policy
        .authentication
        .as_ref()
        .is_some_and(Authentication::takes_header);
    for (number, header) in policy.headers.iter().enumerate() {
        let name = header.name.as_str();
        if RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(InvalidPolicy::ReservedHeader(number));
        }
        if policy.headers[..number]
            .iter()
            .any(|other| other.name == header.name)
        {
            return Err(InvalidPolicy::HeaderTwice(number));
        }
        if name == "authorization" && authenticated {
            return Err(InvalidPolicy::AuthorizationTwice(number));
        }
    }
    let shows_certificate = matches!(policy.authentication, Some(Authentication::Mtls { .. }));
    if shows_certificate && url.as_url().scheme() != "https" {
        return Err(InvalidPolicy::NoTls);
    }
    Ok(())
}
