//! O5: what the service says of itself, and a fold of ours beside what queries list.

use std::collections::{BTreeMap, BTreeSet};

use super::{Oracle, Verdict};
use crate::faults::evidence::{Evidence, FIRST_NAME};
use crate::faults::history::Kind;

pub(super) fn judge(verdict: &mut Verdict, evidence: &Evidence) {
    if !evidence.verified.proved {
        verdict.broken(
            Oracle::O5,
            format!("tidings verify: {}", evidence.verified.said.trim()),
        );
    }
    let mut users: BTreeMap<(&str, &str), (&str, &str)> = BTreeMap::new();
    let mut events = BTreeSet::new();
    for stored in &evidence.log {
        let Some(tenant) = stored.tenant.as_deref() else {
            continue;
        };
        for fact in &stored.facts {
            match fact.kind {
                Kind::Register => {
                    users.insert((tenant, &fact.id), (&fact.value, FIRST_NAME));
                }
                Kind::Rename => {
                    if let Some((_, name)) = users.get_mut(&(tenant, fact.id.as_str())) {
                        *name = &fact.value;
                    }
                }
                Kind::Publish => {
                    events.insert((tenant, fact.id.as_str()));
                }
            }
        }
    }
    for user in &evidence.users {
        match users.remove(&(user.tenant.as_str(), user.id.as_str())) {
            Some((email, name)) if email == user.email && name == user.name => {}
            folded => {
                let what = format!("{} is listed as {user:?}, and the log gives {folded:?}", user.id);
                verdict.broken(Oracle::O5, what);
            }
        }
    }
    for ((tenant, id), _) in users {
        verdict.broken(Oracle::O5, format!("the user {id} of {tenant} is not listed"));
    }
    let listed: BTreeSet<_> = evidence
        .events
        .iter()
        .map(|(tenant, id)| (tenant.as_str(), id.as_str()))
        .collect();
    if listed.len() != evidence.events.len() {
        verdict.broken(Oracle::O5, "an event is listed twice");
    }
    for (tenant, id) in events.symmetric_difference(&listed) {
        let only = if listed.contains(&(*tenant, *id)) {
            "listed"
        } else {
            "in the log"
        };
        verdict.broken(Oracle::O5, format!("the event {id} of {tenant} is only {only}"));
    }
}
