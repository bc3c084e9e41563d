//! What is sent: headers and body, in the form the endpoint asks for.

use std::time::Duration;

use domain::endpoint::Policy;
use domain::endpoint::policy::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};

use super::proof::Proof;
use crate::body::Body;
use crate::sign::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP};

/// A signed message, ready to go.
#[derive(Debug)]
pub(crate) struct Request {
    pub(super) method: reqwest::Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// The endpoint's own deadline.
    pub(super) timeout: Option<Duration>,
    pub(super) proof: Proof,
}

/// What names a message and proves it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp<'a> {
    pub(crate) id: &'a str,
    /// Seconds since the Unix epoch.
    pub(crate) timestamp: i64,
    pub(crate) signature: &'a str,
}

impl Request {
    /// A body under its stamp, as the policy has it. `own` are the endpoint's headers; what says what the message is
    /// comes after them and could not be set by them.
    pub(crate) fn new(
        policy: &Policy,
        own: Vec<(HeaderName, HeaderValue)>,
        proof: Proof,
        body: Body,
        stamp: Stamp<'_>,
    ) -> Result<Self, InvalidHeaderValue> {
        let mut headers: HeaderMap = own.into_iter().collect();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(body.content_type));
        for (name, value) in body.attributes {
            headers.insert(HeaderName::from_static(name), HeaderValue::try_from(value)?);
        }
        let id = HeaderName::from_static(HEADER_ID);
        headers.insert(id, HeaderValue::from_str(stamp.id)?);
        let timestamp = HeaderName::from_static(HEADER_TIMESTAMP);
        headers.insert(timestamp, HeaderValue::from(stamp.timestamp));
        let signature = HeaderName::from_static(HEADER_SIGNATURE);
        headers.insert(signature, HeaderValue::from_str(stamp.signature)?);
        Ok(Self {
            method: match policy.method {
                Method::Post => reqwest::Method::POST,
                Method::Put => reqwest::Method::PUT,
                Method::Patch => reqwest::Method::PATCH,
            },
            headers,
            body: body.bytes,
            timeout: timeout(policy),
            proof,
        })
    }
}

/// The deadline that a policy sets for one try.
pub(crate) fn timeout(policy: &Policy) -> Option<Duration> {
    let millis = policy.timeout_ms?;
    Some(Duration::from_millis(u64::from(millis.get())))
}
