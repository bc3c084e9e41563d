//! Gates: how many of a thing a tenant can have, kept exactly, between processes too.
//!
//! Where a tenant has a quota, each commit that makes one more of the thing goes through the thing's gate: a record on
//! a subject of its own, appended with the commit and expecting the gate to be as it was read. Of two that would both
//! be the last, the log accepts one. The record says how many there are at most: as somebody counted them once, and
//! one more at each passage since. What was taken away since is not known here, so a gate that looks full is counted
//! anew before anybody is refused. What has no quota passes no gate and pays nothing.

use std::time::SystemTime;

use broker::{NewRecord, Subject};
use domain::{ClaimRecord, Position, Source, TenantId, Timestamp};

use crate::{Dispatcher, LoadError, SHARD};

/// The kind of the claims that gates are kept as.
const KIND: &str = "quota";

/// A gate as it was read.
#[derive(Debug, Clone)]
pub struct Gate {
    tenant: TenantId,
    thing: String,
    subject: Subject,
    sequence: u64,
    /// Its last passage; none if it never had one.
    pub passed: Option<Passed>,
}

/// The last passage of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// How many of the thing there were after it, at most.
    pub total: u64,
    /// When the log stored it.
    pub at: SystemTime,
}

/// What a commit on an aggregate of one kind takes along.
#[derive(Debug, Clone)]
pub(crate) struct Passage {
    pub(crate) aggregate: &'static str,
    subject: Subject,
    sequence: u64,
    payload: Vec<u8>,
}

impl Passage {
    /// The record beside the commit of this message id.
    pub(crate) fn record(&self, message_id: &str) -> NewRecord {
        NewRecord {
            subject: self.subject.clone(),
            message_id: format!("{message_id}:{KIND}"),
            expect: Some(self.sequence),
            payload: self.payload.clone().into(),
        }
    }
}

impl Dispatcher {
    /// Reads the gate of a thing, as `users`.
    pub async fn gate(&self, tenant: &TenantId, thing: &str) -> Result<Gate, LoadError> {
        let hash = self.claim_key.hash(tenant, KIND, thing);
        let subject =
            Subject::new(ClaimRecord::subject(tenant, KIND, &hash)).map_err(LoadError::InvalidId)?;
        let last = self.log.last(&subject).await?;
        let sequence = last.as_ref().map_or(0, |record| record.sequence);
        let passed = last.and_then(|record| {
            let claim = ClaimRecord::decode(&record.payload).ok()?;
            let (_, passed) = claim.holder.as_deref()?.split_once('=')?;
            // The time the log stored it does not count: a log that was restored says another. One that names no time
            // was written by an earlier program, and is counted anew.
            let (total, at) = passed.split_once('@')?;
            Some(Passed {
                total: total.parse().ok()?,
                at: Timestamp::from_millis(at.parse().ok()?).into(),
            })
        });
        Ok(Gate {
            tenant: tenant.clone(),
            thing: thing.to_owned(),
            subject,
            sequence,
            passed,
        })
    }

    /// A dispatcher whose commits on aggregates of this kind go through the gate, after which there are `total` of the
    /// thing at most. Where somebody else went through since it was read, the command ends as
    /// [`Error::Contended`](crate::Error::Contended), and nothing has happened.
    #[must_use]
    pub fn through(&self, gate: &Gate, aggregate: &'static str, total: u64) -> Self {
        let now = Timestamp::from(SystemTime::now());
        let claim = ClaimRecord {
            v: ClaimRecord::VERSION,
            tenant: gate.tenant.to_string(),
            kind: KIND.to_owned(),
            holder: Some(format!("{}={total}@{}", gate.thing, now.as_millis())),
        };
        let passage = Passage {
            aggregate,
            subject: gate.subject.clone(),
            sequence: gate.sequence,
            payload: claim.encode(),
        };
        let mut through = self.clone();
        through.passage = Some(passage.into());
        // One for what the cache remembers, one for what the log says: the gate stays as it was read.
        through.attempts = self.attempts.min(2);
        through
    }

    /// Where the log of events ends: what was acknowledged before the call stands there or before.
    pub async fn end(&self) -> Result<Position, LoadError> {
        Ok(Position {
            source: Source::Events,
            shard: SHARD,
            sequence: self.log.state().await?.last,
        })
    }
}
