//! A log that is nowhere: its records are made when they are read. What is read from it costs no server anything, and
//! ten million records take no room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use broker::{
    AppendError, Appended, EventLog, Filter, LogState, NewRecord, ReadError, Record, RecordStream, Subject,
};
use domain::{Commit, TenantId};
use futures::StreamExt as _;

use super::{Generator, TENANTS};

/// Of how many records one is remembered by what it names.
pub(in crate::bench::projections) const EVERY: u64 = 997;

/// What a record names.
#[derive(Debug, Clone)]
pub(in crate::bench::projections) struct Named {
    pub(in crate::bench::projections) sequence: u64,
    pub(in crate::bench::projections) tenant: TenantId,
    pub(in crate::bench::projections) actor: String,
    pub(in crate::bench::projections) kind: String,
    pub(in crate::bench::projections) id: String,
}

type Remembered = Arc<Mutex<BTreeMap<u64, Named>>>;

/// The first records of a generated log.
#[derive(Debug)]
pub(in crate::bench::projections) struct Synthetic {
    seed: u64,
    tenants: usize,
    records: u64,
    /// Where the last reader left off.
    reader: Mutex<Generator>,
    named: Remembered,
}

impl Synthetic {
    /// A log of so many records.
    pub(in crate::bench::projections) fn new(seed: u64, records: u64) -> Self {
        Self::of(seed, TENANTS, records)
    }

    /// A log of so many records of one tenant.
    pub(in crate::bench::projections) fn of_one_tenant(seed: u64, records: u64) -> Self {
        Self::of(seed, 1, records)
    }

    fn of(seed: u64, tenants: usize, records: u64) -> Self {
        Self {
            seed,
            tenants,
            records,
            reader: Mutex::new(Generator::of(seed, tenants)),
            named: Remembered::default(),
        }
    }

    /// What was named by every [`EVERY`]th record read so far, oldest first.
    pub(in crate::bench::projections) fn named(&self) -> Vec<Named> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.values().cloned().collect()
    }
}

/// The record after those a generator has given.
fn next(generator: &mut Generator, named: &Remembered) -> Result<Record, ReadError> {
    let sequence = generator.records() + 1;
    let damaged = |error: anyhow::Error| ReadError::Damaged {
        sequence,
        cause: error.into_boxed_dyn_error(),
    };
    let NewRecord {
        subject,
        message_id,
        payload,
        ..
    } = generator.next().map_err(damaged)?;
    if sequence.is_multiple_of(EVERY)
        && let Ok(commit) = Commit::decode(&payload)
        && let Some(event) = commit.events.first()
    {
        let (kind, id) = commit.subject_of(event);
        let one = Named {
            sequence,
            tenant: commit.tenant.clone(),
            actor: commit.meta.actor.label(),
            kind: kind.to_owned(),
            id: id.to_owned(),
        };
        named
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(sequence, one);
    }
    Ok(Record {
        sequence,
        subject,
        message_id,
        stored_at: UNIX_EPOCH + Duration::from_millis(generator.clock()),
        payload,
    })
}

#[async_trait]
impl EventLog for Synthetic {
    async fn append(&self, _: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        Err(AppendError::Malformed(
            "nothing is appended to a log that is made up",
        ))
    }

    /// Reading on costs as much as what is read; going back makes the log anew up to there.
    async fn read(
        &self,
        after: u64,
        filter: Option<&Filter>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.records() > after {
            *reader = Generator::of(self.seed, self.tenants);
        }
        let mut found = Vec::new();
        while found.len() < limit && reader.records() < self.records {
            let record = next(&mut reader, &self.named)?;
            if record.sequence > after && filter.is_none_or(|filter| filter.matches(&record.subject)) {
                found.push(record);
            }
        }
        Ok(found)
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Record>, ReadError> {
        let mut all = self.read(0, Some(&Filter::exactly(subject)), usize::MAX).await?;
        Ok(all.pop())
    }

    async fn at(&self, sequence: u64) -> Result<Option<Record>, ReadError> {
        let found = self.read(sequence.saturating_sub(1), None, 1).await?;
        Ok(found.into_iter().find(|record| record.sequence == sequence))
    }

    async fn follow(&self, after: u64, filter: Option<Filter>) -> Result<RecordStream, ReadError> {
        let (end, begin) = (
            self.records,
            (Generator::of(self.seed, self.tenants), Arc::clone(&self.named)),
        );
        let records = futures::stream::unfold(begin, move |(mut generator, named)| async move {
            if generator.records() >= end {
                return std::future::pending().await;
            }
            Some((next(&mut generator, &named), (generator, named)))
        });
        let wanted = move |record: &Result<Record, ReadError>| {
            let wanted = record.as_ref().is_ok_and(|record| {
                record.sequence <= after
                    || filter
                        .as_ref()
                        .is_some_and(|filter| !filter.matches(&record.subject))
            });
            std::future::ready(!wanted)
        };
        Ok(Box::pin(records.filter(wanted)))
    }

    async fn state(&self) -> Result<LogState, ReadError> {
        Ok(LogState {
            created: SystemTime::UNIX_EPOCH,
            first: 1,
            last: self.records,
            missing: 0,
        })
    }
}
