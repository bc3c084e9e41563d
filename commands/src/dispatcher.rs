//! The dispatcher: executes commands with optimistic concurrency.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::layout::{Bucket, Log};
use broker::{Engine, EventLog};
use cqrs_es::event_sink::EventSink;
use domain::{Meta, Position, Root, Source, TenantId};
use tokio::sync::{Mutex, MutexGuard};

use crate::cache::AggregateCache;
use crate::error::CommitError;
use crate::gate::Passage;
use crate::snapshots::Snapshots;
use crate::{ClaimKey, Context, Error, LoadError, SHARD, TenantStore, claims, metrics};

/// How the dispatcher is set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The key of the hashes under which unique values stand in the log.
    pub claim_key: ClaimKey,
    /// How many aggregates are kept in memory.
    pub cached_aggregates: u64,
    /// How often a command is decided before it is given up as [`Error::Contended`].
    pub attempts: u32,
    /// How many commands can be under way at once, at most: aggregates share these turns by the hash of their subject.
    /// Many more than there are commands, so that two of different aggregates seldom wait for each other.
    pub turns: usize,
}

impl Settings {
    /// Usual settings under a key.
    pub fn new(claim_key: ClaimKey) -> Self {
        Self {
            claim_key,
            cached_aggregates: 100_000,
            attempts: 10,
            turns: 16_384,
        }
    }
}

/// One call of a command: where it comes from, and whether it may have happened already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What its record says of where it comes from. `command_id` names the command for ever.
    pub meta: Meta,
    /// It belongs to a request that is being repeated: the log is asked for its record before it is decided.
    pub repeated: bool,
}

impl From<Meta> for Call {
    /// A command that cannot have happened yet.
    fn from(meta: Meta) -> Self {
        Self {
            meta,
            repeated: false,
        }
    }
}

/// A command's success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Where the command's record stands; the aggregate's last record, where the command changed nothing.
    pub position: Position,
    /// The aggregate's version after it.
    pub version: u64,
}

/// An aggregate as it stands.
#[derive(Debug, Clone)]
pub struct Loaded<A> {
    /// Its state.
    pub aggregate: A,
    /// The version of its last event; 0: it has none.
    pub version: u64,
    /// The sequence of its last record in the log of events.
    pub sequence: u64,
}

/// Executes commands. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) cache: AggregateCache,
    snapshots: Snapshots,
    pub(crate) claim_key: ClaimKey,
    pub(crate) attempts: u32,
    turns: Arc<[Mutex<()>]>,
    /// The gate that commits go through, if they do.
    pub(crate) passage: Option<Arc<Passage>>,
}

impl Dispatcher {
    /// Over an engine's log of events.
    pub fn new(engine: &dyn Engine, settings: Settings) -> Self {
        Self {
            log: engine.log(Log::Events(SHARD)),
            cache: AggregateCache::new(settings.cached_aggregates),
            snapshots: Snapshots::new(engine.bucket(Bucket::Snapshots)),
            claim_key: settings.claim_key,
            attempts: settings.attempts.max(1),
            turns: (0..settings.turns.max(1)).map(|_| Mutex::default()).collect(),
            passage: None,
        }
    }

    /// The event store of a tenant.
    pub fn store(&self, tenant: &TenantId) -> TenantStore {
        TenantStore {
            tenant: tenant.clone(),
            log: self.log.clone(),
            cache: self.cache.clone(),
            snapshots: self.snapshots.clone(),
            claim_key: self.claim_key.clone(),
            passage: self.passage.clone(),
        }
    }

    /// An aggregate as it was at most `max_age` ago.
    pub async fn load<A: Root>(
        &self,
        tenant: &TenantId,
        id: &str,
        max_age: Duration,
    ) -> Result<Loaded<A>, LoadError> {
        let store = self.store(tenant);
        let subject = store.subject::<A>(id)?;
        let context = match self.cache.get::<A>(subject.as_str()) {
            Some((context, age)) if age <= max_age => context,
            _ => store.load(id).await?,
        };
        Ok(Loaded {
            aggregate: context.aggregate,
            version: context.version,
            sequence: context.sequence,
        })
    }

    /// Lets the aggregate decide on the command and appends what it decided.
    ///
    /// The receipt is given after the log's acknowledgement. Where the call is a repetition, a record of its command
    /// that is in the aggregate's history already is the answer, whatever has happened since.
    pub async fn execute<A: Root>(
        &self,
        tenant: &TenantId,
        id: &str,
        command: A::Command,
        call: impl Into<Call>,
    ) -> Result<Receipt, Error<A::Error>> {
        let started = Instant::now();
        let result = self
            .decide_and_append::<A>(tenant, id, command, call.into())
            .await;
        let outcome = match &result {
            Ok(_) => "done",
            Err(Error::Rejected(_)) => "rejected",
            Err(Error::Taken { .. }) => "taken",
            Err(Error::Contended) => "contended",
            Err(Error::Busy) => "busy",
            Err(_) => "failed",
        };
        ::metrics::counter!(metrics::COMMANDS, "aggregate" => A::TYPE, "outcome" => outcome).increment(1);
        ::metrics::histogram!(metrics::COMMAND_SECONDS, "aggregate" => A::TYPE).record(started.elapsed());
        result
    }

    async fn decide_and_append<A: Root>(
        &self,
        tenant: &TenantId,
        id: &str,
        command: A::Command,
        call: Call,
    ) -> Result<Receipt, Error<A::Error>> {
        let Call { meta, repeated } = call;
        let store = self.store(tenant);
        let subject = store.subject::<A>(id)?;
        // Commands on one aggregate in this process take turns: racing each other would only make conflicts.
        let _turn = self.turn(subject.as_str()).await;
        let cached = self.cache.get::<A>(subject.as_str()).map(|(context, _)| context);
        let new = cached.is_none() && !repeated && A::creates(&command);
        let mut proved = false;
        let mut context = match cached {
            Some(context) => context,
            None if new => Context::new(id),
            None => store.load(id).await?,
        };
        for attempt in 1..=self.attempts {
            // Asked after the state was read, so that what the state has of this command is found.
            if repeated && let Some(receipt) = store.find::<A>(id, &meta.command_id, context.sequence).await?
            {
                return Ok(receipt);
            }
            match try_once(&store, context, command.clone(), &meta).await {
                // Another process may have changed what is remembered or supposed here, and a replica may not have heard
                // of it: a "no", and that there is nothing to do, is said only on the word of the log's leader.
                Err(Tried::Rejected(_) | Tried::Nothing(_)) if !proved => {}
                Err(Tried::Rejected(rejection)) => return Err(Error::Rejected(rejection)),
                // Another repetition may have been stored meanwhile, from another version than this one was decided on.
                Ok(context) if repeated => {
                    let found = store.find::<A>(id, &meta.command_id, context.sequence).await;
                    return Ok(found.ok().flatten().unwrap_or_else(|| receipt(&context)));
                }
                Ok(context) | Err(Tried::Nothing(context)) => return Ok(receipt(&context)),
                Err(Tried::Failed(CommitError::Conflict)) => {
                    ::metrics::counter!(metrics::CONFLICTS, "aggregate" => A::TYPE).increment(1);
                    tracing::debug!(%subject, attempt, "the aggregate changed meanwhile; deciding again");
                    tokio::time::sleep(pause(attempt, &meta.command_id)).await;
                }
                Err(Tried::Failed(error)) => return Err(failure(error)),
            }
            context = store.load_latest(id).await?;
            proved = true;
        }
        Err(Error::Contended)
    }

    /// What a repeated request has done already with this call; none where it has not happened, or nothing is
    /// repeated. For handlers that look at other things before they execute: those may have changed since.
    pub async fn done<A: Root>(
        &self,
        tenant: &TenantId,
        id: &str,
        call: &Call,
    ) -> Result<Option<Receipt>, LoadError> {
        if !call.repeated {
            return Ok(None);
        }
        let store = self.store(tenant);
        let newest = store.newest::<A>(id).await?;
        store.find::<A>(id, &call.meta.command_id, newest).await
    }

    /// Who holds a unique value of a tenant, as `user.usr_…`: what the log says now, which an append may overtake.
    pub async fn holder(
        &self,
        tenant: &TenantId,
        kind: &str,
        value: &str,
    ) -> Result<Option<String>, LoadError> {
        claims::holder(&*self.log, &self.claim_key, tenant, kind, value).await
    }

    async fn turn(&self, subject: &str) -> MutexGuard<'_, ()> {
        self.turns[self.place(subject)].lock().await
    }

    /// The turns of two aggregates, taken in one order everywhere, so that nobody waits in a circle.
    pub(crate) async fn turns(&self, one: &str, other: &str) -> Vec<MutexGuard<'_, ()>> {
        let places = BTreeSet::from([self.place(one), self.place(other)]);
        let mut turns = Vec::with_capacity(places.len());
        for place in places {
            turns.push(self.turns[place].lock().await);
        }
        turns
    }

    fn place(&self, subject: &str) -> usize {
        let mut hasher = DefaultHasher::new();
        subject.hash(&mut hasher);
        let count = self.turns.len() as u64;
        usize::try_from(hasher.finish() % count).unwrap_or_default()
    }
}

/// The longest pause between two decisions.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The pause after a command's n-th conflict: anything up to a bound that doubles from a millisecond. Two processes on
/// one aggregate would otherwise meet again and again. It is drawn from the command's id, so that the same commands take
/// the same time whenever they meet in the same way.
pub(crate) fn pause(attempt: u32, command_id: &str) -> Duration {
    let bound = Duration::from_millis(1)
        .saturating_mul(2_u32.saturating_pow(attempt - 1))
        .min(LONGEST_PAUSE);
    let mut hasher = DefaultHasher::new();
    (command_id, attempt).hash(&mut hasher);
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(hasher.finish() % nanos.saturating_add(1))
}

/// Why one decision did not lead to an append.
enum Tried<A: Root> {
    Rejected(A::Error),
    /// The command changes nothing.
    Nothing(Context<A>),
    Failed(CommitError),
}

async fn try_once<A: Root>(
    store: &TenantStore,
    mut context: Context<A>,
    command: A::Command,
    meta: &Meta,
) -> Result<Context<A>, Tried<A>> {
    let sink = EventSink::default();
    context
        .aggregate
        .handle(command, &(), &sink)
        .await
        .map_err(Tried::Rejected)?;
    let events = sink.collect().await;
    if events.is_empty() {
        return Err(Tried::Nothing(context));
    }
    store.append(context, &events, meta).await.map_err(Tried::Failed)
}

pub(crate) fn receipt<A>(context: &Context<A>) -> Receipt {
    let position = Position {
        source: Source::Events,
        shard: SHARD,
        sequence: context.sequence,
    };
    Receipt {
        position,
        version: context.version,
    }
}

pub(crate) fn failure<R: std::error::Error>(error: CommitError) -> Error<R> {
    match error {
        CommitError::Conflict => Error::Contended,
        CommitError::Taken(kind) => Error::Taken { kind },
        CommitError::TooLarge { bytes, limit } => Error::TooLarge { bytes, limit },
        CommitError::Busy => Error::Busy,
        CommitError::Unavailable(cause) => Error::Unavailable(cause),
        CommitError::Unwritable(cause) => Error::Damaged(cause),
        CommitError::Unknown(cause) => Error::Unknown(cause),
    }
}
