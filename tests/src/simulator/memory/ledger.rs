//! One log in memory: the rules of `EventLog::append` over a vector.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use broker::layout::Log;
use broker::{AppendError, Appended, Filter, LogState, MAX_APPEND, NewRecord, Record, Subject};
use tokio::sync::Notify;

use super::{Clock, lock};

/// The largest record taken.
const LIMIT: usize = 1 << 20;

/// What a log can be made to break, so that the checks can show that they see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Breach {
    /// Nothing.
    #[default]
    None,
    /// It stores an append whatever the append expects.
    IgnoresExpectations,
    /// It acknowledges every eleventh append without storing it.
    ForgetsAppends,
    /// It stores an append again that it has stored already.
    StoresRepetitions,
    /// Of an append of several records it stores only the last.
    StoresInPart,
}

/// How a storage keeps its promises.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Which of them it breaks.
    pub breach: Breach,
    /// How long a log knows the id of a record again; the contract asks for two minutes.
    pub remembers: Duration,
}

impl Default for Manner {
    /// All of them, and for ever.
    fn default() -> Self {
        Self {
            breach: Breach::None,
            remembers: Duration::MAX,
        }
    }
}

/// A log.
#[derive(Debug)]
pub struct Ledger {
    log: Log,
    created: SystemTime,
    clock: Clock,
    manner: Manner,
    state: Mutex<State>,
    grown: Notify,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Record>,
    ids: HashMap<String, Known>,
    lasts: HashMap<Subject, u64>,
    appends: u64,
}

/// Where the record of an id stands, and since when.
#[derive(Debug, Clone, Copy)]
struct Known {
    sequence: u64,
    since: SystemTime,
}

impl Ledger {
    pub(super) fn new(log: Log, clock: Clock, manner: Manner) -> Self {
        Self {
            log,
            created: clock.now(),
            clock,
            manner,
            state: Mutex::default(),
            grown: Notify::new(),
        }
    }

    /// Refuses an append that breaks a rule of [`NewRecord`], whatever the log holds.
    pub(super) fn check_form(&self, records: &[NewRecord]) -> Result<(), AppendError> {
        if records.is_empty() || records.len() > MAX_APPEND {
            return Err(AppendError::Malformed("it holds no record, or more than 1000"));
        }
        let (mut subjects, mut ids) = (HashSet::new(), HashSet::new());
        for record in records {
            let (bytes, id) = (record.payload.len(), record.message_id.as_str());
            if bytes > LIMIT {
                return Err(AppendError::TooLarge { bytes, limit: LIMIT });
            }
            if !(1..=256).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(AppendError::Malformed(
                    "a message id is not 1 to 256 visible ASCII characters",
                ));
            }
            if !ids.insert(id) {
                return Err(AppendError::Malformed("two records have the same message id"));
            }
            let root = record.subject.as_str().split('.').next().unwrap_or_default();
            if !self.log.subject_roots().contains(&root) {
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

    /// Stores the records of a well-formed append, all or none.
    pub fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        let appended = lock(&self.state).append(records, self.clock.now(), self.manner);
        self.wake();
        appended
    }

    /// Up to `limit` records after a sequence and up to another that a filter selects.
    pub(crate) fn read(&self, after: u64, upto: u64, filter: Option<&Filter>, limit: usize) -> Vec<Record> {
        let state = lock(&self.state);
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        let later = state.records.get(after..).unwrap_or_default();
        let selected = later
            .iter()
            .take_while(|record| record.sequence <= upto)
            .filter(|record| filter.is_none_or(|filter| filter.matches(&record.subject)));
        selected.take(limit).cloned().collect()
    }

    /// The last record on a subject, of those up to a sequence.
    pub(crate) fn last(&self, subject: &Subject) -> Option<Record> {
        let state = lock(&self.state);
        let mut backwards = state.records.iter().rev();
        backwards.find(|record| record.subject == *subject).cloned()
    }

    /// The last sequence of a replica that is so far behind.
    pub(crate) fn end_of_replica(&self, behind: Duration) -> u64 {
        let time = self.clock.now() - behind;
        let state = lock(&self.state);
        state.records.partition_point(|record| record.stored_at <= time) as u64
    }

    /// Everything in it.
    pub fn records(&self) -> Vec<Record> {
        self.read(0, u64::MAX, None, usize::MAX)
    }

    pub(super) fn state(&self) -> LogState {
        LogState {
            created: self.created,
            first: 1,
            last: lock(&self.state).records.len() as u64,
            missing: 0,
        }
    }

    pub(super) fn grown(&self) -> &Notify {
        &self.grown
    }

    pub(super) fn wake(&self) {
        self.grown.notify_waiters();
    }
}

impl State {
    fn append(
        &mut self,
        mut records: Vec<NewRecord>,
        now: SystemTime,
        manner: Manner,
    ) -> Result<Vec<Appended>, AppendError> {
        self.appends += 1;
        let known =
            |known: &mut Known| now.duration_since(known.since).unwrap_or_default() < manner.remembers;
        if manner.remembers < Duration::MAX {
            self.ids.retain(|_, id| known(id));
        }
        match manner.breach {
            Breach::IgnoresExpectations => records.iter_mut().for_each(|record| record.expect = None),
            Breach::ForgetsAppends if self.appends.is_multiple_of(11) => return Ok(self.pretend(&records)),
            Breach::None | Breach::ForgetsAppends => {}
            Breach::StoresRepetitions => self.ids.clear(),
            Breach::StoresInPart => {
                let appended = self.pretend(&records);
                let kept = records.split_off(records.len() - 1);
                self.store(kept, now)?;
                return Ok(appended);
            }
        }
        self.store(records, now)
    }

    fn store(&mut self, records: Vec<NewRecord>, now: SystemTime) -> Result<Vec<Appended>, AppendError> {
        let known = |record: &NewRecord| self.ids.contains_key(&record.message_id);
        let conditional = records.iter().any(|record| record.expect.is_some());
        if conditional && !records.iter().all(known) {
            let stale = |record: &NewRecord| {
                let last = self.lasts.get(&record.subject).copied().unwrap_or(0);
                record.expect.is_some_and(|expected| expected != last)
            };
            // What is known of an append that is not known as a whole has overtaken it.
            if let Some(record) = records.iter().find(|record| stale(record) || known(record)) {
                return Err(AppendError::Conflict {
                    subject: record.subject.clone(),
                });
            }
        }
        Ok(records
            .into_iter()
            .map(|record| self.place(record, now))
            .collect())
    }

    fn place(&mut self, record: NewRecord, now: SystemTime) -> Appended {
        if let Some(known) = self.ids.get(&record.message_id) {
            return Appended {
                sequence: known.sequence,
                duplicate: true,
            };
        }
        let sequence = self.records.len() as u64 + 1;
        let since = now;
        self.ids
            .insert(record.message_id.clone(), Known { sequence, since });
        self.lasts.insert(record.subject.clone(), sequence);
        self.records.push(Record {
            sequence,
            subject: record.subject,
            message_id: record.message_id,
            stored_at: now,
            payload: record.payload,
        });
        Appended {
            sequence,
            duplicate: false,
        }
    }

    /// What an append would be answered, were it stored.
    fn pretend(&self, records: &[NewRecord]) -> Vec<Appended> {
        let last = self.records.len() as u64;
        let place = |(sequence, _)| Appended {
            sequence,
            duplicate: false,
        };
        (last + 1..).zip(records).map(place).collect()
    }
}
