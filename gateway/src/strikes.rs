//! Who shows wrong tokens where no other credential is asked for: an origin that has shown too many is not listened to
//! for a while, before anything is looked up. What is counted is counted in this process.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::RETRY_AFTER;
use moka::sync::Cache;

use crate::problem::{Problem, ProblemType};

/// How many wrong tokens an origin can show within [`WINDOW`].
const MOST: u32 = 30;
/// How long an origin's wrong tokens count, from the first.
const WINDOW: Duration = Duration::from_mins(1);
/// The most origins remembered.
const ORIGINS: u64 = 100_000;

/// The wrong tokens of late, by origin.
pub(crate) struct Strikes(Cache<IpAddr, Arc<AtomicU32>>);

impl Strikes {
    /// None yet.
    pub(crate) fn new() -> Self {
        let cache = Cache::builder().max_capacity(ORIGINS).time_to_live(WINDOW);
        Self(cache.build())
    }

    /// Refuses an origin that has shown too many. What has no address is never refused.
    pub(crate) fn admit(&self, origin: Option<IpAddr>) -> Result<(), Problem> {
        let shown = origin.and_then(|origin| self.0.get(&origin));
        if shown.is_none_or(|shown| shown.load(Ordering::Relaxed) < MOST) {
            return Ok(());
        }
        let seconds = WINDOW.as_secs();
        let detail = format!("Too many wrong tokens came from this address; send it again in {seconds} s.");
        let problem = Problem::new(ProblemType::RateLimited, detail);
        Err(problem.with_header(RETRY_AFTER, HeaderValue::from(seconds)))
    }

    /// Counts a wrong token.
    pub(crate) fn count(&self, origin: Option<IpAddr>) {
        if let Some(origin) = origin {
            self.0
                .get_with(origin, Arc::default)
                .fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_wrong_tokens_close_the_door_to_their_origin_only() {
        let strikes = Strikes::new();
        let [one, other] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(|address| Some(IpAddr::from(address)));
        for _ in 0..MOST {
            assert!(strikes.admit(one).is_ok());
            strikes.count(one);
            strikes.count(None);
        }
        assert_eq!(strikes.admit(one).unwrap_err().kind(), ProblemType::RateLimited);
        assert!(strikes.admit(other).is_ok() && strikes.admit(None).is_ok());
    }
}
