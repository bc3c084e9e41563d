//! Exports spoiled in every way, and what is found of it.

use bytes::Bytes;
use domain::proof::Leaf;
use domain::{Actor, ClaimRecord, EventRecord, Meta, Source, TenantId, Timestamp};
use serde_json::json;

use super::*;
use crate::auditing::readable::readable;

const USERS: usize = 3;

fn tenant(number: u32) -> TenantId {
    format!("ten_{number:0>26}").parse().unwrap()
}

fn origin() -> String {
    Checkpoint::origin_of(&tenant(1), 0)
}

fn commit(of: &TenantId, user: usize, version: u64, prev: Option<Vec<u8>>) -> Commit {
    Commit {
        v: Commit::VERSION,
        tenant: of.clone(),
        aggregate: "user".to_owned(),
        id: format!("usr_{user:0>26}"),
        first_version: version,
        events: vec![EventRecord {
            event_type: "user.renamed".to_owned(),
            schema: 1,
            data: json!({ "name": format!("name {version}") }),
        }],
        meta: Meta {
            command_id: format!("c{user}-{version}"),
            command: "RenameUser".to_owned(),
            actor: Actor::PlatformAdmin,
            request_id: None,
            origin: None,
            correlation_id: None,
            causation_id: None,
            traceparent: None,
            at: Timestamp::from_millis(1),
        },
        prev,
    }
}

fn line(leaf: u64, sequence: u64, subject: String, message_id: String, payload: Vec<u8>) -> Line {
    let mut line = Line {
        leaf,
        position: Position {
            source: Source::Events,
            shard: 0,
            sequence,
        },
        subject,
        message_id,
        leaf_hash: Hash::EMPTY,
        record: readable(&payload),
        payload: Bytes::from(payload),
    };
    seal(&mut line);
    line
}

/// Makes a line agree with itself, as somebody would who changed it with care.
fn seal(line: &mut Line) {
    let leaf = Leaf {
        position: line.position,
        subject: &line.subject,
        message_id: &line.message_id,
        payload: &line.payload,
    };
    line.leaf_hash = leaf.hash().unwrap();
    line.record = readable(&line.payload);
}

/// A history of users in turn, with a claim before each first commit; other tenants' records stand between.
fn export(commits: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut hashes = vec![None; USERS];
    for number in 0..commits {
        let (user, version) = (number % USERS, (number / USERS) as u64 + 1);
        let sequence = |lines: &Vec<Line>| lines.len() as u64 * 2 + 1;
        if version == 1 {
            let claim = ClaimRecord {
                v: ClaimRecord::VERSION,
                tenant: tenant(1).to_string(),
                kind: "email".to_owned(),
                holder: Some(format!("user.{user}")),
            };
            let subject = ClaimRecord::subject(&tenant(1), "email", &format!("h{user}"));
            let id = format!("{}:c{user}:email", tenant(1));
            lines.push(line(
                lines.len() as u64,
                sequence(&lines),
                subject,
                id,
                claim.encode(),
            ));
        }
        let commit = commit(&tenant(1), user, version, hashes[user].take());
        let payload = commit.encode();
        hashes[user] = Some(Commit::hash(&payload));
        let subject = Commit::subject(&tenant(1), "user", &commit.id);
        let id = format!("{}:{}", tenant(1), commit.meta.command_id);
        lines.push(line(lines.len() as u64, sequence(&lines), subject, id, payload));
    }
    lines
}

fn checkpoint(lines: &[Line]) -> Checkpoint {
    let mut tree = Frontier::default();
    for line in lines {
        tree.push(line.hash().unwrap(), |_, _| {});
    }
    Checkpoint {
        origin: origin(),
        size: tree.size(),
        root: tree.root(),
        last: None,
        at: None,
    }
}

fn examine(lines: &[Line], checkpoints: &[(&str, &Checkpoint)]) -> Report {
    let checkpoints = checkpoints
        .iter()
        .map(|(file, checkpoint)| ((*file).to_owned(), (*checkpoint).clone()));
    let mut examiner = Examiner::new(&origin(), checkpoints.collect());
    for (number, line) in (1..).zip(lines) {
        examiner.feed(number, &serde_json::to_vec(line).unwrap());
    }
    examiner.finish()
}

/// Spoils an export of which a checkpoint is kept; what is found must be told in these kinds and words.
fn spoiled(kinds: &[Kind], words: &[&str], spoil: impl FnOnce(&mut Vec<Line>)) {
    let mut lines = export(12);
    let (now, before) = (checkpoint(&lines), checkpoint(&lines[..5]));
    spoil(&mut lines);
    let report = examine(&lines, &[("now", &now), ("before", &before)]);
    assert!(!report.verified, "it was believed");
    for kind in kinds {
        assert!(
            report.findings.iter().any(|finding| finding.kind == *kind),
            "no {kind:?}: {}",
            report.in_words()
        );
    }
    for words in words {
        assert!(
            report.in_words().contains(words),
            "no {words:?}: {}",
            report.in_words()
        );
    }
}

#[test]
fn what_was_not_touched_is_proved() {
    let lines = export(12);
    let (now, before) = (checkpoint(&lines), checkpoint(&lines[..5]));
    let nothing = checkpoint(&[]);
    let report = examine(
        &lines,
        &[("now", &now), ("before", &before), ("nothing", &nothing)],
    );
    assert!(report.verified, "{}", report.in_words());
    assert!(report.checkpoints.iter().all(|checkpoint| checkpoint.verified));
    assert_eq!(report.records, lines.len() as u64);
    assert!(examine(&[], &[("nothing", &nothing)]).verified);
}

#[test]
fn a_changed_record_is_named() {
    // Without care: what stands beside it still tells what it was.
    spoiled(&[Kind::Changed], &["line 8: e0-15 is not the record"], |lines| {
        let mut bytes = lines[7].payload.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        lines[7].payload = bytes.into();
    });
    spoiled(&[Kind::Changed], &["the readable part of e0-15"], |lines| {
        lines[7].record["events"][0]["data"]["name"] = json!("Mallory");
    });
    // With care: the next commit of the same user was written after another one.
    spoiled(
        &[Kind::Changed, Kind::Rewritten],
        &[
            "e0-21 was written after another record",
            "than the one at e0-15",
            "the first 5 records are proved",
        ],
        |lines| {
            let mut commit = Commit::decode(&lines[7].payload).unwrap();
            commit.events[0].data = json!({ "name": "Mallory" });
            lines[7].payload = commit.encode().into();
            seal(&mut lines[7]);
        },
    );
    // A claim has no next one: the root tells, and the older checkpoint narrows it down.
    spoiled(
        &[Kind::Rewritten],
        &["before was signed over", "now was signed over"],
        |lines| {
            lines[2].message_id.push('x');
            seal(&mut lines[2]);
        },
    );
}

#[test]
fn swapped_fields_are_named() {
    spoiled(
        &[Kind::Changed],
        &["e0-15 is filed under", "e0-17 is filed under"],
        |lines| {
            let (subject, other) = (lines[7].subject.clone(), lines[8].subject.clone());
            (lines[7].subject, lines[8].subject) = (other, subject);
        },
    );
    spoiled(
        &[Kind::Changed],
        &["e0-15 is not the record", "e0-17 is not the record"],
        |lines| {
            let (one, other) = (lines[7].message_id.clone(), lines[8].message_id.clone());
            (lines[7].message_id, lines[8].message_id) = (other, one);
        },
    );
    spoiled(&[Kind::Changed], &["line 8: e0-15 is not the record"], |lines| {
        lines[7].position.sequence = 16;
        lines[7].position.sequence -= 1;
        lines[7].leaf_hash = lines[8].leaf_hash;
    });
}

#[test]
fn a_removed_record_is_named() {
    spoiled(&[Kind::Removed], &["leaf 7 is missing"], |lines| {
        lines.remove(7);
    });
    spoiled(
        &[Kind::Removed],
        &["the 2 leaves from 7 to 8 are missing"],
        |lines| {
            lines.drain(7..9);
        },
    );
    // Counted anew: the versions of the user still have a gap.
    spoiled(
        &[Kind::Removed],
        &[
            "has version 1 at e0-7 and version 3 at e0-21",
            "covers 15 records, and the export holds 14",
        ],
        |lines| {
            lines.remove(7);
            for (leaf, line) in (0..).zip(lines) {
                line.leaf = leaf;
            }
        },
    );
    spoiled(&[Kind::Removed], &["begins with version 2 at e0-13"], |lines| {
        lines.remove(1);
        lines.remove(0);
    });
}

#[test]
fn a_truncated_export_is_told() {
    spoiled(
        &[Kind::Removed],
        &["now covers 15 records, and the export holds 13; the first 5 records are proved"],
        |lines| lines.truncate(13),
    );
    spoiled(&[Kind::Removed], &["the export holds 0"], Vec::clear);
}

#[test]
fn an_added_record_is_named() {
    spoiled(
        &[Kind::Added],
        &["leaf 7 (e0-15) stands here once more"],
        |lines| {
            let again = lines[7].clone();
            lines.insert(8, again);
        },
    );
    spoiled(
        &[Kind::Added, Kind::Rewritten],
        &["e0-16 is version 2 of"],
        |lines| {
            let mut added = lines[7].clone();
            added.position.sequence += 1;
            seal(&mut added);
            lines.insert(8, added);
            for (leaf, line) in (0..).zip(lines) {
                line.leaf = leaf;
            }
        },
    );
    spoiled(
        &[Kind::Added],
        &["1 record(s) stand after the 15 that now covers"],
        |lines| {
            let last = lines.last().unwrap().clone();
            let subject = ClaimRecord::subject(&tenant(1), "email", "more");
            lines.push(line(
                last.leaf + 1,
                99,
                subject,
                "ten:x".to_owned(),
                last.payload.to_vec(),
            ));
        },
    );
}

#[test]
fn reordered_records_are_named() {
    spoiled(
        &[Kind::Reordered],
        &["leaf 7 (e0-15) stands after leaves that come after it"],
        |lines| {
            lines.swap(7, 8);
        },
    );
    spoiled(&[Kind::Reordered], &["e0-15 stands after e0-17"], |lines| {
        lines.swap(7, 8);
        for (leaf, line) in (0..).zip(lines) {
            line.leaf = leaf;
        }
    });
    // Places swapped too, with care, within one user: versions and hashes do not fit.
    spoiled(&[Kind::Rewritten], &[], |lines| {
        lines.swap(7, 10);
        for number in [7, 10] {
            lines[number].leaf = number as u64;
            lines[number].position.sequence = number as u64 * 2 + 1;
            seal(&mut lines[number]);
        }
    });
}

#[test]
fn another_tenants_record_is_named() {
    spoiled(
        &[Kind::Foreign, Kind::Rewritten],
        &["e0-15 (ev.ten_00000000000000000000000002"],
        |lines| {
            let foreign = commit(&tenant(2), 1, 1, None);
            lines[7].subject = Commit::subject(&tenant(2), "user", &foreign.id);
            lines[7].payload = foreign.encode().into();
            seal(&mut lines[7]);
        },
    );
    spoiled(&[Kind::Foreign], &["e1-15"], |lines| {
        lines[7].position.shard = 1;
        seal(&mut lines[7]);
    });
}

#[test]
fn what_is_no_record_is_told_and_the_rest_examined() {
    let lines = export(12);
    let now = checkpoint(&lines);
    let mut examiner = Examiner::new(&origin(), vec![("now".to_owned(), now)]);
    for (number, line) in (1..).zip(&lines) {
        let mut text = serde_json::to_value(line).unwrap();
        if number == 4 {
            text["unknown"] = json!(1);
        }
        if number == 5 {
            text = json!([]);
        }
        examiner.feed(number, text.to_string().as_bytes());
    }
    let report = examiner.finish();
    let unreadable: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.kind == Kind::Unreadable)
        .filter_map(|finding| finding.line)
        .collect();
    assert_eq!(unreadable, [4, 5]);
}

#[test]
fn history_rewritten_as_a_whole_is_found_with_an_older_checkpoint_only() {
    let honest = export(12);
    let before = checkpoint(&honest[..5]);
    let mut rewritten = honest;
    rewritten[2].message_id.push('x');
    seal(&mut rewritten[2]);
    let now = checkpoint(&rewritten);
    assert!(examine(&rewritten, &[("now", &now)]).verified);
    let report = examine(&rewritten, &[("now", &now), ("before", &before)]);
    assert!(!report.verified);
    let held: Vec<_> = report
        .checkpoints
        .iter()
        .map(|checkpoint| (checkpoint.file.as_str(), checkpoint.verified))
        .collect();
    assert_eq!(held, [("before", false), ("now", true)]);
}

#[test]
fn thousands_of_findings_are_counted_and_not_all_told() {
    let mut lines = export(600);
    let now = checkpoint(&lines);
    for line in &mut lines {
        line.leaf_hash = Hash::EMPTY;
    }
    let report = examine(&lines, &[("now", &now)]);
    assert!(!report.verified && report.findings.len() <= 101);
    assert_eq!(report.more_findings, lines.len() as u64 - 100);
}
