//! What every log looks like, whatever was asked for.

use std::collections::{BTreeMap, BTreeSet};

use broker::Record;
use domain::{ClaimRecord, Commit, Message, TenantId};

use super::{Case, Findings};
use crate::simulator::deed::Heard;

/// Versions follow each other without a gap on every aggregate, each record names the one before it by its hash, and no
/// id stands twice.
pub(super) fn contiguous(events: &[Record], findings: &mut Findings) {
    let mut lasts: BTreeMap<&str, (u64, Vec<u8>)> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for record in events {
        if !ids.insert(&record.message_id) {
            findings.add(format_args!("{} stands in the log twice", record.message_id));
        }
        let subject = record.subject.as_str();
        if !subject.starts_with("ev.") {
            continue;
        }
        let commit = match Commit::decode(&record.payload) {
            Ok(commit) => commit,
            Err(error) => {
                findings.add(format_args!("{} cannot be read: {error}", record.message_id));
                continue;
            }
        };
        let (version, prev) = lasts
            .get(subject)
            .map_or((0, None), |(version, hash)| (*version, Some(hash.clone())));
        if commit.first_version != version + 1 {
            findings.add(format_args!(
                "{subject} goes from version {version} to {} at {}",
                commit.first_version, record.sequence
            ));
        }
        if commit.prev != prev {
            findings.add(format_args!(
                "{subject} does not carry on its own chain at {}",
                record.sequence
            ));
        }
        lasts.insert(subject, (commit.last_version(), Commit::hash(&record.payload)));
    }
}

/// Nothing of a tenant says another's name: neither a record nor an answer.
pub(super) fn tenants_apart(
    case: &Case<'_>,
    events: &[Record],
    messages: &[Record],
    findings: &mut Findings,
) {
    for record in events.iter().chain(messages) {
        let of = record.subject.as_str().split('.').nth(1).unwrap_or_default();
        let says = match record.subject.as_str().split('.').next() {
            Some("ev") => Commit::decode(&record.payload).map(|commit| commit.tenant.to_string()),
            Some("uq") => ClaimRecord::decode(&record.payload).map(|claim| claim.tenant),
            _ => Message::decode(&record.payload).map(|message| message.tenant.to_string()),
        };
        if says.as_ref().ok().map(String::as_str) != Some(of) || !record.message_id.starts_with(of) {
            findings.add(format_args!(
                "{} stands on {}: {says:?}",
                record.message_id, record.subject
            ));
        }
        let text = String::from_utf8_lossy(&record.payload);
        for other in others(case.tenants, of) {
            if text.contains(other.as_str()) {
                findings.add(format_args!("{} holds a value of {other}", record.message_id));
            }
        }
    }
    for entry in case.entries {
        for tried in &entry.tries {
            let Heard::Seen(seen) = &tried.heard else {
                continue;
            };
            for other in others(case.tenants, entry.deed.tenant.as_str()) {
                if seen.contains(other.as_str()) {
                    findings.add(format_args!("{} was shown a value of {other}", entry.deed.tenant));
                }
            }
        }
    }
}

fn others<'a>(tenants: &'a [TenantId], of: &str) -> impl Iterator<Item = &'a TenantId> {
    tenants.iter().filter(move |tenant| tenant.as_str() != of)
}
