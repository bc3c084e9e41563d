//! Every endpoint of the installation in memory, and the standing of every tenant, kept up with the logs of events.
//!
//! Knowing that the index has reached a sequence takes seeing every record up to it: a filtered follower is not
//! told what it does not see. So the end of the log is followed whole, and checked to be without gaps; only the
//! older part, which can be most of it, is read through a filter. A read may be answered by a replica a moment
//! behind, hence the older part ends minutes before the present.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use broker::layout::{Log, Shard};
use broker::{Engine, EventLog, Filter, ReadError, Record, RecordStream};
use domain::tenant::Standing;
use domain::{EndpointId, Message, TenantId};
use futures::StreamExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::{Episode, Health, next, pause};

mod index;

pub(crate) use index::Endpoint;
use index::Index;

/// No replica that is asked lags by more.
const SETTLED_AFTER: Duration = Duration::from_mins(5);
const PAGE: usize = 500;
/// The shard of the platform, in whose log the tenants are.
const PLATFORM: Shard = 0;
/// The subjects of tenants' events.
const TENANTS: &str = "ev.platform.tenant.>";
/// The subjects of endpoints' events.
pub(crate) const SUBJECTS: &str = "ev.*.endpoint.>";

#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("the log has no record {expected}: {found} came instead")]
    Gap { expected: u64, found: u64 },
    #[error("the log ends at {end}, but {applied} records of it are in the index: it has gone backwards")]
    Backwards { applied: u64, end: u64 },
    #[error("the log's stream of records ended")]
    Ended,
}

/// The endpoints of one shard.
#[derive(Debug)]
struct Part {
    log: Arc<dyn EventLog>,
    index: RwLock<Index>,
    /// Every record up to this sequence is in the index.
    applied: watch::Sender<u64>,
}

/// The endpoints of all shards.
#[derive(Debug)]
pub(crate) struct Endpoints(Vec<Part>);

impl Endpoints {
    pub(crate) fn new(engine: &dyn Engine) -> Self {
        let part = |shard| Part {
            log: engine.log(Log::Events(shard)),
            index: RwLock::default(),
            applied: watch::Sender::new(0),
        };
        Self((0..engine.layout().shards).map(part).collect())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|part| part.read(Index::len)).sum()
    }

    /// An endpoint of a tenant of this shard, as far as the index has come.
    pub(crate) fn get(&self, shard: Shard, tenant: &TenantId, id: &EndpointId) -> Option<Arc<Endpoint>> {
        self.0
            .get(usize::from(shard))?
            .read(|index| index.get(tenant, id))
    }

    /// Whether a tenant takes part, as far as the index has come; one that is not known does.
    pub(crate) fn standing(&self, tenant: &TenantId) -> Standing {
        let part = self.0.get(usize::from(PLATFORM));
        part.map(|part| part.read(|index| index.standing(tenant)))
            .unwrap_or_default()
    }

    /// Waits until the standing of every tenant is known, as of now or later.
    pub(crate) async fn standings_known(&self) -> Result<(), ReadError> {
        self.current(PLATFORM).await
    }

    /// The endpoints that want a message of this shard.
    pub(crate) fn matching(&self, shard: Shard, message: &Message, stored_at: SystemTime) -> Vec<EndpointId> {
        let part = self.0.get(usize::from(shard));
        part.map(|part| part.read(|index| index.matching(message, stored_at)))
            .unwrap_or_default()
    }

    /// Whether any endpoint of the message's tenant asked for such, be it disabled just now.
    pub(crate) fn anybody_wants(&self, shard: Shard, message: &Message) -> bool {
        let part = self.0.get(usize::from(shard));
        part.is_some_and(|part| part.read(|index| index.anybody_wants(message)))
    }

    /// Waits until everything acknowledged by the shard's log before the call is in the index: as long as that
    /// takes, if the log is away.
    pub(crate) async fn current(&self, shard: Shard) -> Result<(), ReadError> {
        let Some(part) = self.0.get(usize::from(shard)) else {
            return Ok(());
        };
        let last = part.log.state().await?.last;
        // The sender lives as long as `self`: waiting has no other end than success.
        let _ = part
            .applied
            .subscribe()
            .wait_for(|applied| *applied >= last)
            .await;
        Ok(())
    }

    /// Keeps a shard's part up to date until told to stop.
    pub(crate) async fn run(self: Arc<Self>, shard: Shard, stop: CancellationToken, health: Arc<Health>) {
        let Some(part) = self.0.get(usize::from(shard)) else {
            return;
        };
        let mut episode = Episode::new(format!("endpoints of EVENTS-{shard}"), health);
        let mut going = true;
        while going {
            let ended = stop.run_until_cancelled(part.follow(&mut episode)).await;
            going = match ended {
                Some(error) => pause(episode.failed(&error), &stop).await,
                None => false,
            };
        }
    }
}

impl Part {
    fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Follows the log until something fails.
    async fn follow(&self, episode: &mut Episode) -> FollowError {
        if self.applied() == 0
            && let Err(error) = self.load_history().await
        {
            return error;
        }
        let records = match self.follow_on().await {
            Ok(records) => records,
            Err(error) => return error,
        };
        let mut batches = records.ready_chunks(PAGE);
        while let Some(batch) = next(&mut batches, episode).await {
            if let Err(error) = self.take(batch) {
                return error;
            }
            episode.recovered();
        }
        FollowError::Ended
    }

    /// What comes after the records in the index, of a log that still has those.
    async fn follow_on(&self) -> Result<RecordStream, FollowError> {
        let (applied, end) = (self.applied(), self.log.state().await?.last);
        if end < applied {
            return Err(FollowError::Backwards { applied, end });
        }
        Ok(self.log.follow(applied, None).await?)
    }

    fn take(&self, batch: Vec<Result<Record, ReadError>>) -> Result<(), FollowError> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for record in batch {
            let record = record?;
            let expected = self.applied() + 1;
            if record.sequence != expected {
                let found = record.sequence;
                return Err(FollowError::Gap { expected, found });
            }
            index.apply(&record);
            self.applied.send_replace(expected);
        }
        Ok(())
    }

    async fn load_history(&self) -> Result<(), FollowError> {
        let until = self.settled_until().await?;
        let mut index = Index::default();
        for filter in [filter(), constant(TENANTS)] {
            self.load_subjects(&filter, until, &mut index).await?;
        }
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
        self.applied.send_replace(until);
        Ok(())
    }

    async fn load_subjects(&self, filter: &Filter, until: u64, index: &mut Index) -> Result<(), FollowError> {
        let mut after = 0;
        loop {
            let page = self.log.read(after, Some(filter), PAGE).await?;
            let before = after;
            for record in page.iter().filter(|record| record.sequence <= until) {
                index.apply(record);
                after = record.sequence;
            }
            if after == before {
                return Ok(());
            }
        }
    }

    /// The last sequence stored long enough ago for every replica to have it, found by halving.
    async fn settled_until(&self) -> Result<u64, ReadError> {
        let horizon = SystemTime::now() - SETTLED_AFTER;
        let (mut low, mut high) = (0, self.log.state().await?.last);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let found = self.log.read(middle - 1, None, 1).await?;
            let settled = found
                .first()
                .is_some_and(|record| record.sequence == middle && record.stored_at <= horizon);
            if settled {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(low)
    }
}

/// The filter of [`SUBJECTS`].
pub(crate) fn filter() -> Filter {
    constant(SUBJECTS)
}

fn constant(subjects: &'static str) -> Filter {
    #[expect(
        clippy::expect_used,
        reason = "a constant, checked by every test that follows it"
    )]
    Filter::new(subjects).expect("a valid filter")
}
