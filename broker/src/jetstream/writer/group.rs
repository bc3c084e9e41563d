//! What can share a batch.
//!
//! Within an atomic batch only the first record on a subject can carry an expectation, and a message id may occur
//! once. So appends that touch the same subject keep out of each other's batch, unless neither expects anything;
//! as do appends that share a message id. Who cannot join waits for the next batch, in its place.

use std::collections::{HashSet, VecDeque};

use tokio::time::Instant;

use super::Request;
use crate::{MAX_APPEND, Subject};

/// About the most bytes of one batch: the server holds a batch in memory until its last message. An append that
/// alone is larger still goes as one.
const BYTES: usize = 4 << 20;

/// The appends of a batch.
#[derive(Default)]
pub(super) struct Group {
    requests: Vec<Request>,
    records: usize,
    bytes: usize,
    /// The subjects of appends that expect something.
    bound: HashSet<Subject>,
    /// The subjects of those that expect nothing.
    free: HashSet<Subject>,
    ids: HashSet<String>,
    deadline: Option<Instant>,
    /// One found no room.
    full: bool,
}

impl Group {
    /// In the order they were taken.
    pub(super) fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// How many records they have.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    pub(super) fn into_requests(self) -> Vec<Request> {
        self.requests
    }

    /// It has no room for the next one that waits, or for none at all.
    pub(super) fn is_full(&self) -> bool {
        self.full || self.records >= MAX_APPEND
    }

    /// The earliest deadline of its appends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Takes all that can join from those who wait, oldest first, until one finds no room; leaves the others in
    /// their order.
    pub(super) fn take(&mut self, waiting: &mut VecDeque<Request>) {
        let mut left = VecDeque::new();
        while let Some(request) = waiting.pop_front() {
            if !self.has_room(&request) {
                self.full = true;
                waiting.push_front(request);
                break;
            }
            if self.agrees_with(&request) {
                self.add(request);
            } else {
                left.push_back(request);
            }
        }
        left.append(waiting);
        *waiting = left;
    }

    fn has_room(&self, request: &Request) -> bool {
        self.requests.is_empty()
            || (self.records + request.records.len() <= MAX_APPEND && self.bytes + bytes(request) <= BYTES)
    }

    fn agrees_with(&self, request: &Request) -> bool {
        let bound = is_bound(request);
        !request.records.iter().any(|record| {
            self.ids.contains(&record.message_id)
                || self.bound.contains(&record.subject)
                || (bound && self.free.contains(&record.subject))
        })
    }

    fn add(&mut self, request: Request) {
        self.records += request.records.len();
        self.deadline = Some(
            self.deadline
                .map_or(request.deadline, |earliest| earliest.min(request.deadline)),
        );
        self.bytes += bytes(&request);
        let subjects = if is_bound(&request) {
            &mut self.bound
        } else {
            &mut self.free
        };
        for record in &request.records {
            subjects.insert(record.subject.clone());
            self.ids.insert(record.message_id.clone());
        }
        self.requests.push(request);
    }
}

fn is_bound(request: &Request) -> bool {
    request.records.iter().any(|record| record.expect.is_some())
}

fn bytes(request: &Request) -> usize {
    request.records.iter().map(|record| record.payload.len()).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::oneshot;

    use super::*;
    use crate::NewRecord;
    use crate::backlog::Backlog;
    use crate::layout::{Log, Waiting};

    /// An append of records given as subject, id and expectation.
    fn append(records: &[(&str, &str, Option<u64>)]) -> Request {
        sized(records, 1)
    }

    fn sized(records: &[(&str, &str, Option<u64>)], bytes: usize) -> Request {
        let records = records.iter().map(|(subject, id, expect)| NewRecord {
            subject: Subject::new(*subject).unwrap(),
            message_id: (*id).to_owned(),
            expect: *expect,
            payload: Bytes::from(vec![0; bytes]),
        });
        Request {
            records: records.collect(),
            deadline: Instant::now(),
            room: Backlog::new(Log::Events(0), Waiting::default())
                .enter(&[])
                .unwrap(),
            reply: oneshot::channel().0,
        }
    }

    /// The ids of the first records of all groups that come of these appends.
    fn groups(appends: Vec<Request>) -> Vec<Vec<String>> {
        let mut waiting = VecDeque::from(appends);
        let mut groups = Vec::new();
        while !waiting.is_empty() {
            let mut group = Group::default();
            group.take(&mut waiting);
            let ids = group
                .requests()
                .iter()
                .map(|request| request.records[0].message_id.clone())
                .collect();
            groups.push(ids);
        }
        groups
    }

    #[test]
    fn appends_on_one_subject_go_one_batch_after_the_other() {
        let taken = groups(vec![
            append(&[("ev.a", "1", Some(0))]),
            append(&[("ev.a", "2", Some(1))]),
            append(&[("ev.b", "3", Some(0)), ("ev.c", "4", None)]),
            append(&[("ev.c", "5", None)]),
            append(&[("ev.a", "6", None)]),
            append(&[("ev.d", "7", None)]),
            append(&[("ev.d", "8", Some(0))]),
        ]);
        assert_eq!(taken, [vec!["1", "3", "7"], vec!["2", "5", "8"], vec!["6"]]);
    }

    #[test]
    fn appends_that_expect_nothing_share_a_subject_but_no_id() {
        let taken = groups(vec![
            append(&[("msg.a", "1", None)]),
            append(&[("msg.a", "2", None), ("msg.a", "3", None)]),
            append(&[("msg.a", "3", None)]),
            append(&[("msg.a", "4", None)]),
        ]);
        assert_eq!(taken, [vec!["1", "2", "4"], vec!["3"]]);
    }

    #[test]
    fn a_batch_is_bounded_in_records_and_in_bytes() {
        let names: Vec<String> = (0..2_500).map(|number| number.to_string()).collect();
        let appends = names.iter().map(|name| append(&[("msg.a", name, None)]));
        let sizes: Vec<usize> = groups(appends.collect()).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1_000, 1_000, 500]);
        let appends = names
            .iter()
            .take(5)
            .map(|name| sized(&[("msg.a", name, None)], BYTES / 2));
        let sizes: Vec<usize> = groups(appends.collect()).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 2, 1]);
        let large = sized(&[("msg.a", "1", None)], BYTES + 1);
        assert_eq!(groups(vec![large]).len(), 1);
    }
}
