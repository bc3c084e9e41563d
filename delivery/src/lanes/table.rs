//! All lanes, and the tries they share. Knows no clock: every call says what time it is.
//!
//! A try begins in one of two pools. Quick lanes share `tries`; a try that turns out to last moves over to the pool of
//! `slow` ones, where lanes known to be slow begin at once. So whoever hangs or drips holds a try of the quick for
//! half a second, and then sits among his like. A lane of which nothing is known yet is asked with one try, and
//! all of them together may hold half of the quick tries: however many of them hang, the other half is for those that
//! have proved quick.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use broker::Token;

use super::breaker::Probe;
use super::lane::{Hindrance, Lane, Ticket};
use super::pace::Speed;
use super::ring::Ring;
use super::rules::LaneRules;
use super::{Away, Verdict, Why};

/// How long a job may wait before its lane.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// Below this many lanes nobody looks for unused ones.
const SWEEP_FROM: usize = 1_024;
/// A slow lane may hold one in so many of the slow tries that are free.
const SLOW_SHARE: u32 = 8;

/// How much one process does at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Tries that have not lasted.
    pub(super) tries: u32,
    /// Tries that last.
    pub(super) slow: u32,
    /// Jobs that wait before their lanes.
    pub(super) waiting: usize,
}

/// A job that has come to its lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entrant<'a> {
    pub(crate) tenant: &'a Token,
    pub(crate) lane: &'a Token,
    pub(crate) rules: LaneRules,
    /// It has been tried before.
    pub(crate) retry: bool,
}

/// A try that may begin: which pool it is counted in, and whether the breaker looks at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pool: Speed,
    probe: Probe,
}

/// What a job that came is told.
#[derive(Debug)]
pub(super) enum Word {
    /// A try in this lane may begin.
    Enter(Token, Grant),
    /// No try now.
    Leave(Away),
}

#[derive(Debug)]
pub(super) struct Table {
    limits: Limits,
    lanes: HashMap<Token, Lane>,
    /// Lanes that could begin a try, by what is known of their speed.
    unknown: Ring,
    quick: Ring,
    slow: Ring,
    /// Tries under way that have not lasted, those of them in lanes of unknown speed, and those that have.
    young: u32,
    unproved: u32,
    lasting: u32,
    waiting: usize,
    waiting_by_tenant: HashMap<Token, usize>,
    next_ticket: Ticket,
    said: Vec<(Ticket, Word)>,
    open: usize,
    sweep_at: usize,
}

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            lanes: HashMap::new(),
            unknown: Ring::default(),
            quick: Ring::default(),
            slow: Ring::default(),
            young: 0,
            unproved: 0,
            lasting: 0,
            waiting: 0,
            waiting_by_tenant: HashMap::new(),
            next_ticket: 0,
            said: Vec::new(),
            open: 0,
            sweep_at: SWEEP_FROM,
        }
    }

    /// A job comes to its lane. What it is told is among [`Table::said`], at once or later.
    pub(super) fn arrive(&mut self, entrant: Entrant<'_>, now: Instant) -> Ticket {
        self.sweep(now);
        self.next_ticket += 1;
        let (ticket, name) = (self.next_ticket, entrant.lane);
        let lane = self
            .lanes
            .entry(name.clone())
            .or_insert_with(|| Lane::new(entrant.tenant.clone(), entrant.rules, now));
        lane.rules = entrant.rules;
        lane.waiting.insert((entrant.retry, ticket));
        self.waiting += 1;
        *self.waiting_by_tenant.entry(entrant.tenant.clone()).or_default() += 1;
        let speed = lane.speed();
        if self.has_room(speed) || self.may_wait(name) {
            self.line_up(name, now);
            self.draw(now);
        }
        if self.is_waiting(name, ticket) && !self.may_wait(name) {
            let leaves = self.who_leaves(name, ticket);
            self.leave(name, leaves, now);
        }
        ticket
    }

    /// A job has waited for long enough: unless it was told something, it goes.
    pub(super) fn give_up(&mut self, name: &Token, ticket: Ticket, now: Instant) {
        if self.is_waiting(name, ticket) {
            self.leave(name, ticket, now);
        }
    }

    /// Looks whether a lane can go on; answers when to look again, if its rate is all that hinders it.
    pub(super) fn look(&mut self, name: &Token, now: Instant) -> Option<Instant> {
        self.line_up(name, now);
        self.draw(now);
        let share = self.share(name);
        let lane = self.lanes.get_mut(name)?;
        match lane.hindrance(share, now) {
            Some(Hindrance::Rate(next)) => Some(next),
            _ => None,
        }
    }

    /// A try lasts: it is counted among its like from now on.
    pub(super) fn lasts(&mut self, name: &Token, grant: &mut Grant, now: Instant) {
        if grant.pool == Speed::Slow {
            return;
        }
        self.uncount(grant.pool);
        grant.pool = Speed::Slow;
        self.count(Speed::Slow);
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.lasts();
        }
        self.draw(now);
    }

    /// A try has ended, or was not made after all. Answers whether its lane is open since.
    pub(super) fn end(
        &mut self,
        name: &Token,
        grant: Grant,
        verdict: Verdict,
        took: Option<Duration>,
        now: Instant,
    ) -> bool {
        self.uncount(grant.pool);
        let mut opened = false;
        if let Some(lane) = self.lanes.get_mut(name) {
            let before = lane.is_open();
            opened = lane.end(grant.probe, verdict, took, now);
            match (before, lane.is_open()) {
                (false, true) => self.open += 1,
                (true, false) => self.open = self.open.saturating_sub(1),
                _ => {}
            }
        }
        self.line_up(name, now);
        self.draw(now);
        opened
    }

    /// What jobs were told since this was asked last.
    pub(super) fn said(&mut self) -> Vec<(Ticket, Word)> {
        std::mem::take(&mut self.said)
    }

    /// Jobs that wait, tries that last, and lanes whose breaker is not closed.
    pub(super) fn figures(&self) -> (usize, u32, usize) {
        (self.waiting, self.lasting, self.open)
    }

    /// Puts a lane among those that could begin a try, or sends everybody away who waits before a closed one.
    fn line_up(&mut self, name: &Token, now: Instant) {
        let share = self.share(name);
        let Some(lane) = self.lanes.get_mut(name) else {
            return;
        };
        if lane.lined_up || lane.waiting.is_empty() {
            return;
        }
        match lane.hindrance(share, now) {
            None => {
                lane.lined_up = true;
                let (tenant, speed) = (lane.tenant.clone(), lane.speed());
                self.ring(speed).push(&tenant, name.clone());
            }
            Some(Hindrance::Full | Hindrance::Rate(_)) => {}
            Some(Hindrance::Open(_) | Hindrance::Resting(_)) => {
                let all: Vec<Ticket> = lane.waiting.iter().map(|(_, ticket)| *ticket).collect();
                for ticket in all {
                    self.leave(name, ticket, now);
                }
            }
        }
    }

    /// Begins tries for as long as there is room for one.
    fn draw(&mut self, now: Instant) {
        while let Some((name, pool)) = self.next_lane() {
            let share = self.share(&name);
            let Some(lane) = self.lanes.get_mut(&name) else {
                continue;
            };
            lane.lined_up = false;
            if lane.speed() == pool
                && lane.hindrance(share, now).is_none()
                && let Some((ticket, probe)) = lane.let_in(now)
            {
                let tenant = lane.tenant.clone();
                self.waits_no_more(&tenant);
                self.count(pool);
                self.said
                    .push((ticket, Word::Enter(name.clone(), Grant { pool, probe })));
            }
            self.line_up(&name, now);
        }
    }

    /// The lane whose turn it is, of those for which there is room.
    fn next_lane(&mut self) -> Option<(Token, Speed)> {
        for speed in [Speed::Unknown, Speed::Quick, Speed::Slow] {
            if self.has_room(speed)
                && let Some(lane) = self.ring(speed).pop()
            {
                return Some((lane, speed));
            }
        }
        None
    }

    /// Whether this process may begin one more try in a lane of this speed.
    fn has_room(&self, speed: Speed) -> bool {
        // Those that last and find no room among their like take it from the quick.
        let beyond = self.lasting.saturating_sub(self.limits.slow);
        let any = self.young + beyond < self.limits.tries;
        match speed {
            Speed::Unknown => any && self.unproved + beyond < (self.limits.tries / 2).max(1),
            Speed::Quick => any,
            Speed::Slow => self.lasting < self.limits.slow,
        }
    }

    /// How many tries of a lane there may be at once beside its own limit: one that is not known yet is asked once, and
    /// of the slow tries nobody gets all.
    fn share(&self, name: &Token) -> u32 {
        match self.lanes.get(name).map(Lane::speed) {
            Some(Speed::Slow) => (self.limits.slow.saturating_sub(self.lasting) / SLOW_SHARE).max(1),
            Some(Speed::Unknown) => 1,
            Some(Speed::Quick) | None => u32::MAX,
        }
    }

    /// Whether one more may wait before a lane: where it can expect its turn within a moment, and its tenant has no
    /// more waiting than there is room left for others. However many tenants crowd, some room is always left.
    fn may_wait(&self, name: &Token) -> bool {
        let Some(lane) = self.lanes.get(name) else {
            return false;
        };
        let of_tenant = self.waiting_by_tenant.get(&lane.tenant).copied().unwrap_or(0);
        lane.speed() != Speed::Slow
            && lane.backlog() <= PATIENCE
            && of_tenant <= self.limits.waiting.saturating_sub(self.waiting)
    }

    /// Who goes where there is no room: the last retry before a first attempt, else who came.
    fn who_leaves(&self, name: &Token, came: Ticket) -> Ticket {
        let last = self.lanes.get(name).and_then(|lane| lane.waiting.last());
        last.filter(|(retry, _)| *retry)
            .map_or(came, |(_, ticket)| *ticket)
    }

    fn leave(&mut self, name: &Token, ticket: Ticket, now: Instant) {
        let share = self.share(name);
        let Some(lane) = self.lanes.get_mut(name) else {
            return;
        };
        if !lane.waiting.remove(&(false, ticket)) {
            lane.waiting.remove(&(true, ticket));
        }
        let hindrance = lane.hindrance(share, now);
        let wait = lane.send_away(hindrance, now);
        let why = match hindrance {
            Some(Hindrance::Open(_)) => Why::Open,
            Some(Hindrance::Resting(_)) => Why::Resting,
            Some(Hindrance::Full) => Why::Full,
            Some(Hindrance::Rate(_)) => Why::Rate,
            None => Why::Busy,
        };
        let tenant = lane.tenant.clone();
        self.waits_no_more(&tenant);
        self.said.push((ticket, Word::Leave(Away { wait, why })));
    }

    fn is_waiting(&self, name: &Token, ticket: Ticket) -> bool {
        let waits =
            |lane: &Lane| lane.waiting.contains(&(false, ticket)) || lane.waiting.contains(&(true, ticket));
        self.lanes.get(name).is_some_and(waits)
    }

    fn waits_no_more(&mut self, tenant: &Token) {
        self.waiting = self.waiting.saturating_sub(1);
        if let Some(of_tenant) = self.waiting_by_tenant.get_mut(tenant) {
            *of_tenant -= 1;
            if *of_tenant == 0 {
                self.waiting_by_tenant.remove(tenant);
            }
        }
    }

    fn ring(&mut self, speed: Speed) -> &mut Ring {
        match speed {
            Speed::Unknown => &mut self.unknown,
            Speed::Quick => &mut self.quick,
            Speed::Slow => &mut self.slow,
        }
    }

    fn count(&mut self, pool: Speed) {
        match pool {
            Speed::Unknown => {
                self.young += 1;
                self.unproved += 1;
            }
            Speed::Quick => self.young += 1,
            Speed::Slow => self.lasting += 1,
        }
    }

    fn uncount(&mut self, pool: Speed) {
        match pool {
            Speed::Unknown => {
                self.young -= 1;
                self.unproved -= 1;
            }
            Speed::Quick => self.young -= 1,
            Speed::Slow => self.lasting -= 1,
        }
    }

    /// Forgets the lanes that know nothing, once there are twice as many lanes as before.
    fn sweep(&mut self, now: Instant) {
        if self.lanes.len() >= self.sweep_at {
            self.lanes.retain(|_, lane| !lane.is_idle(now));
            self.open = self.lanes.values().filter(|lane| lane.is_open()).count();
            self.sweep_at = SWEEP_FROM.max(2 * self.lanes.len());
        }
    }
}

#[cfg(test)]
mod tests;
