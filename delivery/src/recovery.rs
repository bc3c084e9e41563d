//! Carries out recoveries: past messages, delivered to an endpoint that did not get them.
//!
//! What is wanted is decided on the aggregate ([`domain::recovery`]), which [`known`] follows. What was delivered is
//! asked of the delivery log ([`truth`]), window by window, so that memory stays bounded however many messages there
//! are. How far a recovery is is kept in the bucket of cursors ([`place`]) with every page, by compare-and-set, and told
//! to the aggregate now and then.
//!
//! A page may be done twice, by a process that died in the middle and the one that goes on, or by two at once. It does no
//! harm: the run has the request's sequence as its number, as redriving has, and facts and jobs of a page have ids that
//! follow from it; what a page finds tried already in that very run it leaves alone. The order within a page is facts,
//! jobs, and only then the dead letters that the jobs replace, so nothing is lost between them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use broker::layout::{Bucket, Log, Shard};
use broker::{AppendError, Cause, DeadLetters, Engine, EventLog, KeyValue, QueueError, ReadError, WorkQueue};
use domain::RecoveryId;
use domain::recovery::{Progress, Reason, RecoveryCommand, RecoveryEnd};
use domain::tenant::Standing;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cursor::CursorError;
use crate::endpoints::{Endpoint, Endpoints};
use crate::facts::{Fact, FactError, Facts, RECOVERY_FAILED};
use crate::health::{Episode, Health};

mod control;
mod known;
mod page;
mod place;
mod range;
mod truth;
mod window;

pub use control::RecoveryControl;
use known::{Known, Running};
use place::{HEARTBEAT, Place};
use window::Window;

/// How long the loop rests where nothing can be done and nobody decides anything.
const REST: Duration = Duration::from_millis(500);
/// How long a paused recovery is left alone; that it is resumed ends the rest.
const PAUSED: Duration = Duration::from_mins(1);
/// How old a request must be: a read of the log may be answered by a replica a moment behind.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// How often a recovery under way is told of.
const TOLD_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum RecoveryError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Cursor(#[from] CursorError),
    #[error(transparent)]
    Fact(#[from] FactError),
    #[error("how far a recovery is could not be told")]
    Untold(#[source] Cause),
}

/// Carries out the recoveries of one shard's tenants.
#[derive(Debug)]
pub(crate) struct Recoveries {
    shard: Shard,
    events: Arc<dyn EventLog>,
    messages: Arc<dyn EventLog>,
    attempts: Arc<dyn EventLog>,
    queue: Arc<dyn WorkQueue>,
    dead_letters: Arc<dyn DeadLetters>,
    cursors: Arc<dyn KeyValue>,
    endpoints: Arc<Endpoints>,
    facts: Arc<Facts>,
    control: Arc<dyn RecoveryControl>,
    /// Names this process to others that could work at the same.
    holder: String,
}

/// What this process has in hand of a recovery.
#[derive(Debug)]
struct Hand {
    place: Option<Place>,
    window: Option<Window>,
    /// Nothing is to be done before.
    rests_until: Instant,
    told: Option<Instant>,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There is more to do at once.
    On,
    /// There is nothing to do for a while.
    Rests(Duration),
    /// There will never be anything to do.
    Over,
}

impl Recoveries {
    pub(crate) fn new(
        engine: &dyn Engine,
        shard: Shard,
        endpoints: Arc<Endpoints>,
        facts: Arc<Facts>,
        control: Arc<dyn RecoveryControl>,
    ) -> Self {
        Self {
            shard,
            events: engine.log(Log::Events(shard)),
            messages: engine.log(Log::Messages(shard)),
            attempts: engine.log(Log::Attempts),
            queue: engine.queue(),
            dead_letters: engine.dead_letters(),
            cursors: engine.bucket(Bucket::Cursors),
            endpoints,
            facts,
            control,
            holder: format!("{:016x}", rand::random::<u64>()),
        }
    }

    /// Works until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken, health: Arc<Health>) {
        let known = Known::default();
        let following = known.follow(self.events.clone(), self.shard, &stop, health.clone());
        let episode = Episode::new(format!("recoveries of {}", Log::Messages(self.shard)), health);
        tokio::join!(following, self.work(&known, &stop, episode));
    }

    /// Takes a step of each recovery in turn, so that none waits for another's end.
    async fn work(&self, known: &Known, stop: &CancellationToken, mut episode: Episode) {
        let mut hands: HashMap<RecoveryId, Hand> = HashMap::new();
        while !stop.is_cancelled() {
            let (mut rest, mut well) = (REST, true);
            for running in known.all() {
                let hand = hands.entry(running.id.clone()).or_insert_with(Hand::new);
                if let Some(left) = hand.rests(&running) {
                    rest = rest.min(left);
                    continue;
                }
                match self.step(&running, hand).await {
                    Ok(Step::On) => rest = Duration::ZERO,
                    Ok(Step::Rests(wait)) => {
                        hand.rests_until = Instant::now() + wait;
                        rest = rest.min(wait);
                    }
                    Ok(Step::Over) => {
                        hands.remove(&running.id);
                        known.forget(&running.id);
                    }
                    // Another process works at it: from where that stands this one looks again.
                    Err(RecoveryError::Cursor(CursorError::Overtaken)) => *hand = Hand::resting(HEARTBEAT),
                    Err(error) => {
                        *hand = Hand::resting(episode.failed(&error));
                        well = false;
                    }
                }
                if stop.is_cancelled() {
                    return;
                }
            }
            if well {
                episode.recovered();
            }
            if rest > Duration::ZERO {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = known.changed() => {}
                    () = tokio::time::sleep(rest) => {}
                }
            }
        }
    }

    async fn step(&self, running: &Running, hand: &mut Hand) -> Result<Step, RecoveryError> {
        if running.recovery.end().is_some() {
            return self.clear_away(running, hand).await;
        }
        if running.recovery.is_paused() {
            return if self.takes(running, hand).await? {
                self.stand_still(running, hand, PAUSED).await
            } else {
                Ok(Step::Rests(HEARTBEAT))
            };
        }
        if let Some(wait) = unsettled(running) {
            return Ok(Step::Rests(wait));
        }
        match self.receiver(running).await? {
            Receiver::NotNow => self.stand_still(running, hand, REST).await,
            Receiver::There(endpoint) if self.holds(running, hand).await? => {
                self.go_on(running, hand, &endpoint).await
            }
            Receiver::Gone(why) if self.holds(running, hand).await? => {
                let progress = hand.place.as_ref().map(Place::progress).unwrap_or_default();
                let reason = Reason::new(why).map_err(|error| RecoveryError::Untold(error.into()))?;
                self.publish(running, RECOVERY_FAILED, progress, Some(why))
                    .await?;
                self.tell(running, RecoveryCommand::Fail { reason, progress })
                    .await?;
                Ok(Step::Rests(REST))
            }
            Receiver::There(_) | Receiver::Gone(_) => Ok(Step::Rests(HEARTBEAT)),
        }
    }

    /// Whether this process is the one to work at it: then it has the recovery's place in hand.
    async fn holds(&self, running: &Running, hand: &mut Hand) -> Result<bool, RecoveryError> {
        if !self.takes(running, hand).await? {
            return Ok(false);
        }
        if hand.place.is_none() {
            let range = self.range(running).await?;
            let place = Place::begin(self.cursors.clone(), running, range);
            hand.place.insert(place).save(&self.holder).await?;
        }
        Ok(true)
    }

    /// Takes the recovery's place in hand, if there is one; not if another process has it.
    async fn takes(&self, running: &Running, hand: &mut Hand) -> Result<bool, RecoveryError> {
        if hand.place.is_some() {
            return Ok(true);
        }
        let Some(mut place) = Place::load(self.cursors.clone(), running).await? else {
            return Ok(true);
        };
        if place.is_held_by_another(&self.holder) {
            return Ok(false);
        }
        place.save(&self.holder).await?;
        hand.place = Some(place);
        Ok(true)
    }

    /// Nothing goes on for now: how far it came is told exactly, and whoever goes on takes it from its place.
    async fn stand_still(
        &self,
        running: &Running,
        hand: &mut Hand,
        rest: Duration,
    ) -> Result<Step, RecoveryError> {
        hand.window = None;
        if let Some(place) = hand.place.take() {
            self.tell(running, RecoveryCommand::Report(place.progress()))
                .await?;
            place.release().await?;
        }
        Ok(Step::Rests(rest))
    }

    /// What a recovery that has ended leaves behind; of one that was cancelled it is told how far it came.
    async fn clear_away(&self, running: &Running, hand: &mut Hand) -> Result<Step, RecoveryError> {
        if !self.takes(running, hand).await? {
            return Ok(Step::Rests(HEARTBEAT));
        }
        if let Some(place) = hand.place.take() {
            if running.recovery.end() == Some(&RecoveryEnd::Cancelled) {
                self.tell(running, RecoveryCommand::Report(place.progress()))
                    .await?;
            }
            place.remove().await?;
        }
        Ok(Step::Over)
    }

    async fn receiver(&self, running: &Running) -> Result<Receiver, RecoveryError> {
        let find = || {
            self.endpoints
                .get(self.shard, &running.tenant, &running.plan.endpoint)
        };
        let mut found = find();
        if found.is_none() {
            self.endpoints.current(self.shard).await?;
            found = find();
        }
        let standing = self.endpoints.standing(&running.tenant);
        Ok(match (found, standing) {
            (_, Standing::Terminated(_)) => Receiver::Gone("the tenant was terminated"),
            (None, _) => Receiver::Gone("the endpoint was removed"),
            (Some(_), Standing::Suspended(_)) => Receiver::NotNow,
            (Some(endpoint), _) if !endpoint.enabled => Receiver::NotNow,
            (Some(endpoint), _) => Receiver::There(endpoint),
        })
    }

    async fn tell(&self, running: &Running, command: RecoveryCommand) -> Result<(), RecoveryError> {
        self.control
            .tell(&running.tenant, &running.id, command)
            .await
            .map_err(RecoveryError::Untold)
    }

    /// Publishes how a recovery ended, before the recovery itself is told: who ended in between does both again.
    async fn publish(
        &self,
        running: &Running,
        event_type: &'static str,
        progress: Progress,
        reason: Option<&str>,
    ) -> Result<(), RecoveryError> {
        let mut data = json!({
            "recovery": running.id,
            "endpoint": running.plan.endpoint,
            "scanned": progress.scanned,
            "matched": progress.matched,
            "enqueued": progress.enqueued,
            "at": progress.told_at,
        });
        if let Some(reason) = reason {
            data["reason"] = json!(reason);
        }
        let fact = Fact {
            tenant: &running.tenant,
            event_type,
            name: running.id.to_string(),
            data,
            trigger: Some(&running.trigger),
        };
        Ok(self.facts.publish(self.shard, fact).await?)
    }

    async fn tell_now_and_then(&self, running: &Running, hand: &mut Hand) -> Result<(), RecoveryError> {
        let told = hand.told.get_or_insert_with(Instant::now);
        if told.elapsed() < TOLD_EVERY {
            return Ok(());
        }
        *told = Instant::now();
        match &hand.place {
            Some(place) => {
                self.tell(running, RecoveryCommand::Report(place.progress()))
                    .await
            }
            None => Ok(()),
        }
    }
}

/// How long it is until every replica that may be asked has what was published when the recovery was asked for.
fn unsettled(running: &Running) -> Option<Duration> {
    let age = SystemTime::now()
        .duration_since(running.asked_at)
        .unwrap_or_default();
    SETTLED_AFTER
        .checked_sub(age)
        .filter(|wait| *wait > Duration::ZERO)
}

/// To whom a recovery delivers.
enum Receiver {
    There(Arc<Endpoint>),
    /// It is disabled, or its tenant suspended: it goes on when that is over.
    NotNow,
    Gone(&'static str),
}

impl Hand {
    fn new() -> Self {
        Self::resting(Duration::ZERO)
    }

    fn resting(wait: Duration) -> Self {
        Self {
            place: None,
            window: None,
            rests_until: Instant::now() + wait,
            told: None,
        }
    }

    /// How long there is nothing to do for; none where there may be something. What has ended or is resumed need not
    /// wait.
    fn rests(&self, running: &Running) -> Option<Duration> {
        let left = self.rests_until.checked_duration_since(Instant::now())?;
        (left > Duration::ZERO && !running.news).then_some(left)
    }
}
