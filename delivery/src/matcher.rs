//! From messages to deliveries: each message is matched against its tenant's endpoints, and each match becomes a
//! fact in the delivery log and a job in the queue.
//!
//! An endpoint whose creation was acknowledged before a message was published is always matched: the index is
//! brought up to the end of the log of events *after* the message was received. The cursor moves only when
//! everything of a batch is stored; what a crash repeats has the same ids and is recognised. A delivery to an endpoint
//! that asks for order has its place in it before it is made.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use broker::layout::{Bucket, Log, Shard};
use broker::{AppendError, Engine, EventLog, KeyValue, MAX_APPEND, QueueError, ReadError, Record, WorkQueue};
use domain::{
    DeliveryFact, DeliveryId, EndpointId, Message, MessageRef, Position, Source, TenantId, Trigger,
};
use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use crate::cursor::{Cursor, CursorError, OVERTAKEN_WAIT};
use crate::endpoints::Endpoints;
use crate::health::{Episode, Health, in_full, next, pause};
use crate::metrics;
use crate::ordering::{Order, OrderError, Orders, key_of};
use crate::work::{Work, new_record};

/// What its cursor goes by.
pub(crate) const CURSOR: &str = "matcher";

/// The most messages of a batch.
const BATCH: usize = 256;
/// How many keys of orders are asked for at once.
const PLACES_AT_ONCE: usize = 32;

#[derive(Debug, thiserror::Error)]
enum MatchError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error(transparent)]
    Cursor(#[from] CursorError),
    #[error("the log's stream of records ended")]
    Ended,
}

/// The matcher of one shard's messages.
#[derive(Debug)]
pub(crate) struct Matcher {
    shard: Shard,
    messages: Arc<dyn EventLog>,
    attempts: Arc<dyn EventLog>,
    queue: Arc<dyn WorkQueue>,
    cursors: Arc<dyn KeyValue>,
    endpoints: Arc<Endpoints>,
    ordering: Orders,
}

impl Matcher {
    pub(crate) fn new(engine: &dyn Engine, shard: Shard, endpoints: Arc<Endpoints>) -> Self {
        Self {
            shard,
            messages: engine.log(Log::Messages(shard)),
            attempts: engine.log(Log::Attempts),
            queue: engine.queue(),
            cursors: engine.bucket(Bucket::Cursors),
            endpoints,
            ordering: Orders::new(engine),
        }
    }

    /// Matches until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken, health: Arc<Health>) {
        let mut episode = Episode::new(format!("matcher of {}", Log::Messages(self.shard)), health);
        while let Err(error) = self.follow(&stop, &mut episode).await {
            let wait = match error {
                MatchError::Cursor(CursorError::Overtaken) => OVERTAKEN_WAIT,
                error => episode.failed(&error),
            };
            if !pause(wait, &stop).await {
                return;
            }
        }
    }

    /// Follows from the cursor until something fails, or until told to stop.
    async fn follow(&self, stop: &CancellationToken, episode: &mut Episode) -> Result<(), MatchError> {
        let log = Log::Messages(self.shard);
        let mut cursor = Cursor::load(self.cursors.clone(), CURSOR, log).await?;
        let missed = cursor.check(self.messages.state().await?)?;
        if missed > 0 {
            tracing::error!(missed, %log, "Messages grew too old and were removed before they were matched.");
        }
        let records = self.messages.follow(cursor.at(), None).await?;
        let mut batches = records.ready_chunks(BATCH);
        while let Some(batch) = stop.run_until_cancelled(next(&mut batches, episode)).await {
            let batch: Vec<Record> = batch
                .ok_or(MatchError::Ended)?
                .into_iter()
                .collect::<Result<_, _>>()?;
            let Some(current) = stop.run_until_cancelled(self.endpoints.current(self.shard)).await else {
                return Ok(());
            };
            current?;
            self.make_deliveries(&batch, cursor.at()).await?;
            if let Some(last) = batch.last() {
                cursor.advance(last.sequence).await?;
            }
            episode.recovered();
        }
        Ok(())
    }

    async fn make_deliveries(&self, batch: &[Record], cursor: u64) -> Result<(), MatchError> {
        let mut plan = Plan::default();
        for record in batch {
            match Message::decode(&record.payload) {
                Ok(message) => {
                    for endpoint in self.endpoints.matching(self.shard, &message, record.stored_at) {
                        plan.add(self.planned(record, &message, endpoint));
                        if plan.planned.len() == MAX_APPEND {
                            self.store(std::mem::take(&mut plan), cursor).await?;
                        }
                    }
                }
                Err(error) => {
                    metrics::unreadable("MESSAGES");
                    tracing::error!(
                        sequence = record.sequence,
                        subject = %record.subject,
                        error = %in_full(&error),
                        "A message cannot be read and is delivered to nobody."
                    );
                }
            }
        }
        metrics::matched(batch.len(), 0);
        self.store(plan, cursor).await
    }

    fn planned(&self, record: &Record, message: &Message, endpoint: EndpointId) -> Planned {
        let known = self.endpoints.get(self.shard, &message.tenant, &endpoint);
        let ordering = known.and_then(|known| known.settings.policy.ordering.clone());
        Planned {
            work: self.work(record, message, &endpoint),
            key: ordering.and_then(|ordering| key_of(&ordering.key, message)),
            tenant: message.tenant.clone(),
            endpoint,
        }
    }

    fn work(&self, record: &Record, message: &Message, endpoint: &EndpointId) -> Work {
        Work {
            delivery: DeliveryId::derive(&message.tenant, &message.id, endpoint),
            message: MessageRef {
                id: message.id.clone(),
                event_type: message.event_type.clone(),
                position: Position {
                    source: Source::Messages,
                    shard: self.shard,
                    sequence: record.sequence,
                },
                published_at: Some(message.published_at),
            },
            run: 1,
            attempt: 1,
            trigger: Some(Trigger::message(message)),
            last_error: None,
            recovers: false,
            order: None,
        }
    }

    async fn store(&self, mut plan: Plan, cursor: u64) -> Result<(), MatchError> {
        if plan.planned.is_empty() {
            return Ok(());
        }
        self.give_places(&mut plan.planned, cursor).await?;
        let deliveries = plan.planned.len();
        let (mut records, mut jobs) = (Vec::with_capacity(deliveries), Vec::with_capacity(deliveries));
        for Planned {
            work,
            tenant,
            endpoint,
            ..
        } in plan.planned
        {
            let created = work.fact(&tenant, &endpoint, DeliveryFact::Created);
            records.push(new_record(&created, ""));
            jobs.push((work.job(work.delivery.as_str(), &tenant, &endpoint), None));
        }
        self.attempts.append(records).await?;
        self.queue.enqueue(jobs).await?;
        metrics::matched(0, deliveries);
        Ok(())
    }

    /// Gives each delivery of an order its place in it, before anybody can see it.
    async fn give_places(&self, planned: &mut [Planned], cursor: u64) -> Result<(), OrderError> {
        let mut keys: HashMap<(TenantId, EndpointId, String), Vec<usize>> = HashMap::new();
        for (index, planned) in planned.iter().enumerate() {
            if let Some(key) = planned.key.clone() {
                let of = (planned.tenant.clone(), planned.endpoint.clone(), key);
                keys.entry(of).or_default().push(index);
            }
        }
        let planned_before = &*planned;
        let placing = keys
            .into_iter()
            .map(|((tenant, endpoint, key), indexes)| async move {
                let number = |index: &usize| planned_before[*index].work.message.position.sequence;
                let numbers: Vec<u64> = indexes.iter().map(number).collect();
                let places = self.ordering.place(&tenant, &endpoint, &key, &numbers, cursor);
                let places = places.await?;
                Ok::<_, OrderError>((key, indexes, places))
            });
        let placed: Vec<_> = futures::stream::iter(placing)
            .buffer_unordered(PLACES_AT_ONCE)
            .try_collect()
            .await?;
        for (key, indexes, places) in placed {
            for (index, step) in indexes.into_iter().zip(places) {
                planned[index].work.order = step.map(|step| Order {
                    key: key.clone(),
                    step,
                });
            }
        }
        Ok(())
    }
}

/// A delivery about to be made.
#[derive(Debug)]
struct Planned {
    work: Work,
    tenant: TenantId,
    endpoint: EndpointId,
    /// The key of its order, if it has one.
    key: Option<String>,
}

/// Deliveries about to be made.
#[derive(Debug, Default)]
struct Plan {
    planned: Vec<Planned>,
    deliveries: HashSet<DeliveryId>,
}

impl Plan {
    /// Takes a delivery in, once: a client may use an event's id again after the log has forgotten it, and an append
    /// with the same record twice would be refused as a whole, again and again.
    fn add(&mut self, planned: Planned) {
        if self.deliveries.insert(planned.work.delivery.clone()) {
            self.planned.push(planned);
        }
    }
}
