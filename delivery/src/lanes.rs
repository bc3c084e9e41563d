//! Lanes: one per endpoint, each with its own places, so that a slow receiver fills its lane and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::Token;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a job may stand before its lane for a place.
const PATIENCE: Duration = Duration::from_millis(250);
/// For each place in a lane, how many jobs may be in it or before it.
const CROWD: usize = 4;

#[derive(Debug)]
struct Lane {
    places: Arc<Semaphore>,
    crowd: usize,
}

/// The lanes in use; others take no memory.
#[derive(Debug)]
pub(crate) struct Lanes {
    in_flight: usize,
    lanes: Mutex<HashMap<Token, Lane>>,
}

/// A place before or in a lane, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    lanes: Arc<Lanes>,
    lane: Token,
    permit: Option<OwnedSemaphorePermit>,
}

impl Lanes {
    /// Lanes of this many places.
    pub(crate) fn new(in_flight: usize) -> Arc<Self> {
        Arc::new(Self {
            in_flight,
            lanes: Mutex::default(),
        })
    }

    /// A place in the lane, at once or after a short wait; none if the lane stays full.
    pub(crate) async fn enter(self: &Arc<Self>, lane: &Token) -> Option<Place> {
        let (mut place, places) = self.join(lane)?;
        let permit = tokio::time::timeout(PATIENCE, places.acquire_owned())
            .await
            .ok()?
            .ok()?;
        place.permit = Some(permit);
        Some(place)
    }

    fn join(self: &Arc<Self>, name: &Token) -> Option<(Place, Arc<Semaphore>)> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(name.clone()).or_insert_with(|| Lane {
            places: Arc::new(Semaphore::new(self.in_flight)),
            crowd: 0,
        });
        if lane.crowd >= self.in_flight * CROWD {
            return None;
        }
        lane.crowd += 1;
        let place = Place {
            lanes: self.clone(),
            lane: name.clone(),
            permit: None,
        };
        Some((place, lane.places.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.permit.take();
        let mut lanes = self.lanes.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get_mut(&self.lane) {
            lane.crowd -= 1;
            if lane.crowd == 0 {
                lanes.remove(&self.lane);
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
        let lanes = Lanes::new(2);
        let (slow, other) = (token("slow"), token("other"));
        let held = [
            lanes.enter(&slow).await.unwrap(),
            lanes.enter(&slow).await.unwrap(),
        ];
        assert!(lanes.enter(&slow).await.is_none());
        assert!(lanes.enter(&other).await.is_some());
        drop(held);
        assert!(lanes.enter(&slow).await.is_some());
        assert!(
            lanes.lanes.lock().unwrap().is_empty(),
            "an unused lane takes memory"
        );
    }

    #[tokio::test]
    async fn whoever_waits_gets_the_next_place() {
        let lanes = Lanes::new(1);
        let lane = token("a");
        let held = lanes.enter(&lane).await.unwrap();
        let waiting = tokio::spawn({
            let (lanes, lane) = (lanes.clone(), lane.clone());
            async move { lanes.enter(&lane).await.is_some() }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert!(waiting.await.unwrap());
    }
}
