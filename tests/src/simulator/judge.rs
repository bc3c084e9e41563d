//! The judge of a run of the command side: what was promised, held against what the storage has in the end.
//!
//! It believes nothing of the code under test: it reads records and folds events by itself.

use std::collections::BTreeMap;

use broker::Record;
use broker::layout::Log;
use domain::user::UserEvent;
use domain::{Commit, TenantId, UserId, decode_event};

use super::World;
use super::client::Entry;
use super::deed::Heard;

mod answers;
mod form;
mod unique;

/// What is judged.
pub(super) struct Case<'a> {
    pub(super) world: &'a World,
    pub(super) tenants: &'a [TenantId],
    /// Tenants have a quota of users.
    pub(super) gated: bool,
    /// What clients asked for while things went wrong.
    pub(super) entries: &'a [Entry],
    /// What was asked for when nothing went wrong any more.
    pub(super) probes: &'a [Entry],
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What is broken, in words; empty when all is as promised.
    pub(super) broken: Vec<String>,
    /// Refusals that were not the last word, since of two tries at once the other came later.
    pub(super) overtaken: u64,
}

impl Findings {
    fn add(&mut self, what: std::fmt::Arguments<'_>) {
        self.broken.push(what.to_string());
    }
}

/// Judges a run.
pub(super) async fn judge(case: &Case<'_>) -> Findings {
    let mut findings = Findings::default();
    let events = case.world.ledger(Log::Events(0)).records();
    let messages = case.world.ledger(Log::Messages(0)).records();
    form::contiguous(&events, &mut findings);
    form::tenants_apart(case, &events, &messages, &mut findings);
    answers::happened(case, &events, &messages, &mut findings);
    answers::in_order(case, &mut findings);
    unique::one_owner(&events, &mut findings);
    unique::within_quota(case, &events, &mut findings);
    unique::claims_agree(case, &events, &mut findings).await;
    for probe in case.probes {
        let last = probe.tries.last().map(|last| &last.heard);
        if !matches!(last, Some(Heard::Done(_))) {
            findings.add(format_args!(
                "{:?} cannot be done though nothing goes wrong any more: {last:?}",
                probe.deed.what
            ));
        }
    }
    findings
}

/// Every commit on users, with its events.
fn user_commits(records: &[Record]) -> impl Iterator<Item = (Commit, Vec<UserEvent>)> {
    let commits = records
        .iter()
        .filter_map(|record| Commit::decode(&record.payload).ok());
    commits.filter(|commit| commit.aggregate == "user").map(|commit| {
        let events = commit.events.iter().filter_map(|event| decode_event(event).ok());
        let events = events.collect();
        (commit, events)
    })
}

/// The addresses of the users that are there after some of the records.
#[derive(Debug, Default)]
struct Holders(BTreeMap<(TenantId, String), String>);

impl Holders {
    /// Applies an event; answers the address that it took for its user, and who had it.
    fn apply(&mut self, commit: &Commit, event: &UserEvent) -> Option<(String, Option<String>)> {
        let mut take = |address: String| {
            let place = (commit.tenant.clone(), address.clone());
            let before = self.0.insert(place, commit.id.clone());
            (address, before.filter(|holder| *holder != commit.id))
        };
        match event {
            UserEvent::Registered { email, .. } => Some(take(email.folded())),
            UserEvent::EmailChanged { from, to } => {
                let taken = take(to.folded());
                if from.folded() != to.folded() {
                    self.0.remove(&(commit.tenant.clone(), from.folded()));
                }
                Some(taken)
            }
            UserEvent::Removed { email } => {
                self.0.remove(&(commit.tenant.clone(), email.folded()));
                None
            }
            _ => None,
        }
    }
}

/// The users that are registered and not removed.
pub(super) fn living_users(records: &[Record]) -> Vec<(TenantId, UserId)> {
    let mut holders = Holders::default();
    for (commit, events) in user_commits(records) {
        for event in &events {
            holders.apply(&commit, event);
        }
    }
    let users = holders.0.into_iter();
    users
        .filter_map(|((tenant, _), user)| Some((tenant, user.parse().ok()?)))
        .collect()
}
