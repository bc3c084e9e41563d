//! What clients heard, held against the logs.

use std::collections::BTreeMap;

use broker::Record;
use domain::Commit;

use super::{Case, Findings};
use crate::simulator::client::{Entry, Try};
use crate::simulator::deed::{Heard, What};

/// What is known of a deed in the end.
enum Verdict<'a> {
    /// It is done, and answered so.
    Done(&'a [(u64, u64)]),
    /// It never happened.
    Not,
    /// It may have happened, once.
    Open,
}

/// Every yes is in the log exactly once and where the answer says, no no is, and what is unknown is there at most once.
/// All answers to one request are the same.
pub(super) fn happened(case: &Case<'_>, events: &[Record], messages: &[Record], findings: &mut Findings) {
    let (events, messages) = (by_id(events), by_id(messages));
    for entry in case.entries.iter().chain(case.probes) {
        let what = &entry.deed.what;
        for tried in &entry.tries {
            if let Heard::Broken(why) = &tried.heard {
                findings.add(format_args!("{what:?} was answered {why}"));
            }
        }
        let log = match what {
            What::Look { .. } => continue,
            What::Publish { .. } => &messages,
            _ => &events,
        };
        let found: Vec<&Record> = entry
            .message_ids
            .iter()
            .flat_map(|id| log.get(id.as_str()).into_iter().flatten().copied())
            .collect();
        // What stands there of the deed: as many records as it has parts, where it happened once.
        let (parts, count) = (entry.deed.message_ids().len(), found.len());
        let refused = entry
            .tries
            .iter()
            .any(|tried| matches!(tried.heard, Heard::No(_)));
        findings.overtaken += u64::from(refused && count > 0);
        match verdict(entry, findings) {
            Verdict::Done(places) if count == parts => {
                for (record, place) in found.iter().zip(places) {
                    let version = Commit::decode(&record.payload).map_or(0, |commit| commit.last_version());
                    if (record.sequence, version) != *place {
                        findings.add(format_args!(
                            "{what:?} was answered {place:?}, and stands at {} with version {version}",
                            record.sequence
                        ));
                    }
                }
            }
            Verdict::Done(places) => findings.add(format_args!(
                "{what:?} was answered {places:?}, but {count} records of {parts} are there"
            )),
            Verdict::Not if count > 0 => findings.add(format_args!(
                "{what:?} was refused, but is in the log at {}",
                found[0].sequence
            )),
            Verdict::Open if count != 0 && count != parts => findings.add(format_args!(
                "{what:?} may have happened once, but {count} records of {parts} are there"
            )),
            Verdict::Not | Verdict::Open => {}
        }
    }
}

fn by_id(records: &[Record]) -> BTreeMap<&str, Vec<&Record>> {
    let mut ids: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        ids.entry(&record.message_id).or_default().push(record);
    }
    ids
}

fn verdict<'a>(entry: &'a Entry, findings: &mut Findings) -> Verdict<'a> {
    let done: Vec<_> = entry.tries.iter().filter_map(done).collect();
    if let Some(other) = done.iter().find(|places| **places != done[0]) {
        findings.add(format_args!(
            "{:?} was answered {:?}, and {other:?} when asked again",
            entry.deed.what, done[0]
        ));
    }
    let heard = |which: fn(&Heard) -> bool| entry.tries.iter().any(|tried| which(&tried.heard));
    let refused = heard(|heard| matches!(heard, Heard::No(_)));
    let open = heard(|heard| matches!(heard, Heard::Unknown(_) | Heard::Silence));
    // Of two tries at once one may be refused and the other, later, not.
    let may_differ = entry.doubled;
    match done.first() {
        Some(places) => {
            if refused && !may_differ {
                findings.add(format_args!(
                    "{:?} was done, and refused when asked again: {:?}",
                    entry.deed.what, entry.tries
                ));
            }
            Verdict::Done(places)
        }
        None if open && (!refused || may_differ) => Verdict::Open,
        None => Verdict::Not,
    }
}

fn done(tried: &Try) -> Option<&Vec<(u64, u64)>> {
    match &tried.heard {
        Heard::Done(places) => Some(places),
        _ => None,
    }
}

/// What was asked for after another was answered stands after it.
pub(super) fn in_order(case: &Case<'_>, findings: &mut Findings) {
    let answered = case.entries.iter().chain(case.probes).filter_map(|entry| {
        let first = entry
            .tries
            .iter()
            .find_map(|tried| Some((tried.to, done(tried)?)));
        let ((to, places), from) = (first?, entry.tries.iter().map(|tried| tried.from).min()?);
        let published = matches!(entry.deed.what, What::Publish { .. });
        let place = places.first()?.0;
        Some((published, from, to, place))
    });
    let answered: Vec<_> = answered.collect();
    for (published, _, to, place) in &answered {
        for (also_published, from, _, later) in &answered {
            if published == also_published && from > to && later <= place {
                findings.add(format_args!(
                    "what was asked for at {from:?} stands at {later}, before {place}, which was answered at {to:?}"
                ));
            }
        }
    }
}
