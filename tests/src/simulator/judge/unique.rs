//! What there is one of: owners of addresses and slugs, and no more users than the quota allows.

use std::collections::{BTreeMap, BTreeSet};

use broker::Record;
use domain::tenant::TenantEvent;
use domain::{ClaimRecord, Commit, decode_event};

use super::{Case, Findings, Holders, user_commits};
use crate::simulator::deed::QUOTA;
use crate::simulator::gateway::dispatcher;
use crate::simulator::writing::ADDRESSES;

/// At every moment an address belongs to one user of a tenant and a slug to one tenant, by the events; and a claim goes
/// from one holder to the next only when it was given back.
pub(super) fn one_owner(events: &[Record], findings: &mut Findings) {
    let mut addresses = Holders::default();
    for (commit, events) in user_commits(events) {
        for event in &events {
            if let Some((address, Some(before))) = addresses.apply(&commit, event) {
                findings.add(format_args!(
                    "{address} of {} belongs to {before} and to {}",
                    commit.tenant, commit.id
                ));
            }
        }
    }
    let mut slugs = BTreeMap::new();
    let mut claims: BTreeMap<&str, String> = BTreeMap::new();
    for record in events {
        let subject = record.subject.as_str();
        if let Ok(claim) = ClaimRecord::decode(&record.payload)
            && subject.starts_with("uq.")
            && claim.kind != "quota"
        {
            let before = match &claim.holder {
                Some(holder) => claims.insert(subject, holder.clone()),
                None => claims.remove(subject),
            };
            let in_turn = match (&before, &claim.holder) {
                (Some(before), Some(holder)) => before == holder,
                (None, None) => false,
                (Some(_), None) | (None, Some(_)) => true,
            };
            if !in_turn {
                findings.add(format_args!(
                    "{subject} goes from {before:?} to {:?}",
                    claim.holder
                ));
            }
        }
        let Ok(commit) = Commit::decode(&record.payload) else {
            continue;
        };
        for event in &commit.events {
            if let Ok(TenantEvent::Provisioned { id, slug, .. }) = decode_event(event)
                && let Some(before) = slugs.insert(slug.to_string(), id.clone())
            {
                findings.add(format_args!("the slug {slug} belongs to {before} and to {id}"));
            }
        }
    }
}

/// Who holds an address by the claims, as the service tells, holds it by the events.
pub(super) async fn claims_agree(case: &Case<'_>, events: &[Record], findings: &mut Findings) {
    let mut holders = Holders::default();
    for (commit, events) in user_commits(events) {
        for event in &events {
            holders.apply(&commit, event);
        }
    }
    let (_, engine) = case.world.connect("judge".to_owned());
    let dispatcher = dispatcher(&*engine);
    let addresses: BTreeSet<String> = ADDRESSES.iter().map(|address| address.to_lowercase()).collect();
    for tenant in case.tenants {
        for address in &addresses {
            let claimed = match dispatcher.holder(tenant, "email", address).await {
                Ok(holder) => holder,
                Err(error) => {
                    findings.add(format_args!("who holds {address} cannot be told: {error}"));
                    continue;
                }
            };
            let holds = holders.0.get(&(tenant.clone(), address.clone()));
            let holds = holds.map(|user| format!("user.{user}"));
            if claimed != holds {
                findings.add(format_args!(
                    "{address} of {tenant} is claimed by {claimed:?} and held by {holds:?}"
                ));
            }
        }
    }
}

/// No tenant with a quota ever had more users than that.
pub(super) fn within_quota(case: &Case<'_>, events: &[Record], findings: &mut Findings) {
    if !case.gated {
        return;
    }
    let mut users: BTreeMap<String, u64> = BTreeMap::new();
    for (commit, _) in user_commits(events).filter(|(commit, _)| commit.first_version == 1) {
        let count = users.entry(commit.tenant.to_string()).or_default();
        *count += 1;
        if *count > QUOTA {
            findings.add(format_args!("{} has {count} users", commit.tenant));
        }
    }
}
