//! Jobs and dead letters in memory.
//!
//! A job is free once its time has come: its due time while it waits, its lease's end while it is leased.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use broker::{DeadLetter, Job, Settlement, Token};
use tokio::sync::Notify;

use super::{Clock, lock};

/// How long an id that was enqueued is remembered.
const REMEMBERED: Duration = Duration::from_mins(2);

/// All of them.
#[derive(Debug)]
pub struct Jobs {
    pub(super) clock: Clock,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    jobs: BTreeMap<String, Held>,
    recent: BTreeMap<String, SystemTime>,
    letters: BTreeMap<u64, DeadLetter>,
    next_cursor: u64,
    next_token: u64,
}

/// A job and whose it is just now.
#[derive(Debug, Clone)]
struct Held {
    job: Job,
    free_at: SystemTime,
    token: Option<u64>,
    times: u32,
}

/// A job that was just leased.
pub(super) struct Leased {
    pub(super) job: Job,
    pub(super) times: u32,
    pub(super) expires: SystemTime,
    pub(super) token: u64,
}

impl Jobs {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(super) fn changed(&self) -> &Notify {
        &self.changed
    }

    pub(super) fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// Every job there is, in the order of ids.
    pub fn all(&self) -> Vec<Job> {
        lock(&self.state)
            .jobs
            .values()
            .map(|held| held.job.clone())
            .collect()
    }

    /// Every dead letter there is, oldest first.
    pub fn letters(&self) -> Vec<DeadLetter> {
        lock(&self.state).letters.values().cloned().collect()
    }

    pub(super) fn enqueue(&self, jobs: Vec<(Job, Option<SystemTime>)>) {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        for (job, due) in jobs {
            let id = job.id.to_string();
            let recent = state.recent.get(&id);
            if recent.is_some_and(|at| *at + REMEMBERED > now) || state.jobs.contains_key(&id) {
                continue;
            }
            state.recent.insert(id.clone(), now);
            state
                .jobs
                .insert(id, Held::waiting(job, due.unwrap_or(now).max(now)));
        }
        drop(state);
        self.wake();
    }

    /// Leases free jobs, the longest free first, and tells when the next becomes free.
    pub(super) fn lease(&self, max: usize, lease: Duration) -> (Vec<Leased>, Option<SystemTime>) {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let mut free: Vec<(SystemTime, String)> = state
            .jobs
            .iter()
            .filter(|(_, held)| held.free_at <= now)
            .map(|(id, held)| (held.free_at, id.clone()))
            .collect();
        free.sort();
        free.truncate(max);
        let mut leased = Vec::with_capacity(free.len());
        for (_, id) in free {
            state.next_token += 1;
            let token = state.next_token;
            let Some(held) = state.jobs.get_mut(&id) else {
                continue;
            };
            held.token = Some(token);
            held.times += 1;
            held.free_at = now + lease;
            leased.push(Leased {
                job: held.job.clone(),
                times: held.times,
                expires: held.free_at,
                token,
            });
        }
        let next = state.jobs.values().map(|held| held.free_at).min();
        (leased, next)
    }

    /// Starts a lease anew; none where it is lost.
    pub(super) fn extend(&self, id: &Token, token: u64, lease: Duration) -> Option<SystemTime> {
        let until = self.clock.now() + lease;
        let mut state = lock(&self.state);
        state.held(id, token)?.free_at = until;
        Some(until)
    }

    /// Ends a lease; whether it was still held.
    pub(super) fn settle(&self, id: &Token, token: u64, settlement: Settlement) -> bool {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let Some(held) = state.held(id, token) else {
            return false;
        };
        match settlement {
            Settlement::Done => {
                state.jobs.remove(id.as_str());
            }
            Settlement::Again { due, payload } => {
                held.job.payload = payload;
                *held = Held::waiting(held.job.clone(), due);
            }
            Settlement::Dead { payload } => {
                let mut job = held.job.clone();
                job.payload = payload;
                state.jobs.remove(id.as_str());
                state.bury(job, now);
            }
        }
        drop(state);
        self.wake();
        true
    }

    /// Makes a job due that waits for its time; whether one did.
    pub(super) fn hasten(&self, tenant: &Token, lane: &Token, id: &Token) -> bool {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let found = state.jobs.get_mut(id.as_str()).filter(|held| {
            held.job.tenant == *tenant && held.job.lane == *lane && held.token.is_none() && held.free_at > now
        });
        let hastened = found.map(|held| held.free_at = now).is_some();
        drop(state);
        self.wake();
        hastened
    }

    /// Puts a letter back into the queue; whether there was one.
    pub(super) fn redrive(
        &self,
        (tenant, lane, id): (&Token, &Token, &Token),
        payload: Option<bytes::Bytes>,
        due: Option<SystemTime>,
    ) -> bool {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let Some(letter) = state.unbury(tenant, lane, id) else {
            return false;
        };
        let mut job = letter.job;
        job.payload = payload.unwrap_or(job.payload);
        // Where a job of that id waits again already, it does what the redrive is for.
        state
            .jobs
            .entry(id.to_string())
            .or_insert_with(|| Held::waiting(job, due.unwrap_or(now)));
        state.recent.insert(id.to_string(), now);
        drop(state);
        self.wake();
        true
    }

    /// Removes a letter; whether there was one.
    pub(super) fn discard(&self, tenant: &Token, lane: &Token, id: &Token) -> bool {
        lock(&self.state).unbury(tenant, lane, id).is_some()
    }
}

impl State {
    fn held(&mut self, id: &Token, token: u64) -> Option<&mut Held> {
        self.jobs
            .get_mut(id.as_str())
            .filter(|held| held.token == Some(token))
    }

    fn bury(&mut self, job: Job, since: SystemTime) {
        self.unbury(&job.tenant, &job.lane, &job.id);
        self.next_cursor += 1;
        let cursor = self.next_cursor;
        self.letters.insert(cursor, DeadLetter { job, since, cursor });
    }

    fn unbury(&mut self, tenant: &Token, lane: &Token, id: &Token) -> Option<DeadLetter> {
        let same = |letter: &Job| letter.tenant == *tenant && letter.lane == *lane && letter.id == *id;
        let cursor = self
            .letters
            .iter()
            .find_map(|(cursor, letter)| same(&letter.job).then_some(*cursor))?;
        self.letters.remove(&cursor)
    }
}

impl Held {
    fn waiting(job: Job, free_at: SystemTime) -> Self {
        Self {
            job,
            free_at,
            token: None,
            times: 0,
        }
    }
}
