//! How often a key, and a tenant with all its keys, may call: a bucket of requests each that fills evenly, in this
//! process.
//!
//! A key limited to 100 requests in 60 seconds can send 100 at once, and one more each 0.6 seconds. Answers carry
//! `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10); what is over the limit is answered
//! 429 before anything is done or stored.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{HeaderName, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue};
use domain::api_key::RateLimit;
use domain::{KeyId, SourceId, TenantId};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use moka::sync::Cache;

use crate::problem::{Problem, ProblemType};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Buckets in memory, at most. Whose bucket had to go for others starts with a full one.
const BUCKETS: u64 = 100_000;

/// A bucket nobody took from for this long is full, whatever its limit: the longest time a limit can name.
const IDLE: Duration = Duration::from_hours(24);

type Bucket = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// Whose requests are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Sender {
    /// One key's.
    Key(KeyId),
    /// What a source sends.
    Source(SourceId),
    /// Those of all keys and sources of a tenant.
    Tenant(TenantId),
}

impl Sender {
    /// What it is, as the headers name their policy.
    fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Source(_) => "source",
            Self::Tenant(_) => "tenant",
        }
    }
}

/// The buckets of all that have a limit.
pub(crate) struct RateLimits {
    clock: DefaultClock,
    buckets: Cache<(Sender, RateLimit), Arc<Bucket>>,
}

impl RateLimits {
    /// All full.
    pub(crate) fn new() -> Self {
        Self {
            clock: DefaultClock::default(),
            buckets: Cache::builder().max_capacity(BUCKETS).time_to_idle(IDLE).build(),
        }
    }

    /// Takes one request from a sender's bucket, or answers 429.
    pub(crate) fn take(&self, sender: Sender, limit: RateLimit) -> Result<Allowance, Problem> {
        let kind = sender.kind();
        let bucket = self.buckets.get_with((sender, limit), || {
            Arc::new(RateLimiter::direct(quota(limit)).with_middleware())
        });
        match bucket.check() {
            Ok(state) => Ok(Allowance {
                kind,
                limit,
                remaining: state.remaining_burst_capacity(),
            }),
            Err(not_yet) => Err(refusal(kind, limit, not_yet.wait_time_from(self.clock.now()))),
        }
    }
}

fn quota(limit: RateLimit) -> Quota {
    let burst = NonZeroU32::new(limit.requests.get()).unwrap_or(NonZeroU32::MIN);
    let window = Duration::from_secs(limit.per_seconds.get().into());
    Quota::with_period(window / burst.get())
        .unwrap_or_else(|| Quota::per_second(burst))
        .allow_burst(burst)
}

fn refusal(kind: &'static str, limit: RateLimit, wait: Duration) -> Problem {
    let seconds = whole_seconds(wait);
    let (requests, window) = (limit.requests.get(), limit.per_seconds.get());
    let detail = format!(
        "This {kind} may make {requests} requests in {window} seconds; nothing was done. Send it again in {seconds} s."
    );
    let mut headers = HeaderMap::new();
    let remaining = 0;
    Allowance {
        kind,
        limit,
        remaining,
    }
    .write(&mut headers);
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    headers
        .into_iter()
        .filter_map(|(name, value)| Some((name?, value)))
        .fold(
            Problem::new(ProblemType::RateLimited, detail),
            |problem, (name, value)| problem.with_header(name, value),
        )
}

/// At least one, rounded up: who waits that long has waited enough.
fn whole_seconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(1_000))
        .unwrap_or(u64::MAX)
        .max(1)
}

/// What is left to a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    kind: &'static str,
    limit: RateLimit,
    remaining: u32,
}

impl Allowance {
    /// Tells the caller.
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        let (requests, window) = (self.limit.requests.get(), self.limit.per_seconds.get());
        let missing = u64::from(requests.saturating_sub(self.remaining));
        let full_in = (missing * u64::from(window)).div_ceil(u64::from(requests));
        let texts = [
            (POLICY, format!("\"{}\";q={requests};w={window}", self.kind)),
            (
                LIMIT,
                format!("\"{}\";r={};t={full_in}", self.kind, self.remaining),
            ),
        ];
        for (name, text) in texts {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use domain::Bounded;
    use ulid::Ulid;

    use super::*;

    fn limit(requests: u32, per_seconds: u32) -> RateLimit {
        RateLimit {
            requests: Bounded::try_from(requests).unwrap(),
            per_seconds: Bounded::try_from(per_seconds).unwrap(),
        }
    }

    fn key(number: u128) -> Sender {
        Sender::Key(KeyId::new(Ulid(number)))
    }

    #[test]
    fn a_key_has_its_requests_and_no_more_and_takes_none_of_anothers() {
        let limits = RateLimits::new();
        let (one, other) = (key(1), key(2));
        let limit = limit(3, 86_400);
        let left: Vec<_> = (0..3)
            .map(|_| limits.take(one.clone(), limit).unwrap().remaining)
            .collect();
        assert_eq!(left, [2, 1, 0]);
        let problem = limits.take(one.clone(), limit).unwrap_err();
        let answer = problem.render("r");
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("ratelimit-policy"), "\"key\";q=3;w=86400");
        assert_eq!(header("ratelimit"), "\"key\";r=0;t=86400");
        let wait: u64 = header("retry-after").parse().unwrap();
        assert!((28_000..=28_800).contains(&wait), "{wait}");
        assert!(limits.take(other, limit).is_ok());
        let tenant = Sender::Tenant(TenantId::new(Ulid(1)));
        assert!(limits.take(tenant, limit).is_ok());
    }

    #[test]
    fn the_extremes_of_a_limit_are_kept() {
        let limits = RateLimits::new();
        assert_eq!(
            limits.take(key(1), limit(1_000_000, 1)).unwrap().remaining,
            999_999
        );
        assert_eq!(limits.take(key(1), limit(1, 86_400)).unwrap().remaining, 0);
        assert!(limits.take(key(1), limit(1, 86_400)).is_err());
    }

    #[test]
    fn what_is_left_is_told_with_when_it_is_full_again() {
        let mut headers = HeaderMap::new();
        Allowance {
            kind: "key",
            limit: limit(100, 60),
            remaining: 99,
        }
        .write(&mut headers);
        assert_eq!(headers[&LIMIT], "\"key\";r=99;t=1");
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1_001)), 2);
    }
}
