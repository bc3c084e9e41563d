//! Aggregates in the log: loading by folding, appending under an expectation.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker::{Appended, EventLog, Filter, NewRecord, Record, Subject};
use cqrs_es::{AggregateContext, AggregateError, EventEnvelope, EventStore};
use domain::{Commit, Meta, Position, Root, Source, TenantId, decode_event, encode_event};

use crate::cache::AggregateCache;
use crate::claims::{self, ClaimKey};
use crate::error::{CommitError, LoadError};
use crate::gate::Passage;
use crate::search;
use crate::snapshots::Snapshots;
use crate::{Receipt, SHARD};

/// Records read at a time. A history that fills a page may have a snapshot worth asking for.
const PAGE: usize = 250;

/// How long a replica that is behind is left to catch up before it is asked again, and how often.
const REPLICA_WAIT: Duration = Duration::from_millis(20);
const REPLICA_WAITS: u32 = 50;

/// The key of `cqrs_es` metadata under which a commit's [`Meta`] travels, as JSON.
const META: &str = "meta";

/// An aggregate as loaded: its state and its place in the log.
#[derive(Debug, Clone)]
pub struct Context<A> {
    /// Which one.
    pub id: String,
    /// Its state.
    pub aggregate: A,
    /// The version of its last event, 0 before its first.
    pub version: u64,
    /// The sequence of its last record, 0 before its first.
    pub sequence: u64,
    /// The hash of its last record.
    pub(crate) prev: Option<Vec<u8>>,
}

impl<A: Root> Context<A> {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            aggregate: A::default(),
            version: 0,
            sequence: 0,
            prev: None,
        }
    }
}

impl<A: Root> AggregateContext<A> for Context<A> {
    fn aggregate(&mut self) -> &mut A {
        &mut self.aggregate
    }
}

/// A commit on its way into the log: the context after it, but for where it will stand.
pub(crate) struct Prepared<A> {
    context: Context<A>,
    subject: Subject,
    before: u64,
}

/// How far a catch-up came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// The last record there is.
    End,
    /// The end of a page; there may be more.
    Page,
}

/// The aggregates of one tenant: the `cqrs_es` event store over a log.
///
/// `cqrs_es` leaves out where the events came to stand, which every answer of Tidings names; the
/// [`Dispatcher`](crate::Dispatcher) therefore uses the inherent methods beside the trait's.
#[derive(Clone)]
pub struct TenantStore {
    pub(crate) tenant: TenantId,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) cache: AggregateCache,
    pub(crate) snapshots: Snapshots,
    pub(crate) claim_key: ClaimKey,
    /// The gate that commits go through, if they do.
    pub(crate) passage: Option<Arc<Passage>>,
}

impl TenantStore {
    /// The subject of an aggregate's records.
    pub(crate) fn subject<A: Root>(&self, id: &str) -> Result<Subject, LoadError> {
        Subject::new(Commit::subject(&self.tenant, A::TYPE, id)).map_err(LoadError::InvalidId)
    }

    /// The aggregate as the log has it now.
    pub(crate) async fn load<A: Root>(&self, id: &str) -> Result<Context<A>, LoadError> {
        let subject = self.subject::<A>(id)?;
        let known = self.cache.get::<A>(subject.as_str()).map(|(context, _)| context);
        let mut context = known.unwrap_or_else(|| Context::new(id));
        if self.catch_up(&subject, &mut context, |_, _, _| {}).await? == Reached::Page {
            self.skip_ahead(&subject, &mut context).await?;
            while self.catch_up(&subject, &mut context, |_, _, _| {}).await? == Reached::Page {}
        }
        // What does not exist is not remembered: anyone can ask for it under any name.
        if context.version > 0 {
            self.cache.put(subject.as_str().to_owned(), context.clone());
        }
        Ok(context)
    }

    /// The aggregate as the log's leader knows it, who is asked; a replica that is behind is left to catch up.
    pub(crate) async fn load_latest<A: Root>(&self, id: &str) -> Result<Context<A>, LoadError> {
        let newest = self.newest::<A>(id).await?;
        for _ in 0..REPLICA_WAITS {
            let context = self.load(id).await?;
            if context.sequence >= newest {
                return Ok(context);
            }
            tokio::time::sleep(REPLICA_WAIT).await;
        }
        Err(far_behind())
    }

    /// The sequence of the aggregate's last record, as the log's leader knows it; 0 where it has none.
    pub(crate) async fn newest<A: Root>(&self, id: &str) -> Result<u64, LoadError> {
        let last = self.log.last(&self.subject::<A>(id)?).await?;
        Ok(last.map_or(0, |record| record.sequence))
    }

    /// The receipt of a command that is in the aggregate's history, if it is. The history is read up to `seen` at least,
    /// where the aggregate's state was read to: another replica may answer now, and not know yet what that one knew.
    pub(crate) async fn find<A: Root>(
        &self,
        id: &str,
        command_id: &str,
        seen: u64,
    ) -> Result<Option<Receipt>, LoadError> {
        let subject = self.subject::<A>(id)?;
        let filter = Filter::exactly(&subject);
        let message_id = message_id(&self.tenant, command_id);
        let (mut after, mut waits) = (0, 0);
        loop {
            let records = self.log.read(after, Some(&filter), PAGE).await?;
            if let Some(found) = records.iter().find(|record| record.message_id == message_id) {
                search::confirm(&*self.log, found.sequence, &message_id).await?;
                return receipt_of(&subject, found).map(Some);
            }
            let full = records.len() == PAGE;
            after = records.last().map_or(after, |last| last.sequence);
            if full {
                continue;
            }
            if after >= seen {
                return Ok(None);
            }
            if waits == REPLICA_WAITS {
                return Err(far_behind());
            }
            waits += 1;
            tokio::time::sleep(REPLICA_WAIT).await;
        }
    }

    /// Goes on from the aggregate's snapshot, if there is one further on that stands at a record of this log.
    async fn skip_ahead<A: Root>(
        &self,
        subject: &Subject,
        context: &mut Context<A>,
    ) -> Result<(), LoadError> {
        let snapshot = self.snapshots.get::<A>(&self.tenant, &context.id).await;
        let Some(snapshot) = snapshot.filter(|snapshot| snapshot.sequence > context.sequence) else {
            return Ok(());
        };
        let filter = Filter::exactly(subject);
        let at = self.log.read(snapshot.sequence - 1, Some(&filter), 1).await?;
        let fits = at.first().is_some_and(|record| {
            record.sequence == snapshot.sequence && snapshot.prev == Some(Commit::hash(&record.payload))
        });
        if fits {
            *context = snapshot;
        } else {
            tracing::warn!(%subject, "A snapshot does not stand at a record of the log; it is passed over.");
        }
        Ok(())
    }

    /// Applies a page of the records after the context's last, and shows each event to `see`.
    async fn catch_up<A: Root>(
        &self,
        subject: &Subject,
        context: &mut Context<A>,
        mut see: impl FnMut(&Context<A>, &A::Event, &Meta) + Send,
    ) -> Result<Reached, LoadError> {
        let filter = Filter::exactly(subject);
        let records = self.log.read(context.sequence, Some(&filter), PAGE).await?;
        for record in &records {
            self.fold(subject, context, record, &mut see)?;
        }
        Ok(if records.len() < PAGE {
            Reached::End
        } else {
            Reached::Page
        })
    }

    /// Applies a record, after making sure that it is the next one of this aggregate.
    fn fold<A: Root>(
        &self,
        subject: &Subject,
        context: &mut Context<A>,
        record: &Record,
        see: &mut impl FnMut(&Context<A>, &A::Event, &Meta),
    ) -> Result<(), LoadError> {
        let damaged = |reason: String| LoadError::Damaged {
            subject: subject.to_string(),
            sequence: record.sequence,
            reason,
        };
        let commit = Commit::decode(&record.payload).map_err(|error| damaged(error.to_string()))?;
        if commit.tenant != self.tenant || commit.aggregate != A::TYPE || commit.id != context.id {
            return Err(damaged("it is the record of another aggregate".to_owned()));
        }
        if commit.first_version != context.version + 1 {
            let (expected, found) = (context.version + 1, commit.first_version);
            return Err(damaged(format!("it begins with version {found}, not {expected}")));
        }
        if commit.prev != context.prev {
            return Err(damaged(
                "it does not carry the hash of the record before it".to_owned(),
            ));
        }
        for event in &commit.events {
            let event = decode_event::<A::Event>(event).map_err(|error| damaged(error.to_string()))?;
            context.version += 1;
            see(context, &event, &commit.meta);
            context.aggregate.apply(event);
        }
        context.sequence = record.sequence;
        context.prev = Some(Commit::hash(&record.payload));
        Ok(())
    }

    /// Appends what the aggregate in `context` (which has applied the events already) decided, with the claims the
    /// events make, all or nothing; answers the context after it.
    pub(crate) async fn append<A: Root>(
        &self,
        context: Context<A>,
        events: &[A::Event],
        meta: &Meta,
    ) -> Result<Context<A>, CommitError> {
        let (prepared, records) = self.prepare(context, events, meta).await?;
        let appended = self.log.append(records).await?;
        Ok(self.stored(prepared, &appended))
    }

    /// The records that append does store: claims first, the commit last, so that whoever sees it can rely on its
    /// claims. The context after them waits for where they come to stand.
    pub(crate) async fn prepare<A: Root>(
        &self,
        mut context: Context<A>,
        events: &[A::Event],
        meta: &Meta,
    ) -> Result<(Prepared<A>, Vec<NewRecord>), CommitError> {
        let unwritable = |error: broker::Cause| CommitError::Unwritable(error);
        let subject = self
            .subject::<A>(&context.id)
            .map_err(|error| unwritable(Box::new(error)))?;
        let commit = Commit {
            v: Commit::VERSION,
            tenant: self.tenant.clone(),
            aggregate: A::TYPE.to_owned(),
            id: context.id.clone(),
            first_version: context.version + 1,
            events: events
                .iter()
                .map(encode_event)
                .collect::<Result<_, _>>()
                .map_err(|error| unwritable(Box::new(error)))?,
            meta: meta.clone(),
            prev: context.prev.clone(),
        };
        let (tenant, command_id) = (&self.tenant, &meta.command_id);
        let holder = format!("{}.{}", A::TYPE, context.id);
        let claims = events.iter().flat_map(A::claims).collect();
        let mut records =
            claims::records(&*self.log, &self.claim_key, tenant, &holder, command_id, claims).await?;
        let passage = self.passage.iter().filter(|passage| passage.aggregate == A::TYPE);
        records.extend(passage.map(|passage| passage.record(&message_id(tenant, command_id))));
        let payload = commit.encode();
        records.push(NewRecord {
            subject: subject.clone(),
            message_id: message_id(tenant, command_id),
            expect: Some(context.sequence),
            payload: payload.clone().into(),
        });
        context.prev = Some(Commit::hash(&payload));
        context.version = commit.last_version();
        let before = commit.first_version - 1;
        Ok((
            Prepared {
                context,
                subject,
                before,
            },
            records,
        ))
    }

    /// The context after its records, of which `appended` tells where they stand; remembered.
    pub(crate) fn stored<A: Root>(&self, prepared: Prepared<A>, appended: &[Appended]) -> Context<A> {
        let Prepared {
            mut context,
            subject,
            before,
        } = prepared;
        if let Some(commit) = appended.last() {
            context.sequence = commit.sequence;
        }
        if appended.iter().any(|record| record.duplicate) {
            // An earlier try of this command was stored, perhaps with other bytes: what it left is in the log.
            self.cache.forget(subject.as_str());
        } else {
            self.cache.put(subject.as_str().to_owned(), context.clone());
            self.snapshots.take_if_due(&self.tenant, before, &context);
        }
        context
    }
}

fn far_behind() -> LoadError {
    LoadError::Unavailable("the replicas of the log are far behind".into())
}

/// The id under which the log knows the commit of a command.
fn message_id(tenant: &TenantId, command_id: &str) -> String {
    format!("{tenant}:{command_id}")
}

fn receipt_of(subject: &Subject, record: &Record) -> Result<Receipt, LoadError> {
    let commit = Commit::decode(&record.payload).map_err(|error| LoadError::Damaged {
        subject: subject.to_string(),
        sequence: record.sequence,
        reason: error.to_string(),
    })?;
    Ok(Receipt {
        position: Position {
            source: Source::Events,
            shard: SHARD,
            sequence: record.sequence,
        },
        version: commit.last_version(),
    })
}

fn envelope<A: Root>(context: &Context<A>, payload: A::Event, meta: &Meta) -> EventEnvelope<A> {
    let sequence = usize::try_from(context.version).unwrap_or(usize::MAX);
    let meta = serde_json::to_string(meta).unwrap_or_default();
    EventEnvelope {
        aggregate_id: context.id.clone(),
        sequence,
        payload,
        metadata: HashMap::from([(META.to_owned(), meta)]),
    }
}

impl<A: Root> EventStore<A> for TenantStore {
    type AC = Context<A>;

    async fn load_events(&self, id: &str) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        let subject = self.subject::<A>(id).map_err(load_failure)?;
        let mut events = Vec::new();
        let mut see = |context: &Context<A>, event: &A::Event, meta: &Meta| {
            events.push(envelope(context, event.clone(), meta));
        };
        let mut context = Context::new(id);
        while self
            .catch_up(&subject, &mut context, &mut see)
            .await
            .map_err(load_failure)?
            == Reached::Page
        {}
        Ok(events)
    }

    async fn load_aggregate(&self, id: &str) -> Result<Context<A>, AggregateError<A::Error>> {
        self.load(id).await.map_err(load_failure)
    }

    /// Appends events decided on a freshly loaded context. `metadata` must hold a [`Meta`] as JSON under `meta`.
    async fn commit(
        &self,
        events: Vec<A::Event>,
        mut context: Context<A>,
        metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        let meta = metadata.get(META).map_or("", String::as_str);
        let meta: Meta = serde_json::from_str(meta)
            .map_err(|error| AggregateError::DeserializationError(Box::new(error)))?;
        let first = context.clone();
        for event in &events {
            context.aggregate.apply(event.clone());
        }
        self.append(context, &events, &meta)
            .await
            .map_err(commit_failure)?;
        let mut place = first;
        Ok(events
            .into_iter()
            .map(|event| {
                place.version += 1;
                envelope(&place, event, &meta)
            })
            .collect())
    }
}

fn load_failure<E: std::error::Error>(error: LoadError) -> AggregateError<E> {
    match error {
        LoadError::Unavailable(cause) => AggregateError::DatabaseConnectionError(cause),
        LoadError::Damaged { .. } => AggregateError::DeserializationError(Box::new(error)),
        LoadError::InvalidId(_) => AggregateError::UnexpectedError(Box::new(error)),
    }
}

fn commit_failure<E: std::error::Error>(error: CommitError) -> AggregateError<E> {
    match error {
        CommitError::Conflict | CommitError::Taken(_) => AggregateError::AggregateConflict,
        CommitError::Busy => AggregateError::DatabaseConnectionError(Box::new(error)),
        CommitError::Unavailable(cause) | CommitError::Unknown(cause) => {
            AggregateError::DatabaseConnectionError(cause)
        }
        CommitError::TooLarge { .. } | CommitError::Unwritable(_) => {
            AggregateError::UnexpectedError(Box::new(error))
        }
    }
}
