//! Lanes: one per endpoint, each with its own places, rate and breaker, so that a receiver that is slow, busy or broken
//! fills its lane and nothing else.
//!
//! * What an endpoint's receiver can bear is kept by its lane: tries at once and their rate (as the endpoint asks for),
//!   fewer at once where it answers that it is too busy ([`pressure`]), none for a while where it mostly fails
//!   ([`breaker`]) or asks to be left alone.
//! * What this process can do at once is shared out by the [`table`]: tenants take turns, tries that last do not take
//!   the places of quick ones, and half of those are kept for lanes that have proved quick.
//! * A job may wait before its lane while it can expect its turn within a moment; within a lane first attempts go before
//!   retries. Others go back to the queue, each for a time of its own ([`pace`]), so nobody stands behind them.
//!
//! Each process has lanes of its own: two of them press an endpoint twice as hard as one. What they know is in memory
//! only; a new process learns it anew within a few tries.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use broker::Token;
use tokio::sync::oneshot;

use crate::metrics;

mod breaker;
mod bucket;
mod lane;
mod pace;
mod pressure;
mod ring;
mod rules;
mod table;

pub use rules::{BreakerRules, LaneRules, Rate};
pub(crate) use table::Entrant;

use lane::Ticket;
use table::{Grant, Limits, PATIENCE, Table, Word};

/// A try that lasts as long as this is slow.
pub(crate) const SLOW: Duration = pace::SLOW;
/// For each quick try, how many jobs may wait before their lanes.
const WAITING: usize = 8;

/// What a try says of its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It took the webhook.
    Arrived,
    /// It answered, and not with yes: no sign that it is in trouble.
    Refused,
    /// It has too much to do: it said so, perhaps for how long, or did not answer in time.
    TooMuch { asked: Option<Duration> },
    /// It could not be reached, or answered that it is broken.
    Failed,
    /// It was not asked.
    Untried,
}

/// Why a job was sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Every place of its lane is taken.
    Full,
    /// Its lane has begun as many tries as its rate allows.
    Rate,
    /// Its lane's breaker is open.
    Open,
    /// Its receiver asked to be left alone.
    Resting,
    /// This process has as much under way as it may.
    Busy,
}

impl Why {
    /// The reason as one word, as it is counted.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Rate => "rate",
            Self::Open => "open",
            Self::Resting => "resting",
            Self::Busy => "busy",
        }
    }
}

/// No try now: come again after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Away {
    pub(crate) wait: Duration,
    pub(crate) why: Why,
}

type Told = oneshot::Sender<Result<Place, Away>>;

#[derive(Debug)]
struct Hall {
    table: Table,
    listening: HashMap<Ticket, Told>,
}

/// The lanes of this process.
#[derive(Debug)]
pub(crate) struct Lanes(Mutex<Hall>);

/// A try that may begin, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    lanes: Arc<Lanes>,
    lane: Token,
    grant: Grant,
    began: Option<Instant>,
    verdict: Verdict,
}

impl Lanes {
    /// Lanes for so many tries at once, and so many more that last.
    pub(crate) fn new(tries: usize, slow: usize) -> Arc<Self> {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let limits = Limits {
            tries: number(tries),
            slow: number(slow),
            waiting: tries.saturating_mul(WAITING),
        };
        Arc::new(Self(Mutex::new(Hall {
            table: Table::new(limits),
            listening: HashMap::new(),
        })))
    }

    /// A place in the lane, at once or after a moment.
    pub(crate) async fn enter(self: &Arc<Self>, entrant: Entrant<'_>) -> Result<Place, Away> {
        let deadline = Instant::now() + PATIENCE;
        let (told, mut hears) = oneshot::channel();
        let (ticket, mut look) = self.with(|hall| {
            let now = Instant::now();
            let ticket = hall.table.arrive(entrant, now);
            hall.listening.insert(ticket, told);
            (ticket, hall.table.look(entrant.lane, now))
        });
        let mut waits = Waits {
            lanes: self,
            lane: entrant.lane,
            ticket: Some(ticket),
        };
        loop {
            let until = look.map_or(deadline, |look| look.min(deadline));
            let heard = tokio::time::timeout_at(until.into(), &mut hears).await;
            if let Ok(Ok(word)) = heard {
                waits.ticket = None;
                return word;
            }
            look = self.with(|hall| {
                let now = Instant::now();
                if now >= deadline {
                    hall.table.give_up(entrant.lane, ticket, now);
                    None
                } else {
                    hall.table.look(entrant.lane, now)
                }
            });
        }
    }

    /// Does something with the table, and then tells jobs what came of it. Not before: a place that nobody takes is
    /// given back at once, which needs the table again.
    fn with<T>(self: &Arc<Self>, change: impl FnOnce(&mut Hall) -> T) -> T {
        let (answer, said, figures) = {
            let mut hall = self.hall();
            let answer = change(&mut hall);
            let said = hall.table.said();
            let said: Vec<_> = said
                .into_iter()
                .map(|(ticket, word)| (hall.listening.remove(&ticket), word))
                .collect();
            (answer, said, hall.table.figures())
        };
        metrics::lanes(figures);
        for (told, word) in said {
            let word = match word {
                Word::Enter(lane, grant) => Ok(Place {
                    lanes: self.clone(),
                    lane,
                    grant,
                    began: None,
                    verdict: Verdict::Untried,
                }),
                Word::Leave(away) => Err(away),
            };
            // Who has gone meanwhile drops the place, which gives it back.
            drop(told.map(|told| told.send(word)));
        }
        answer
    }

    fn hall(&self) -> MutexGuard<'_, Hall> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job that waits; should it be dropped, nobody waits for it.
struct Waits<'a> {
    lanes: &'a Arc<Lanes>,
    lane: &'a Token,
    ticket: Option<Ticket>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.lanes.with(|hall| {
                hall.listening.remove(&ticket);
                hall.table.give_up(self.lane, ticket, Instant::now());
            });
        }
    }
}

impl Place {
    /// The try begins now.
    pub(crate) fn begin(&mut self) {
        self.began = Some(Instant::now());
    }

    /// The try has lasted for [`SLOW`] and goes on.
    pub(crate) fn lasts(&mut self) {
        let (lane, grant) = (&self.lane, &mut self.grant);
        self.lanes
            .with(|hall| hall.table.lasts(lane, grant, Instant::now()));
    }

    /// The try has ended.
    pub(crate) fn end(mut self, verdict: Verdict) {
        self.verdict = verdict;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let took = self.began.map(|began| began.elapsed());
        let (lane, grant, verdict) = (&self.lane, self.grant, self.verdict);
        let opened = self
            .lanes
            .with(|hall| hall.table.end(lane, grant, verdict, took, Instant::now()));
        if opened {
            metrics::breaker_opened();
            tracing::info!(endpoint = %self.lane, "An endpoint mostly fails and is left alone for a while.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::token;

    fn entrant<'a>(tenant: &'a Token, lane: &'a Token, in_flight: u32) -> Entrant<'a> {
        let rules = LaneRules {
            in_flight,
            ..LaneRules::default()
        };
        Entrant {
            tenant,
            lane,
            rules,
            retry: false,
        }
    }

    /// One try that does well.
    async fn prove(lanes: &Arc<Lanes>, tenant: &Token, lane: &Token) {
        let mut place = lanes.enter(entrant(tenant, lane, 8)).await.unwrap();
        place.begin();
        place.end(Verdict::Arrived);
    }

    #[tokio::test]
    async fn a_full_lane_sends_away_and_another_is_free() {
        let lanes = Lanes::new(10, 10);
        let (tenant, slow, other) = (token("t"), token("slow"), token("other"));
        prove(&lanes, &tenant, &slow).await;
        let held = [
            lanes.enter(entrant(&tenant, &slow, 2)).await.unwrap(),
            lanes.enter(entrant(&tenant, &slow, 2)).await.unwrap(),
        ];
        let away = lanes.enter(entrant(&tenant, &slow, 2)).await.unwrap_err();
        assert_eq!(away.why, Why::Full);
        assert!(lanes.enter(entrant(&tenant, &other, 2)).await.is_ok());
        drop(held);
        assert!(lanes.enter(entrant(&tenant, &slow, 2)).await.is_ok());
    }

    #[tokio::test]
    async fn whoever_waits_gets_the_next_place_and_who_went_keeps_none() {
        let lanes = Lanes::new(10, 10);
        let (tenant, lane) = (token("t"), token("a"));
        let held = lanes.enter(entrant(&tenant, &lane, 1)).await.unwrap();
        let gone = tokio::time::timeout(Duration::from_millis(10), lanes.enter(entrant(&tenant, &lane, 1)));
        assert!(gone.await.is_err());
        let waiting = tokio::spawn({
            let (lanes, tenant, lane) = (lanes.clone(), tenant.clone(), lane.clone());
            async move { lanes.enter(entrant(&tenant, &lane, 1)).await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert!(waiting.await.unwrap());
        assert!(lanes.enter(entrant(&tenant, &lane, 1)).await.is_ok());
        assert!(lanes.hall().listening.is_empty());
    }

    #[tokio::test]
    async fn a_rate_is_kept_by_those_who_wait() {
        let lanes = Lanes::new(10, 10);
        let (tenant, lane) = (token("t"), token("a"));
        prove(&lanes, &tenant, &lane).await;
        let rules = LaneRules {
            rate: Some(Rate {
                per_second: 20.0,
                burst: 1.0,
            }),
            ..LaneRules::default()
        };
        let started = Instant::now();
        for _ in 0..5 {
            let entrant = Entrant {
                rules,
                ..entrant(&tenant, &lane, 8)
            };
            drop(lanes.enter(entrant).await.unwrap());
        }
        assert!(
            started.elapsed() >= Duration::from_millis(199),
            "{:?}",
            started.elapsed()
        );
    }
}
