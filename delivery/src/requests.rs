//! Carries out what was asked of endpoints' deliveries: redrive, discard, resend; and publishes that endpoints were
//! disabled and enabled.
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
//! * A redrive at a rate spreads its dead letters as due times in the queue ([`pace`](crate::pace)), which outlive every
//!   process.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker::layout::{Bucket, Log, Shard};
use broker::{
    AppendError, DeadLetter, DeadLetters, Engine, EventLog, KeyValue, QueueError, ReadError, Record,
    WorkQueue,
};
use domain::endpoint::{EndpointEvent, Matching, Rate, Selection};
use domain::{Commit, DeliveryFact, DeliveryId, EndpointId, TenantId, Timestamp, Trigger, decode_event};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cursor::{Cursor, CursorError, OVERTAKEN_WAIT};
use crate::endpoints;
use crate::facts::{ENDPOINT_DISABLED, ENDPOINT_ENABLED, Fact, FactError, Facts};
use crate::health::{Episode, Health, in_full, next, pause};
use crate::metrics;
use crate::ordering::{OrderError, Orders};
use crate::pace::Pace;
use crate::work::{Work, new_record, subject, token};

/// What its cursor goes by.
pub(crate) const CURSOR: &str = "requests";

/// What the pace of the redrive under way goes by.
const PACE: &str = "pace";

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
    Fact(#[from] FactError),
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error(transparent)]
    Cursor(#[from] CursorError),
    #[error("the log's stream of records ended")]
    Ended,
}

/// Carries out the requests of one shard's tenants.
#[derive(Debug)]
pub(crate) struct Requests {
    shard: Shard,
    facts: Arc<Facts>,
    events: Arc<dyn EventLog>,
    attempts: Arc<dyn EventLog>,
    queue: Arc<dyn WorkQueue>,
    dead_letters: Arc<dyn DeadLetters>,
    cursors: Arc<dyn KeyValue>,
    ordering: Orders,
}

/// Whose request, and the run it begins.
#[derive(Debug, Clone)]
struct Scope {
    tenant: TenantId,
    endpoint: EndpointId,
    run: u32,
    /// What asked for it.
    trigger: Trigger,
    /// When.
    at: Timestamp,
}

/// What to do with dead letters.
#[derive(Debug)]
enum Act {
    /// At once, or at a pace.
    Redrive(Option<Pace>),
    Discard,
}

/// Which dead letters of the endpoint are meant, made for many lookups.
#[derive(Debug)]
enum Selected<'s> {
    All,
    Deliveries(HashSet<&'s DeliveryId>),
    Matching(&'s Matching),
}

impl<'s> Selected<'s> {
    fn new(selection: &'s Selection) -> Self {
        match selection {
            Selection::All => Self::All,
            Selection::Deliveries(list) => Self::Deliveries(list.iter().collect()),
            Selection::Matching(matching) => Self::Matching(matching),
        }
    }

    fn holds(&self, letter: &DeadLetter, work: &Work) -> bool {
        match self {
            Self::All => true,
            Self::Deliveries(wanted) => wanted.contains(&work.delivery),
            Self::Matching(matching) => {
                matching.matches(&work.message.event_type, letter.since.into(), work.last_error)
            }
        }
    }
}

impl Requests {
    pub(crate) fn new(engine: &dyn Engine, shard: Shard, facts: Arc<Facts>) -> Self {
        Self {
            shard,
            facts,
            events: engine.log(Log::Events(shard)),
            attempts: engine.log(Log::Attempts),
            queue: engine.queue(),
            dead_letters: engine.dead_letters(),
            cursors: engine.bucket(Bucket::Cursors),
            ordering: Orders::new(engine),
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
                EndpointEvent::RedriveRequested { selection, rate } => {
                    settled(record).await;
                    let pace = match rate {
                        Some(rate) => Some(self.pace(record.sequence, rate).await?),
                        None => None,
                    };
                    self.for_each(&scope, &selection, Act::Redrive(pace)).await?;
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
                        last_error: None,
                        recovers: false,
                        order: None,
                    };
                    self.resend(&scope, &work).await?;
                    true
                }
                EndpointEvent::Disabled { reason, automatic } => {
                    let why = json!({ "reason": reason, "automatic": automatic });
                    self.tell(record, &scope, ENDPOINT_DISABLED, why).await?;
                    true
                }
                EndpointEvent::Enabled {} => {
                    self.tell(record, &scope, ENDPOINT_ENABLED, json!({})).await?;
                    true
                }
                _ => false,
            };
        }
        Ok(asked)
    }

    /// Publishes what happened to an endpoint, for the others.
    async fn tell(
        &self,
        record: &Record,
        scope: &Scope,
        event_type: &'static str,
        mut data: Value,
    ) -> Result<(), RequestError> {
        data["endpoint"] = json!(scope.endpoint);
        data["at"] = json!(scope.at);
        let fact = Fact {
            tenant: &scope.tenant,
            event_type,
            name: format!("{}:{}", Log::Events(self.shard), record.sequence),
            data,
            trigger: Some(&scope.trigger),
        };
        Ok(self.facts.publish(self.shard, fact).await?)
    }

    async fn pace(&self, sequence: u64, rate: Rate) -> Result<Pace, RequestError> {
        let key = subject(format!("{PACE}.{}", Log::Events(self.shard)));
        Ok(Pace::load(self.cursors.clone(), key, sequence, rate).await?)
    }

    /// Acts on the selected dead letters of the endpoint, page by page.
    async fn for_each(&self, scope: &Scope, selection: &Selection, mut act: Act) -> Result<(), RequestError> {
        let selected = Selected::new(selection);
        let (tenant, lane) = (token(scope.tenant.as_str()), token(scope.endpoint.as_str()));
        let mut after = 0;
        loop {
            let page = self.dead_letters.list(&tenant, Some(&lane), after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.cursor;
            let mut meant = Vec::new();
            for letter in page {
                match Work::decode(&letter.job.payload) {
                    Ok(work) if work.run < scope.run && selected.holds(&letter, &work) => {
                        meant.push((letter, work));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::error!(job = %letter.job.id, %error, "A dead letter cannot be read and stays.");
                    }
                }
            }
            if let Act::Redrive(Some(pace)) = &mut act {
                pace.reserve(meant.len()).await?;
            }
            for (letter, work) in meant {
                self.act(scope, letter, work, &mut act).await?;
            }
        }
    }

    async fn act(
        &self,
        scope: &Scope,
        letter: DeadLetter,
        mut work: Work,
        act: &mut Act,
    ) -> Result<(), RequestError> {
        let job = letter.job;
        work.trigger = Some(scope.trigger.clone());
        match act {
            Act::Redrive(pace) => {
                work.run = scope.run;
                work.attempt = 1;
                work.last_error = None;
                work.recovers = true;
                let due = pace.as_mut().map(Pace::next);
                self.note(scope, &work, DeliveryFact::Redriven).await?;
                let payload = Some(work.encode());
                self.dead_letters
                    .redrive(&job.tenant, &job.lane, &job.id, payload, due)
                    .await?;
            }
            Act::Discard => {
                self.note(scope, &work, DeliveryFact::Discarded).await?;
                if let Some(order) = &work.order {
                    self.ordering
                        .give_up(&scope.tenant, &scope.endpoint, order)
                        .await?;
                }
                self.dead_letters.discard(&job.tenant, &job.lane, &job.id).await?;
            }
        }
        Ok(())
    }

    /// A dead letter is redriven; for everything else there is a job beside the delivery's own, which may be
    /// waiting, or have ended a moment ago, when the queue takes no job of the same id.
    async fn resend(&self, scope: &Scope, work: &Work) -> Result<(), RequestError> {
        self.note(scope, work, DeliveryFact::Redriven).await?;
        let dead = Work {
            recovers: true,
            ..work.clone()
        };
        let job = dead.job(work.delivery.as_str(), &scope.tenant, &scope.endpoint);
        let was_dead = self
            .dead_letters
            .redrive(&job.tenant, &job.lane, &job.id, Some(job.payload.clone()), None)
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
        at: commit.meta.at,
    };
    let events = commit.events.iter().map(decode_event);
    Ok((scope, events.collect::<Result<_, _>>()?))
}
