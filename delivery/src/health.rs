//! What is wrong just now, and how it is told: once when it begins, once when it ends.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::schedule::Waits;

/// How long a follower that hears nothing waits before it takes that for a good sign.
const QUIET: Duration = Duration::from_secs(2);

/// The troubles of all parts of this process's delivery.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<BTreeMap<String, String>>);

impl Health {
    /// Each part in trouble, with what is wrong.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        troubles
            .iter()
            .map(|(part, why)| format!("{part}: {why}"))
            .collect()
    }

    fn set(&self, part: &str, why: Option<String>) {
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => troubles.insert(part.to_owned(), why),
            None => troubles.remove(part),
        };
    }
}

/// One part's luck with what it depends on. Failures in a row are one episode.
#[derive(Debug)]
pub(crate) struct Episode {
    part: String,
    health: Arc<Health>,
    waits: Waits,
    open: bool,
}

impl Episode {
    pub(crate) fn new(part: impl Into<String>, health: Arc<Health>) -> Self {
        Self {
            part: part.into(),
            health,
            waits: Waits::new(),
            open: false,
        }
    }

    /// Notes a failure, and answers how long to wait before trying again.
    pub(crate) fn failed(&mut self, error: &(dyn Error + 'static)) -> Duration {
        let why = in_full(error);
        if !self.open {
            tracing::warn!(part = %self.part, error = %why, "A part of delivery is held up and keeps trying.");
            self.open = true;
        }
        self.health.set(&self.part, Some(why));
        self.waits.next()
    }

    /// Notes a success.
    pub(crate) fn recovered(&mut self) {
        if self.open {
            tracing::info!(part = %self.part, "A part of delivery goes on after it was held up.");
            self.open = false;
            self.health.set(&self.part, None);
        }
        self.waits.reset();
    }
}

/// The next record or batch of a followed log. A quiet moment before it means that all is well.
pub(crate) async fn next<S: Stream + Unpin>(records: &mut S, episode: &mut Episode) -> Option<S::Item> {
    if let Ok(item) = tokio::time::timeout(QUIET, records.next()).await {
        return item;
    }
    episode.recovered();
    records.next().await
}

/// An error with everything beneath it.
pub(crate) fn in_full(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Sleeps; `false` when told to stop meanwhile.
pub(crate) async fn pause(wait: Duration, stop: &CancellationToken) -> bool {
    tokio::time::timeout(wait, stop.cancelled()).await.is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_shown_from_its_first_failure_to_its_end() {
        let health = Arc::new(Health::default());
        let mut episode = Episode::new("matcher MESSAGES-0", health.clone());
        let error = broker::ReadError::Unavailable("connection refused".into());
        assert!(episode.failed(&error) < Duration::from_secs(1));
        episode.failed(&error);
        assert_eq!(
            health.troubles(),
            ["matcher MESSAGES-0: the log is unavailable: connection refused"]
        );
        episode.recovered();
        assert!(health.troubles().is_empty());
    }
}
