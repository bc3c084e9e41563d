//! Lanes: one per endpoint, each with its own places, so that a slow receiver fills its lane and nothing else.
//!
//! A job may stand before its lane while it can expect a place within a moment, as the lane has lately moved.
//! Others go back to the queue, each for a time of its own, spaced as the lane moves: so a long backlog comes back
//! at the pace at which it can be taken, not all at once again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use broker::Token;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a job may stand before its lane.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a try is taken to last before one has ended: short, since who comes back too early costs little.
const FIRST_GUESS: Duration = Duration::from_millis(5);
/// The shortest time a job is sent away for.
const AWAY_MIN: Duration = Duration::from_millis(50);
/// The longest: before a quick lane, whose pace may have been misjudged, and before a slow one, where coming back
/// in vain is what costs.
const AWAY_MAX_QUICK: Duration = Duration::from_secs(2);
const AWAY_MAX_SLOW: Duration = Duration::from_secs(30);
/// Below this many lanes nobody looks for unused ones.
const SWEEP_FROM: usize = 1_024;

#[derive(Debug)]
struct Lane {
    places: Arc<Semaphore>,
    /// Jobs in the lane or before it.
    crowd: usize,
    /// How long the receiver takes, on the average of the last tries.
    took: Duration,
    /// Tries under way: a place may be held a little before its try begins.
    trying: u32,
    /// When the last try began or ended.
    moved: Instant,
    /// When the next job to be sent away shall come back.
    next: Instant,
}

#[derive(Debug)]
struct Table {
    lanes: HashMap<Token, Lane>,
    sweep_at: usize,
}

/// The lanes in use, or lately so.
#[derive(Debug)]
pub(crate) struct Lanes {
    in_flight: u32,
    /// The most jobs before one lane, however fast it is.
    most: usize,
    table: Mutex<Table>,
}

/// A place before or in a lane, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    lanes: Arc<Lanes>,
    lane: Token,
    permit: Option<OwnedSemaphorePermit>,
    began: Option<Instant>,
}

/// The lane is full: come again after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full(pub(crate) Duration);

impl Lanes {
    /// Lanes of `in_flight` places; at most `most` jobs stand before one.
    pub(crate) fn new(in_flight: usize, most: usize) -> Arc<Self> {
        Arc::new(Self {
            in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
            most,
            table: Mutex::new(Table {
                lanes: HashMap::new(),
                sweep_at: SWEEP_FROM,
            }),
        })
    }

    /// A place in the lane, at once or after a moment.
    pub(crate) async fn enter(self: &Arc<Self>, lane: &Token) -> Result<Place, Full> {
        let (mut place, places) = self.join(lane)?;
        let Ok(Ok(permit)) = tokio::time::timeout(PATIENCE, places.acquire_owned()).await else {
            return Err(self.give_up(lane));
        };
        place.permit = Some(permit);
        Ok(place)
    }

    fn join(self: &Arc<Self>, name: &Token) -> Result<(Place, Arc<Semaphore>), Full> {
        let mut table = self.table();
        table.sweep();
        let lane = table.lanes.entry(name.clone()).or_insert_with(|| Lane {
            places: Arc::new(Semaphore::new(self.in_flight as usize)),
            crowd: 0,
            took: FIRST_GUESS,
            trying: 0,
            moved: Instant::now(),
            next: Instant::now(),
        });
        let ahead = u32::try_from(lane.crowd).unwrap_or(u32::MAX);
        let waiting = ahead.saturating_sub(self.in_flight.saturating_sub(1));
        if lane.crowd >= self.most || self.pace(lane).saturating_mul(waiting) > PATIENCE {
            return Err(self.send_away(lane));
        }
        lane.crowd += 1;
        let place = Place {
            lanes: self.clone(),
            lane: name.clone(),
            permit: None,
            began: None,
        };
        Ok((place, lane.places.clone()))
    }

    /// A job stood there in vain. If every place is held by a receiver that doesn't answer, it is slower than it was
    /// thought to be; otherwise it is Tidings that is slow.
    fn give_up(&self, name: &Token) -> Full {
        let mut table = self.table();
        table.lanes.get_mut(name).map_or(Full(AWAY_MIN), |lane| {
            if lane.trying == self.in_flight && lane.moved.elapsed() >= PATIENCE / 2 {
                lane.took = lane.took.max(PATIENCE);
            }
            self.send_away(lane)
        })
    }

    fn send_away(&self, lane: &mut Lane) -> Full {
        let now = Instant::now();
        let longest = if lane.took < PATIENCE {
            AWAY_MAX_QUICK
        } else {
            AWAY_MAX_SLOW
        };
        let back = lane.next.clamp(now + AWAY_MIN, now + longest);
        lane.next = back + self.pace(lane);
        Full(back - now)
    }

    /// How much time passes between two places becoming free.
    fn pace(&self, lane: &Lane) -> Duration {
        lane.took / self.in_flight.max(1)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Forgets the lanes nobody is in and nobody will come back to, once there are twice as many as before.
    fn sweep(&mut self) {
        if self.lanes.len() >= self.sweep_at {
            let now = Instant::now();
            self.lanes.retain(|_, lane| lane.crowd > 0 || lane.next > now);
            self.sweep_at = SWEEP_FROM.max(2 * self.lanes.len());
        }
    }
}

impl Place {
    /// The try begins now.
    pub(crate) fn begin(&mut self) {
        let mut table = self.lanes.table();
        if let Some(lane) = table.lanes.get_mut(&self.lane).filter(|_| self.began.is_none()) {
            let now = Instant::now();
            self.began = Some(now);
            lane.trying += 1;
            lane.moved = now;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.permit.take();
        let mut table = self.lanes.table();
        if let Some(lane) = table.lanes.get_mut(&self.lane) {
            lane.crowd -= 1;
            if let Some(began) = self.began {
                lane.took = (lane.took * 7 + began.elapsed()) / 8;
                lane.trying -= 1;
                lane.moved = Instant::now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::token;

    #[tokio::test]
    async fn a_full_lane_refuses_and_another_is_free() {
        let lanes = Lanes::new(2, 100);
        let (slow, other) = (token("slow"), token("other"));
        let held = [
            lanes.enter(&slow).await.unwrap(),
            lanes.enter(&slow).await.unwrap(),
        ];
        assert!(lanes.enter(&slow).await.is_err());
        assert!(lanes.enter(&other).await.is_ok());
        drop(held);
        assert!(lanes.enter(&slow).await.is_ok());
    }

    #[tokio::test]
    async fn whoever_waits_gets_the_next_place() {
        let lanes = Lanes::new(1, 100);
        let lane = token("a");
        let held = lanes.enter(&lane).await.unwrap();
        let waiting = tokio::spawn({
            let (lanes, lane) = (lanes.clone(), lane.clone());
            async move { lanes.enter(&lane).await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_lane_that_stands_still_sends_away_at_once_and_spaced() {
        let lanes = Lanes::new(2, 100);
        let lane = token("a");
        let mut held = [
            lanes.enter(&lane).await.unwrap(),
            lanes.enter(&lane).await.unwrap(),
        ];
        lanes.enter(&lane).await.unwrap_err();
        assert_eq!(lanes.table().lanes[&lane].took, FIRST_GUESS, "no try has begun");
        held.iter_mut().for_each(Place::begin);
        lanes.enter(&lane).await.unwrap_err();
        // Half a second in vain, with two places: a quarter between two that come back, and two may wait.
        lanes.table().lanes.get_mut(&lane).unwrap().crowd += 2;
        let mut waits = Vec::new();
        for _ in 0..200 {
            waits.push(lanes.join(&lane).unwrap_err().0);
        }
        let spaced = waits
            .windows(2)
            .take(50)
            .map(|pair| pair[1].saturating_sub(pair[0]));
        let quarter = Duration::from_millis(200)..Duration::from_millis(251);
        assert!(spaced.clone().all(|space| quarter.contains(&space)), "{waits:?}");
        assert!(
            waits
                .iter()
                .all(|wait| *wait >= AWAY_MIN && *wait <= AWAY_MAX_SLOW)
        );
    }

    #[tokio::test]
    async fn no_lane_takes_every_hand_and_unused_ones_are_forgotten() {
        let lanes = Lanes::new(1, 3);
        let lane = token("a");
        let crowd: Vec<_> = (0..3).map(|_| lanes.join(&lane).unwrap()).collect();
        assert!(lanes.join(&lane).is_err());
        drop(crowd);
        for i in 0..2 * SWEEP_FROM {
            lanes.join(&token(&format!("lane-{i}"))).unwrap();
        }
        assert!(lanes.table().lanes.len() <= SWEEP_FROM);
    }
}
