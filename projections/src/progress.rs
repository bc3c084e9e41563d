//! Read your writes: waiting until a read model has reached a position.
//!
//! Projectors of this process tell at each commit how far they have come; for projectors elsewhere the checkpoints
//! are asked every few milliseconds.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::{Position, Source};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::checkpoints;
use crate::models;
use crate::page::QueryError;
use crate::read_models::ReadModels;

/// How often the checkpoints are asked while waiting.
const POLL: Duration = Duration::from_millis(15);

type Reached = BTreeMap<(&'static str, Source, u16), u64>;

/// How far the projectors of this process have come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    reached: Mutex<Reached>,
    changed: watch::Sender<()>,
}

impl Progress {
    /// Tells that a projection has reached a position, after the commit.
    pub(crate) fn tell(&self, projection: &'static str, at: Position) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.insert((projection, at.source, at.shard), at.sequence);
        drop(reached);
        self.changed.send_replace(());
    }

    fn has(&self, projection: &'static str, wanted: &Position) -> bool {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached
            .get(&(projection, wanted.source, wanted.shard))
            .is_some_and(|at| *at >= wanted.sequence)
    }
}

/// A projection, its version, and the positions it must reach.
type Wanted = (&'static str, i64, Vec<Position>);

/// Why a read model was not waited for to the end.
#[derive(Debug, thiserror::Error)]
pub enum Stale {
    /// The deadline passed.
    #[error("the read model has not reached the position asked for")]
    Behind {
        /// Where it stands.
        current: Vec<Position>,
    },
    /// The database failed.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// What each of the named projections must reach.
fn wanted(projections: &[&str], positions: &[Position]) -> Vec<Wanted> {
    let known = models::all();
    let named = known
        .iter()
        .filter(|projection| projections.contains(&projection.name()));
    named
        .map(|projection| {
            let follows = |position: &&Position| projection.sources().contains(&position.source);
            let wanted = positions
                .iter()
                .filter(follows)
                .filter(|position| position.sequence > 0);
            (projection.name(), projection.version(), wanted.copied().collect())
        })
        .collect()
}

impl ReadModels {
    /// Waits until the projections have reached the positions, or the deadline passes.
    ///
    /// Projections are named as [`crate::Projection::name`] does; positions of logs that a projection does not
    /// follow, and unknown names, are passed over.
    pub async fn wait_for(
        &self,
        projections: &[&str],
        positions: &[Position],
        deadline: std::time::Instant,
    ) -> Result<(), Stale> {
        let deadline = Instant::from_std(deadline);
        let wanted = wanted(projections, positions);
        let mut changed = self.progress.changed.subscribe();
        let mut asked: Option<Instant> = None;
        loop {
            let here =
                |(name, _, wanted): &Wanted| wanted.iter().all(|position| self.progress.has(name, position));
            if wanted.iter().all(here) {
                return Ok(());
            }
            if asked.is_none_or(|asked| asked.elapsed() >= POLL) {
                let Some(current) = self.behind(&wanted).await? else {
                    return Ok(());
                };
                if Instant::now() >= deadline {
                    return Err(Stale::Behind { current });
                }
                asked = Some(Instant::now());
            }
            let pause = tokio::time::sleep_until((Instant::now() + POLL).min(deadline));
            tokio::select! {
                _ = changed.changed() => {}
                () = pause => asked = None,
            }
        }
    }

    /// Waits until a projection of this process has gone beyond a position, or the time is over: projectors of other
    /// processes tell nothing here.
    pub async fn moved_beyond(&self, projection: &str, position: Position, patience: Duration) {
        let known = models::all();
        let Some(projection) = known.iter().find(|known| known.name() == projection) else {
            return tokio::time::sleep(patience).await;
        };
        let beyond = Position {
            sequence: position.sequence + 1,
            ..position
        };
        let mut changed = self.progress.changed.subscribe();
        let moved = async {
            while !self.progress.has(projection.name(), &beyond) && changed.changed().await.is_ok() {}
        };
        // Time over is as good: the caller looks for itself.
        let _ = tokio::time::timeout(patience, moved).await;
    }

    /// Where those projections stand that have not reached what is wanted; `None` where all have.
    async fn behind(&self, wanted: &[Wanted]) -> Result<Option<Vec<Position>>, QueryError> {
        let mut connection = self.database.reader.acquire().await?;
        let (mut all, mut behind) = (true, Vec::new());
        for (name, version, wanted) in wanted {
            let at = checkpoints::positions(&mut connection, &[(*name, *version)]).await?;
            let at = at.positions;
            let reached = |wanted: &Position| {
                let same = |at: &&Position| (at.source, at.shard) == (wanted.source, wanted.shard);
                at.iter()
                    .find(same)
                    .is_some_and(|at| at.sequence >= wanted.sequence)
            };
            if !wanted.iter().all(reached) {
                all = false;
                behind.extend(at);
            }
        }
        // Sorted by log, then sequence: of each log, the one furthest behind comes first.
        behind.sort();
        behind.dedup_by_key(|position| (position.source, position.shard));
        Ok((!all).then_some(behind))
    }
}
