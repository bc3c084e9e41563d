//! An aggregate while the log is made: its state, and the records its commands become.

use std::fmt::{Debug, Write as _};

use anyhow::{Context as _, anyhow};
use broker::{NewRecord, Subject};
use cqrs_es::event_sink::EventSink;
use domain::{Claim, ClaimRecord, Commit, Meta, Root, TenantId, encode_event};
use futures::FutureExt as _;
use tokio::task::unconstrained;

/// What one step adds to the log.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) records: Vec<NewRecord>,
    pub(super) events: u64,
}

/// An aggregate with what its next record needs.
#[derive(Debug, Clone)]
pub(super) struct Live<A> {
    tenant: TenantId,
    id: String,
    state: A,
    version: u64,
    prev: Option<Vec<u8>>,
}

impl<A: Root + Debug> Live<A>
where
    A::Error: Debug,
{
    /// One that has no history yet.
    pub(super) fn new(tenant: &TenantId, id: &str) -> Self {
        Self {
            tenant: tenant.clone(),
            id: id.to_owned(),
            state: A::default(),
            version: 0,
            prev: None,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn state(&self) -> &A {
        &self.state
    }

    /// Lets it decide a command; answers whether anything came of it. A refusal is a mistake of this program.
    pub(super) fn act(&mut self, command: A::Command, meta: Meta, out: &mut Out) -> anyhow::Result<bool> {
        let sink = EventSink::default();
        // The domain does no I/O: its decisions are there at once, unless the runtime thinks it is another's turn.
        let decided = unconstrained(self.state.handle(command, &(), &sink)).now_or_never();
        let decided = decided.context("a decision that waits for something")?;
        decided.map_err(|refusal| anyhow!("{} {}: {refusal:?}", A::TYPE, self.id))?;
        let events = unconstrained(sink.collect()).now_or_never();
        let events = events.context("events that are not there")?;
        if events.is_empty() {
            return Ok(false);
        }
        let claims = events.iter().flat_map(A::claims);
        for claim in claims {
            out.records.push(self.claim(&meta.command_id, &claim)?);
        }
        let message_id = format!("{}:{}", self.tenant, meta.command_id);
        let commit = Commit {
            v: Commit::VERSION,
            tenant: self.tenant.clone(),
            aggregate: A::TYPE.to_owned(),
            id: self.id.clone(),
            first_version: self.version + 1,
            events: events.iter().map(encode_event).collect::<Result<_, _>>()?,
            meta,
            prev: self.prev.take(),
        };
        let payload = commit.encode();
        self.prev = Some(Commit::hash(&payload));
        self.version = commit.last_version();
        out.events += events.len() as u64;
        out.records.push(NewRecord {
            subject: Subject::new(Commit::subject(&self.tenant, A::TYPE, &self.id))?,
            message_id,
            expect: None,
            payload: payload.into(),
        });
        Ok(true)
    }

    /// The record beside a commit that takes a value, or gives it back. The hash is one of SHA-256 here, without the
    /// key that an installation has: it is as long.
    fn claim(&self, command_id: &str, claim: &Claim) -> anyhow::Result<NewRecord> {
        let (kind, value) = claim.key();
        let tenant = &self.tenant;
        let digest = Commit::hash(format!("{tenant} {kind} {value}").as_bytes());
        let mut hash = String::with_capacity(64);
        for byte in digest {
            write!(hash, "{byte:02x}")?;
        }
        let holder = format!("{}.{}", A::TYPE, self.id);
        let record = ClaimRecord {
            v: ClaimRecord::VERSION,
            tenant: tenant.to_string(),
            kind: kind.to_owned(),
            holder: matches!(claim, Claim::Take { .. }).then_some(holder),
        };
        Ok(NewRecord {
            message_id: format!("{tenant}:{command_id}:{kind}:{hash}"),
            subject: Subject::new(ClaimRecord::subject(tenant, kind, &hash))?,
            expect: None,
            payload: record.encode().into(),
        })
    }
}
