//! From messages to deliveries: each message is matched against its tenant's endpoints, and each match becomes a
//! fact in the delivery log and a job in the queue.
//!
//! An endpoint whose creation was acknowledged before a message was published is always matched: the index is
//! brought up to the end of the log of events *after* the message was received. The cursor moves only when
//! everything of a batch is stored; what a crash repeats has the same ids and is recognised.

use std::collections::HashSet;
use std::sync::Arc;

use broker::layout::{Bucket, Log, Shard};
use broker::{
    AppendError, Engine, EventLog, Job, KeyValue, MAX_APPEND, NewRecord, QueueError, ReadError, Record,
    WorkQueue,
};
use domain::{DeliveryFact, DeliveryId, EndpointId, Message, MessageRef, Position, Source, Trigger};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::cursor::{Cursor, CursorError, OVERTAKEN_WAIT};
use crate::endpoints::Endpoints;
use crate::health::{Episode, Health, in_full, next, pause};
use crate::metrics;
use crate::work::{Work, new_record};

/// What its cursor goes by.
pub(crate) const CURSOR: &str = "matcher";

/// The most messages of a batch.
const BATCH: usize = 256;

#[derive(Debug, thiserror::Error)]
enum MatchError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Queue(#[from] QueueError),
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
            self.make_deliveries(&batch).await?;
            if let Some(last) = batch.last() {
                cursor.advance(last.sequence).await?;
            }
            episode.recovered();
        }
        Ok(())
    }

    async fn make_deliveries(&self, batch: &[Record]) -> Result<(), MatchError> {
        let mut plan = Plan::default();
        for record in batch {
            match Message::decode(&record.payload) {
                Ok(message) => {
                    for endpoint in self.endpoints.matching(self.shard, &message, record.stored_at) {
                        plan.add(&self.work(record, &message, &endpoint), &message, &endpoint);
                        if plan.records.len() == MAX_APPEND {
                            self.store(std::mem::take(&mut plan)).await?;
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
        self.store(plan).await
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
        }
    }

    async fn store(&self, plan: Plan) -> Result<(), MatchError> {
        if plan.records.is_empty() {
            return Ok(());
        }
        let deliveries = plan.records.len();
        self.attempts.append(plan.records).await?;
        let jobs = plan.jobs.into_iter().map(|job| (job, None)).collect();
        self.queue.enqueue(jobs).await?;
        metrics::matched(0, deliveries);
        Ok(())
    }
}

/// Deliveries about to be made.
#[derive(Debug, Default)]
struct Plan {
    records: Vec<NewRecord>,
    jobs: Vec<Job>,
    deliveries: HashSet<DeliveryId>,
}

impl Plan {
    /// Takes a delivery in, once: a client may use an event's id again after the log has forgotten it, and an append
    /// with the same record twice would be refused as a whole, again and again.
    fn add(&mut self, work: &Work, message: &Message, endpoint: &EndpointId) {
        if !self.deliveries.insert(work.delivery.clone()) {
            return;
        }
        let created = work.fact(&message.tenant, endpoint, DeliveryFact::Created);
        self.records.push(new_record(&created, ""));
        self.jobs
            .push(work.job(work.delivery.as_str(), &message.tenant, endpoint));
    }
}
