//! Clients that do not wait for each other: operations are sent when they are due, whether earlier ones are answered
//! or not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Query;
use crate::faults::client::{Caller, mark};
use crate::faults::dice::Dice;

/// How many operations may wait for an answer at once. More are not sent: a machine that had to keep those of a whole
/// silence would measure itself afterwards.
const WAITING: usize = 256;
/// How many clients there are when the maximum is measured.
const CLIENTS: usize = 64;
/// How many of the users registered last are renamed and asked for.
const KNOWN: usize = 200;

/// What a tenant's clients share.
#[derive(Debug)]
pub(super) struct Asker {
    caller: Caller,
    next: AtomicU64,
    known: Mutex<Vec<String>>,
    queries: Mutex<Vec<Query>>,
}

/// One thing to be asked for.
#[derive(Debug)]
enum Operation {
    Register { keyed: bool },
    Rename { user: u64, keyed: bool },
    Publish { keyed: bool },
    User { user: u64 },
    List(&'static str),
}

impl Operation {
    /// Seven of ten are commands, and of those a half publishes.
    fn draw(dice: &mut Dice) -> Self {
        let (kind, keyed, user) = (dice.number(0..20), dice.percent(50), dice.number(0..KNOWN as u64));
        match kind {
            0..=2 => Self::Register { keyed },
            3..=6 => Self::Rename { user, keyed },
            7..=13 => Self::Publish { keyed },
            14..=16 => Self::User { user },
            17..=18 => Self::List("/v1/users?limit=20"),
            _ => Self::List("/v1/events?limit=20"),
        }
    }
}

impl Asker {
    pub(super) fn new(caller: Caller) -> Self {
        Self {
            caller,
            next: AtomicU64::new(1),
            known: Mutex::default(),
            queries: Mutex::default(),
        }
    }

    /// Does one operation; whether it was answered as it should be is in what is taken down.
    async fn ask(&self, operation: Operation) {
        match operation {
            Operation::Register { keyed } => self.register(keyed).await,
            Operation::Rename { user, keyed } => match self.known(user) {
                Some(user) => self.caller.rename(&user, self.value(), keyed).await,
                None => self.register(keyed).await,
            },
            Operation::Publish { keyed } => {
                self.caller.publish(self.value(), keyed).await;
            }
            Operation::User { user } => match self.known(user) {
                Some(user) => self.query(&format!("/v1/users/{user}")).await,
                None => self.query("/v1/users?limit=20").await,
            },
            Operation::List(path) => self.query(path).await,
        }
    }

    fn value(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{}l-{number}", mark(&self.caller.tenant))
    }

    async fn register(&self, keyed: bool) {
        let Some(id) = self.caller.register(self.value(), keyed).await else {
            return;
        };
        let mut known = locked(&self.known);
        if known.len() == KNOWN {
            known.remove(0);
        }
        known.push(id);
    }

    fn known(&self, user: u64) -> Option<String> {
        let known = locked(&self.known);
        let place = usize::try_from(user).unwrap_or_default();
        known.get(place.checked_rem(known.len())?).cloned()
    }

    async fn query(&self, path: &str) {
        let at = self.caller.recorder.now();
        let url = format!("{}{path}", self.caller.address.borrow().as_str());
        let began = Instant::now();
        let answer = async {
            let call = self.caller.http.get(url).bearer_auth(&self.caller.key);
            let response = call.send().await.ok()?;
            // A user that was just registered may not be known to the read model yet.
            let answered = response.status().is_success() || response.status().as_u16() == 404;
            response.bytes().await.ok().filter(|_| answered)
        };
        let took = answer.await.map(|_| began.elapsed());
        locked(&self.queries).push(Query { at, took });
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Load that is offered until it is stopped.
#[derive(Debug)]
pub(super) struct Load {
    askers: Vec<Arc<Asker>>,
    stop: CancellationToken,
    /// Answers how many operations were due and not sent.
    driver: JoinHandle<anyhow::Result<u64>>,
}

impl Load {
    /// Offers so many operations a second, in turn to each tenant.
    pub(super) fn offer(askers: Vec<Arc<Asker>>, per_second: f64, seed: u64) -> Self {
        for asker in &askers {
            // What was measured before is another matter.
            locked(&asker.queries).clear();
        }
        let stop = CancellationToken::new();
        let interval = Duration::from_secs_f64(1.0 / per_second.max(1.0));
        let driver = tokio::spawn(offer(askers.clone(), interval, seed, stop.clone()));
        Self { askers, stop, driver }
    }

    /// Stops and waits for what is under way; answers the queries and how many operations were not sent.
    pub(super) async fn stop(self) -> anyhow::Result<(Vec<Query>, u64)> {
        self.stop.cancel();
        let skipped = self.driver.await??;
        let mut queries = Vec::new();
        for asker in &self.askers {
            queries.append(&mut locked(&asker.queries));
        }
        queries.sort_unstable_by_key(|query| query.at);
        Ok((queries, skipped))
    }
}

async fn offer(
    askers: Vec<Arc<Asker>>,
    interval: Duration,
    seed: u64,
    stop: CancellationToken,
) -> anyhow::Result<u64> {
    let mut dice = Dice::new(seed, "load");
    let room = Arc::new(Semaphore::new(WAITING));
    let mut due = tokio::time::interval(interval);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    let mut skipped = 0;
    for asker in askers.iter().cycle() {
        if stop.run_until_cancelled(due.tick()).await.is_none() {
            break;
        }
        let operation = Operation::draw(&mut dice);
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            skipped += 1;
            continue;
        };
        let asker = Arc::clone(asker);
        under_way.spawn(async move {
            asker.ask(operation).await;
            drop(permit);
        });
        while let Some(ended) = under_way.try_join_next() {
            ended?;
        }
    }
    while let Some(ended) = under_way.join_next().await {
        ended?;
    }
    Ok(skipped)
}

/// Lets clients do one operation after the other without a pause for a while; answers how many they did.
pub(super) async fn as_many_as_possible(
    askers: &[Arc<Asker>],
    time: Duration,
    seed: u64,
) -> anyhow::Result<u64> {
    let end = Instant::now() + time;
    let mut clients = JoinSet::new();
    for (client, asker) in (0..CLIENTS).zip(askers.iter().cycle()) {
        let (asker, mut dice) = (Arc::clone(asker), Dice::new(seed, &format!("maximum {client}")));
        clients.spawn(async move {
            let mut done = 0;
            while Instant::now() < end {
                asker.ask(Operation::draw(&mut dice)).await;
                done += 1;
            }
            done
        });
    }
    let mut done = 0;
    while let Some(client) = clients.join_next().await {
        done += client?;
    }
    Ok(done)
}
