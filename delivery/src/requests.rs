//! Carries out what was asked of endpoints' deliveries: redrive, discard, resend.
//!
//! A request is an event of the endpoint; its cursor moves only when it is carried out, so a crash repeats it,
//! and repeating must do no harm:
//!
//! * The run that a request begins has the request's sequence in the log of events as its number. Sequences only
//!   grow, and an endpoint's creation stands before every request about it, so each run is greater than 1 and than
//!   every run before, without reading what went before. (Numbers past 2³² all become the greatest there is.)
//! * A dead letter whose run is not below the request's number died after the request was carried out, or by it:
//!   it is passed over.
//! * The fact goes to the delivery log first, the queue is told second; both recognise a repetition.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker::layout::{Bucket, Log, Shard};
use broker::{
    AppendError, DeadLetter, DeadLetters, Engine, EventLog, KeyValue, QueueError, ReadError, Record,
    WorkQueue,
};
use domain::endpoint::{EndpointEvent, Selection};
use domain::{Commit, DeliveryFact, DeliveryId, EndpointId, TenantId, Trigger, decode_event};
use tokio_util::sync::CancellationToken;

use crate::cursor::{Cursor, CursorError, OVERTAKEN_WAIT};
use crate::endpoints;
use crate::health::{Episode, Health, in_full, next, pause};
use crate::metrics;
use crate::work::{Work, new_record, token};

/// What its cursor goes by.
pub(crate) const CURSOR: &str = "requests";

/// How old a request about dead letters must be. A worker records that a delivery is dead, then tells the queue: who
/// reads the record and asks at once must not find the dead letter still on its way.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
const PAGE: usize = 200;
/// After how many other events of endpoints the cursor moves although nothing was asked.
const IDLE_EVENTS: u64 = 1_000;

#[derive(Debug, thiserror::Error)]
enum RequestError {
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

/// Carries out the requests of one shard's tenants.
#[derive(Debug)]
pub(crate) struct Requests {
    shard: Shard,
    events: Arc<dyn EventLog>,
    attempts: Arc<dyn EventLog>,
    queue: Arc<dyn WorkQueue>,
    dead_letters: Arc<dyn DeadLetters>,
    cursors: Arc<dyn KeyValue>,
}

/// Whose request, and the run it begins.
#[derive(Debug, Clone)]
struct Scope {
    tenant: TenantId,
    endpoint: EndpointId,
    run: u32,
    /// What asked for it.
    trigger: Trigger,
}

/// What to do with a dead letter.
#[derive(Debug, Clone, Copy)]
enum Act {
    Redrive,
    Discard,
}

impl Requests {
    pub(crate) fn new(engine: &dyn Engine, shard: Shard) -> Self {
        Self {
            shard,
            events: engine.log(Log::Events(shard)),
            attempts: engine.log(Log::Attempts),
            queue: engine.queue(),
            dead_letters: engine.dead_letters(),
            cursors: engine.bucket(Bucket::Cursors),
        }
    }

    /// Carries requests out until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken, health: Arc<Health>) {
        let part = format!("requests in {}", Log::Events(self.shard));
        let mut episode = Episode::new(part, health);
        let mut going = true;
        while going {
            // Stopping in the middle of a request is as harmless as a crash there.
            let ended = stop.run_until_cancelled(self.follow(&mut episode)).await;
            going = match ended {
                Some(RequestError::Cursor(CursorError::Overtaken)) => pause(OVERTAKEN_WAIT, &stop).await,
                Some(error) => pause(episode.failed(&error), &stop).await,
                None => false,
            };
        }
    }

    async fn follow(&self, episode: &mut Episode) -> RequestError {
        match self.follow_until_failure(episode).await {
            Ok(()) => RequestError::Ended,
            Err(error) => error,
        }
    }

    async fn follow_until_failure(&self, episode: &mut Episode) -> Result<(), RequestError> {
        let log = Log::Events(self.shard);
        let mut cursor = Cursor::load(self.cursors.clone(), CURSOR, log).await?;
        cursor.check(self.events.state().await?)?;
        let filter = Some(endpoints::filter());
        let mut records = self.events.follow(cursor.at(), filter).await?;
        let mut idle = 0;
        while let Some(record) = next(&mut records, episode).await {
            let record = record?;
            idle += 1;
            if self.carry_out(&record).await? || idle == IDLE_EVENTS {
                cursor.advance(record.sequence).await?;
                idle = 0;
            }
            episode.recovered();
        }
        Ok(())
    }

    /// Whether the record asked for anything.
    async fn carry_out(&self, record: &Record) -> Result<bool, RequestError> {
        let (scope, events) = match read(record) {
            Ok(read) => read,
            Err(error) => {
                metrics::unreadable("EVENTS");
                let (sequence, error) = (record.sequence, in_full(error.as_ref()));
                tracing::error!(sequence, %error, "An endpoint's event cannot be read; it is not acted on.");
                return Ok(false);
            }
        };
        let mut asked = false;
        for event in events {
            asked |= match event {
                EndpointEvent::RedriveRequested { selection } => {
                    settled(record).await;
                    self.for_each(&scope, &selection, Act::Redrive).await?;
                    true
                }
                EndpointEvent::DiscardRequested { selection } => {
                    settled(record).await;
                    self.for_each(&scope, &selection, Act::Discard).await?;
                    true
                }
                EndpointEvent::ResendRequested { delivery, message } => {
                    let (run, attempt) = (scope.run, 1);
                    let work = Work {
                        delivery,
                        message,
                        run,
                        attempt,
                        trigger: Some(scope.trigger.clone()),
                    };
                    self.resend(&scope, &work).await?;
                    true
                }
                _ => false,
            };
        }
        Ok(asked)
    }

    /// Acts on the selected dead letters of the endpoint, page by page.
    async fn for_each(&self, scope: &Scope, selection: &Selection, act: Act) -> Result<(), RequestError> {
        let wanted: Option<HashSet<&DeliveryId>> = match selection {
            Selection::All => None,
            Selection::Deliveries(list) => Some(list.iter().collect()),
        };
        let (tenant, lane) = (token(scope.tenant.as_str()), token(scope.endpoint.as_str()));
        let mut after = 0;
        loop {
            let page = self.dead_letters.list(&tenant, Some(&lane), after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.cursor;
            for letter in page {
                let work = match Work::decode(&letter.job.payload) {
                    Ok(work) => work,
                    Err(error) => {
                        tracing::error!(job = %letter.job.id, %error, "A dead letter cannot be read and stays.");
                        continue;
                    }
                };
                let selected = wanted
                    .as_ref()
                    .is_none_or(|wanted| wanted.contains(&work.delivery));
                if selected && work.run < scope.run {
                    self.act(scope, letter, work, act).await?;
                }
            }
        }
    }

    async fn act(
        &self,
        scope: &Scope,
        letter: DeadLetter,
        mut work: Work,
        act: Act,
    ) -> Result<(), RequestError> {
        let job = letter.job;
        work.trigger = Some(scope.trigger.clone());
        match act {
            Act::Redrive => {
                work.run = scope.run;
                work.attempt = 1;
                self.note(scope, &work, DeliveryFact::Redriven).await?;
                let payload = Some(work.encode());
                self.dead_letters
                    .redrive(&job.tenant, &job.lane, &job.id, payload)
                    .await?;
            }
            Act::Discard => {
                self.note(scope, &work, DeliveryFact::Discarded).await?;
                self.dead_letters.discard(&job.tenant, &job.lane, &job.id).await?;
            }
        }
        Ok(())
    }

    /// A dead letter is redriven; for everything else there is a job beside the delivery's own, which may be
    /// waiting, or have ended a moment ago, when the queue takes no job of the same id.
    async fn resend(&self, scope: &Scope, work: &Work) -> Result<(), RequestError> {
        self.note(scope, work, DeliveryFact::Redriven).await?;
        let job = work.job(work.delivery.as_str(), &scope.tenant, &scope.endpoint);
        let was_dead = self
            .dead_letters
            .redrive(&job.tenant, &job.lane, &job.id, Some(job.payload.clone()))
            .await?;
        if !was_dead {
            let id = format!("{}-{}", work.delivery, work.run);
            let beside = work.job(&id, &scope.tenant, &scope.endpoint);
            self.queue.enqueue(vec![(beside, None)]).await?;
        }
        Ok(())
    }

    async fn note(&self, scope: &Scope, work: &Work, fact: DeliveryFact) -> Result<(), RequestError> {
        let record = work.fact(&scope.tenant, &scope.endpoint, fact);
        self.attempts.append(vec![new_record(&record, "")]).await?;
        Ok(())
    }
}

/// Waits until the request is of the age it must be; never longer than that, should the log's clock be ahead.
async fn settled(record: &Record) {
    let age = SystemTime::now()
        .duration_since(record.stored_at)
        .unwrap_or_default();
    tokio::time::sleep(SETTLED_AFTER.saturating_sub(age)).await;
}

fn read(record: &Record) -> Result<(Scope, Vec<EndpointEvent>), Box<dyn std::error::Error + Send + Sync>> {
    let commit = Commit::decode(&record.payload)?;
    let scope = Scope {
        tenant: commit.tenant,
        endpoint: commit.id.parse()?,
        run: u32::try_from(record.sequence).unwrap_or(u32::MAX),
        trigger: Trigger::command(&commit.meta),
    };
    let events = commit.events.iter().map(decode_event);
    Ok((scope, events.collect::<Result<_, _>>()?))
}
