//! How an endpoint wants its webhooks: which of them, how often, how fast, in what form, and how they prove where they
//! come from.
//!
//! Every part can be left away and then is as the installation has it. What cannot be read for ever is not checked in
//! the types but by [`Policy::check`], which is asked when an endpoint is to get the policy.

use serde::{Deserialize, Serialize};

use super::TargetUrl;
use crate::{Bounded, Edit, SecretId};

mod authentication;
mod breaker;
mod check;
mod form;
mod header;
mod lane;
mod ordering;
mod retry;

pub use authentication::{
    Authentication, CertificateChain, ClientId, ColonInUsername, InvalidChain, Scopes, Username,
};
pub use breaker::{BreakerPolicy, BreakerRule};
pub use check::InvalidPolicy;
pub use form::{Format, Method, SigningScheme};
pub use header::{Header, HeaderName, HeaderText, HeaderValue, InvalidHeaderName, InvalidHeaderText};
pub use lane::{LanePolicy, MaxInFlight, PerSecond, RateLimit};
pub use ordering::{InvalidOrderingKey, OnFailure, OrderingKey, OrderingPolicy};
pub use retry::{InvalidWait, Jitter, RetryPolicy, RetrySchedule, TooManyWaits, Wait};

use super::condition::ContentFilter;

/// How long one HTTP try may take, in milliseconds: 100 to 30,000.
pub type TimeoutMs = Bounded<100, 30_000>;
/// After how many hours of failure an endpoint is disabled: 1 to 720; 0 is never.
pub type DisableAfterHours = Bounded<0, 720>;

/// What an endpoint asks for besides its URL and event types. `Policy::default()` asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// What must be so of a message's data for the endpoint to get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<ContentFilter>,
    /// When failed attempts are made again.
    #[serde(flatten)]
    pub retry: RetryPolicy,
    /// How long one try may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<TimeoutMs>,
    /// How many tries at once, and how many a second.
    #[serde(flatten)]
    pub lane: LanePolicy,
    /// When an endpoint that fails is left alone for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerPolicy>,
    /// When an endpoint that only fails is disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_after_hours: Option<DisableAfterHours>,
    /// Headers sent with each webhook.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// What the body is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub format: Format,
    /// The HTTP method.
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: Method,
    /// How Tidings proves to the receiver who it is, besides the signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// How webhooks are signed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub signature: SigningScheme,
    /// What must arrive in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordering: Option<OrderingPolicy>,
}

impl Policy {
    /// Refuses what could not be done; asked when an endpoint is to get this policy.
    pub fn check(&self, url: &TargetUrl) -> Result<(), InvalidPolicy> {
        check::check(self, url)
    }

    /// The names of the secrets it speaks of, which are kept elsewhere.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretId> {
        let headers = self.headers.iter().filter_map(|header| header.value.secret());
        headers.chain(self.authentication.as_ref().map(Authentication::secret))
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What of a policy is to be another, or as the installation has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PolicyChange {
    /// See [`Policy::filter`].
    pub filter: Edit<ContentFilter>,
    /// See [`RetryPolicy::schedule`].
    pub retry_schedule: Edit<RetrySchedule>,
    /// See [`RetryPolicy::jitter`].
    pub retry_jitter: Edit<Jitter>,
    /// See [`Policy::timeout_ms`].
    pub timeout_ms: Edit<TimeoutMs>,
    /// See [`LanePolicy::max_in_flight`].
    pub max_in_flight: Edit<MaxInFlight>,
    /// See [`LanePolicy::rate_limit`].
    pub rate_limit: Edit<RateLimit>,
    /// See [`Policy::breaker`].
    pub breaker: Edit<BreakerPolicy>,
    /// See [`Policy::disable_after_hours`].
    pub disable_after_hours: Edit<DisableAfterHours>,
    /// See [`Policy::headers`].
    pub headers: Edit<Vec<Header>>,
    /// See [`Policy::format`].
    pub format: Edit<Format>,
    /// See [`Policy::method`].
    pub method: Edit<Method>,
    /// See [`Policy::authentication`].
    pub authentication: Edit<Authentication>,
    /// See [`Policy::signature`].
    pub signature: Edit<SigningScheme>,
    /// See [`Policy::ordering`].
    pub ordering: Edit<OrderingPolicy>,
}

impl PolicyChange {
    /// The policy after it.
    #[must_use]
    pub fn apply_to(self, policy: Policy) -> Policy {
        Policy {
            filter: self.filter.of(policy.filter),
            retry: RetryPolicy {
                schedule: self.retry_schedule.of(policy.retry.schedule),
                jitter: self.retry_jitter.of(policy.retry.jitter),
            },
            timeout_ms: self.timeout_ms.of(policy.timeout_ms),
            lane: LanePolicy {
                max_in_flight: self.max_in_flight.of(policy.lane.max_in_flight),
                rate_limit: self.rate_limit.of(policy.lane.rate_limit),
            },
            breaker: self.breaker.of(policy.breaker),
            disable_after_hours: self.disable_after_hours.of(policy.disable_after_hours),
            headers: self.headers.of(Some(policy.headers)).unwrap_or_default(),
            format: self.format.of(Some(policy.format)).unwrap_or_default(),
            method: self.method.of(Some(policy.method)).unwrap_or_default(),
            authentication: self.authentication.of(policy.authentication),
            signature: self.signature.of(Some(policy.signature)).unwrap_or_default(),
            ordering: self.ordering.of(policy.ordering),
        }
    }
}

#[cfg(test)]
pub(in crate::endpoint) mod tests;
