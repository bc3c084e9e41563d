//! O9: what the receiver has, beside what the log says it must have.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Oracle, Verdict};
use crate::faults::evidence::{Evidence, Webhook};
use crate::faults::history::{Command, Kind};

pub(super) fn judge(verdict: &mut Verdict, commands: &[Command], evidence: &Evidence) {
    let mut came: BTreeMap<(&str, &str), Vec<&Webhook>> = BTreeMap::new();
    for webhook in &evidence.received {
        if !webhook.genuine {
            let what = format!("the signature of {} does not verify", webhook.id);
            verdict.broken(Oracle::O9, what);
        }
        came.entry((&webhook.tenant, &webhook.value))
            .or_default()
            .push(webhook);
    }
    let mut firsts: BTreeMap<(&str, &str), Duration> = BTreeMap::new();
    for stored in &evidence.log {
        let tenant = stored.tenant.as_deref().unwrap_or_default();
        for fact in stored.facts.iter().filter(|fact| fact.kind == Kind::Publish) {
            let webhooks = came.remove(&(tenant, fact.value.as_str())).unwrap_or_default();
            let Some(first) = webhooks.iter().map(|webhook| webhook.at).min() else {
                verdict.lost += 1;
                let what = format!("{} ({}) is in the log and never came", fact.value, fact.id);
                verdict.broken(Oracle::O9, what);
                continue;
            };
            firsts.insert((tenant, &fact.value), first);
            verdict.duplicates += webhooks.len() as u64 - 1;
            for webhook in webhooks.iter().filter(|webhook| webhook.id != fact.id) {
                let what = format!("{} is {} and came as {}", fact.value, fact.id, webhook.id);
                verdict.broken(Oracle::O9, what);
            }
        }
    }
    for ((tenant, value), webhooks) in came {
        let what = format!(
            "{value} came to {tenant} {} times and is not in the log",
            webhooks.len()
        );
        verdict.broken(Oracle::O9, what);
    }
    // Those published before the fault was over are what it held up.
    let held_up = commands
        .iter()
        .filter(|command| command.asked.kind == Kind::Publish && command.began <= evidence.healed);
    let last = held_up
        .filter_map(|command| {
            let asked = &command.asked;
            firsts.get(&(asked.tenant.as_str(), asked.value.as_str()))
        })
        .max();
    verdict.delivered_again = last.map(|last| last.saturating_sub(evidence.healed));
}
