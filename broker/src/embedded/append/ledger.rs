//! What a log will hold after the appends decided so far: the rules of `EventLog::append`, without any I/O.

use std::collections::{HashMap, HashSet};

use crate::{AppendError, Appended, NewRecord};

use super::Head;

/// One log within one group.
pub(super) struct Ledger {
    /// The log's number in the tables.
    pub(super) number: i64,
    /// The last sequence given out.
    pub(super) last: u64,
    /// When the records of this group are stored, in microseconds.
    pub(super) stored_at: i64,
    /// Records to insert.
    pub(super) rows: Vec<Row>,
    /// The sequences of message ids.
    ids: HashMap<String, u64>,
    /// The last sequences on subjects.
    lasts: HashMap<String, u64>,
}

/// A record with the sequence it gets.
pub(super) struct Row {
    pub(super) sequence: u64,
    pub(super) record: NewRecord,
}

impl Ledger {
    /// A log as it stands before the group, with the message ids it holds and the last sequences on subjects, as
    /// far as the group asks for them.
    pub(super) fn new(head: &Head, ids: HashMap<String, u64>, lasts: HashMap<String, u64>) -> Self {
        Self {
            number: head.number,
            last: head.last,
            stored_at: head.stored_at,
            rows: Vec::new(),
            ids,
            lasts,
        }
    }

    /// Decides one append, on top of those decided before it.
    pub(super) fn decide(&mut self, records: Vec<NewRecord>, now: i64) -> Result<Vec<Appended>, AppendError> {
        let known = records
            .iter()
            .filter(|record| self.ids.contains_key(&record.message_id))
            .count();
        if known < records.len() && records.iter().any(|record| record.expect.is_some()) {
            self.check(&records)?;
        }
        // A clock that is set back must not take the order of times back with it.
        self.stored_at = self.stored_at.max(now);
        Ok(records.into_iter().map(|record| self.place(record)).collect())
    }

    /// Tests the expectations of an append that is not a repetition as a whole. A part that is known already makes
    /// a conflict: that record is itself what has overtaken the append.
    fn check(&self, records: &[NewRecord]) -> Result<(), AppendError> {
        for record in records {
            let last = self.lasts.get(record.subject.as_str()).copied().unwrap_or(0);
            let stale = record.expect.is_some_and(|expected| expected != last);
            if stale || self.ids.contains_key(&record.message_id) {
                return Err(AppendError::Conflict {
                    subject: record.subject.clone(),
                });
            }
        }
        Ok(())
    }

    fn place(&mut self, record: NewRecord) -> Appended {
        if let Some(&sequence) = self.ids.get(&record.message_id) {
            return Appended {
                sequence,
                duplicate: true,
            };
        }
        self.last += 1;
        self.ids.insert(record.message_id.clone(), self.last);
        self.lasts.insert(record.subject.as_str().to_owned(), self.last);
        self.rows.push(Row {
            sequence: self.last,
            record,
        });
        Appended {
            sequence: self.last,
            duplicate: false,
        }
    }
}

/// Refuses an append that breaks a rule of [`NewRecord`], whatever the log holds.
pub(in crate::embedded) fn check_form(
    records: &[NewRecord],
    roots: &[&str],
    limit: usize,
) -> Result<(), AppendError> {
    if records.is_empty() {
        return Err(AppendError::Malformed("it holds no record"));
    }
    if records.len() > crate::MAX_APPEND {
        return Err(AppendError::Malformed("it holds more than 1000 records"));
    }
    let mut subjects = HashSet::with_capacity(records.len());
    let mut ids = HashSet::with_capacity(records.len());
    for record in records {
        let bytes = record.payload.len();
        if bytes > limit {
            return Err(AppendError::TooLarge { bytes, limit });
        }
        let id = record.message_id.as_str();
        if id.is_empty() || id.len() > 256 || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AppendError::Malformed(
                "a message id is not 1 to 256 visible ASCII characters",
            ));
        }
        if !ids.insert(id) {
            return Err(AppendError::Malformed("two records have the same message id"));
        }
        let root = record.subject.as_str().split('.').next().unwrap_or_default();
        if !roots.contains(&root) {
            return Err(AppendError::Malformed("a subject is not one of this log's"));
        }
        if !subjects.insert(&record.subject) && record.expect.is_some() {
            return Err(AppendError::Malformed(
                "an expectation is not on the first record of its subject",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::watch;

    use crate::Subject;

    use super::*;

    fn ledger(last: u64, lasts: &[(&str, u64)]) -> Ledger {
        let head = Head {
            number: 1,
            last,
            stored_at: 50,
            sender: watch::Sender::new(last),
        };
        let lasts = lasts
            .iter()
            .map(|(subject, last)| ((*subject).to_owned(), *last))
            .collect();
        Ledger::new(&head, HashMap::new(), lasts)
    }

    fn record(subject: &str, id: &str, expect: Option<u64>) -> NewRecord {
        NewRecord {
            subject: Subject::new(subject).unwrap(),
            message_id: id.to_owned(),
            expect,
            payload: Bytes::new(),
        }
    }

    #[test]
    fn appends_of_one_group_see_each_other() {
        let mut ledger = ledger(7, &[("ev.a", 7)]);
        let first = ledger.decide(vec![record("ev.a", "1", Some(7))], 60).unwrap();
        assert_eq!(first[0].sequence, 8);
        let stale = ledger.decide(vec![record("ev.a", "2", Some(7))], 60);
        assert!(matches!(stale, Err(AppendError::Conflict { .. })));
        let second = ledger.decide(vec![record("ev.a", "3", Some(8))], 60).unwrap();
        assert_eq!(second[0].sequence, 9);
        assert_eq!(ledger.rows.len(), 2);
    }

    #[test]
    fn a_conflict_on_the_last_record_places_none() {
        let mut ledger = ledger(0, &[]);
        let append = vec![record("ev.a", "1", Some(0)), record("ev.b", "2", Some(4))];
        assert!(
            matches!(ledger.decide(append, 60), Err(AppendError::Conflict { subject }) if subject.as_str() == "ev.b")
        );
        assert_eq!((ledger.last, ledger.rows.len()), (0, 0));
    }

    #[test]
    fn a_repetition_inside_one_group_is_a_duplicate_even_where_overtaken() {
        let mut ledger = ledger(0, &[]);
        ledger.decide(vec![record("ev.a", "1", Some(0))], 60).unwrap();
        ledger.decide(vec![record("ev.a", "2", None)], 60).unwrap();
        let again = ledger.decide(vec![record("ev.a", "1", Some(0))], 60).unwrap();
        assert_eq!(
            again,
            [Appended {
                sequence: 1,
                duplicate: true
            }]
        );
        let partly = ledger.decide(vec![record("ev.a", "1", None), record("ev.b", "3", Some(0))], 60);
        assert!(matches!(partly, Err(AppendError::Conflict { subject }) if subject.as_str() == "ev.a"));
    }

    #[test]
    fn a_clock_set_back_does_not_turn_the_order_of_times() {
        let mut ledger = ledger(0, &[]);
        ledger.decide(vec![record("ev.a", "1", None)], 10).unwrap();
        assert_eq!(ledger.stored_at, 50);
    }

    #[test]
    fn a_subject_of_another_log_is_refused() {
        let append = [record("msg.a", "1", None)];
        assert!(matches!(
            check_form(&append, &["ev", "uq"], 10),
            Err(AppendError::Malformed(_))
        ));
        assert!(check_form(&append, &["msg"], 10).is_ok());
    }
}
