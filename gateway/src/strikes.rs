//! Who shows wrong tokens or signatures where no other credential is asked for: whoever has shown too many is not listened
//! to for a while, before anything is looked up. What is counted is counted in this process.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::RETRY_AFTER;
use moka::sync::Cache;

use crate::problem::{Problem, ProblemType};

/// How many can be shown within [`WINDOW`].
const MOST: u32 = 30;
/// How long they count, from the first.
const WINDOW: Duration = Duration::from_mins(1);
/// The most of who are remembered.
const REMEMBERED: u64 = 100_000;

/// What was wrong of late, by who showed it: an address, and where it matters at whose door.
pub(crate) struct Strikes<Who>(Cache<Who, Arc<AtomicU32>>);

impl<Who: Clone + Eq + Hash + Send + Sync + 'static> Strikes<Who> {
    /// None yet.
    pub(crate) fn new() -> Self {
        let cache = Cache::builder().max_capacity(REMEMBERED).time_to_live(WINDOW);
        Self(cache.build())
    }

    /// Refuses whoever has shown too many. What has no address is never refused.
    pub(crate) fn admit(&self, who: Option<&Who>) -> Result<(), Problem> {
        let shown = who.and_then(|who| self.0.get(who));
        if shown.is_none_or(|shown| shown.load(Ordering::Relaxed) < MOST) {
            return Ok(());
        }
        let seconds = WINDOW.as_secs();
        let detail =
            format!("Too much that proves nothing came from this address; send it again in {seconds} s.");
        let problem = Problem::new(ProblemType::RateLimited, detail);
        Err(problem.with_header(RETRY_AFTER, HeaderValue::from(seconds)))
    }

    /// Counts one.
    pub(crate) fn count(&self, who: Option<&Who>) {
        if let Some(who) = who {
            self.0
                .get_with_by_ref(who, Arc::default)
                .fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn too_many_wrong_tokens_close_the_door_to_their_origin_only() {
        let strikes = Strikes::new();
        let [one, other] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(|address| Some(IpAddr::from(address)));
        for _ in 0..MOST {
            assert!(strikes.admit(one.as_ref()).is_ok());
            strikes.count(one.as_ref());
            strikes.count(None);
        }
        assert_eq!(
            strikes.admit(one.as_ref()).unwrap_err().kind(),
            ProblemType::RateLimited
        );
        assert!(strikes.admit(other.as_ref()).is_ok() && strikes.admit(None).is_ok());
    }
}
