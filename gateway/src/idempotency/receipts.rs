//! The receipts of keyed requests: who runs one, from which seed, and what was answered.
//!
//! A receipt is one value of the bucket, changed by compare-and-set only. What it holds of the request is a keyed hash,
//! seed and answer are sealed: both hold secrets, or make them. An answer that is longer than a value may be goes on in
//! values of its own, written before the receipt names them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker::{Expect, KeyValue, KvError, MAX_RECORD, Subject};
use domain::Timestamp;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use ulid::Ulid;

use super::Answer;
use crate::draw::{Draw, SEED};
use crate::keys::KeyHasher;
use crate::seal::Sealer;

const VERSION: u8 = 1;

/// The most bytes of an answer in one value: what else a receipt holds takes less than the rest.
const PART: usize = MAX_RECORD - 64 * 1024;

/// Why a receipt cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiptError {
    /// The bucket could not be reached.
    #[error("the receipts are unavailable")]
    Unavailable(#[from] KvError),
    /// It is of another form, or was sealed under another master key.
    #[error("the receipt of a request cannot be read")]
    Unreadable,
}

/// What [`Receipts`] are kept with.
pub(crate) struct Settings {
    /// The bucket they are in.
    pub(crate) bucket: Arc<dyn KeyValue>,
    /// Seals what is secret in them.
    pub(crate) sealer: Sealer,
    /// Hashes what requests consist of.
    pub(crate) hasher: KeyHasher,
    /// How long a client can repeat itself.
    pub(crate) kept: Duration,
    /// How long a run may take before another may take over.
    pub(crate) run: Duration,
    /// No other process can be running requests: what another has left running has ended.
    pub(crate) alone: bool,
}

/// The receipts.
pub(crate) struct Receipts {
    settings: Settings,
    /// This process.
    owner: String,
}

#[derive(Serialize, Deserialize)]
struct Receipt {
    v: u8,
    content: ByteBuf,
    /// Sealed.
    seed: ByteBuf,
    state: State,
}

#[derive(Serialize, Deserialize)]
enum State {
    /// A process works on it, until then at most.
    Running { until: i64, owner: String },
    /// It was not answered for good: the next may try.
    Open,
    /// It was answered: the first part of the sealed answer, and where the others are.
    Answered {
        first: ByteBuf,
        others: u64,
        revision: u64,
    },
}

/// What a key is good for.
pub(super) enum Begun {
    /// Running the handler.
    Ours(Ticket),
    /// Nothing more: it was answered.
    Answered(Answer),
    /// Nothing yet: another is at it.
    Running,
    /// Nothing: it was another request's.
    Other,
}

impl Begun {
    /// In one word, for measuring.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Ours(ticket) if ticket.draw.repeats().is_some() => "resumed",
            Self::Ours(_) => "first",
            Self::Answered(_) => "replayed",
            Self::Running => "running",
            Self::Other => "reused",
        }
    }
}

/// The right to run the handler and to say how it ended.
pub(super) struct Ticket {
    place: Subject,
    content: [u8; 32],
    draw: Draw,
    revision: u64,
}

impl Ticket {
    /// What the run draws from.
    pub(super) fn draw(&self) -> &Draw {
        &self.draw
    }
}

impl Receipts {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            owner: Ulid::generate().to_string(),
        }
    }

    /// Begins a request, or tells what has become of it. `scope` tells whose it is, its address and its key, `content`
    /// what it asks for.
    pub(super) async fn begin(&self, scope: &[&[u8]], content: &[&[u8]]) -> Result<Begun, ReceiptError> {
        let hasher = &self.settings.hasher;
        let place = Subject::new(format!("request.{}", hex::encode(hasher.hash_all(scope))));
        let place = place.map_err(|_| ReceiptError::Unreadable)?;
        let content = hasher.hash_all(content);
        let draw = Draw::fresh();
        let first = self.running(&place, content, &draw);
        match self.put(&place, &first, Expect::Absent).await {
            Err(KvError::Conflict(_)) => self.go_on(place, content).await,
            put => Ok(Begun::Ours(Ticket {
                revision: put?,
                place,
                content,
                draw,
            })),
        }
    }

    /// Where a receipt is there already.
    async fn go_on(&self, place: Subject, content: [u8; 32]) -> Result<Begun, ReceiptError> {
        let Some(entry) = self.settings.bucket.get(&place).await? else {
            // It expired in between: the client sends its request again.
            return Ok(Begun::Running);
        };
        let known: Receipt = rmp_serde::from_slice(&entry.value).map_err(|_| ReceiptError::Unreadable)?;
        if known.v != VERSION {
            return Err(ReceiptError::Unreadable);
        }
        if *known.content != content {
            return Ok(Begun::Other);
        }
        match known.state {
            State::Answered {
                first,
                others,
                revision,
            } => {
                let answer = self.read(&place, first, others, revision).await?;
                return Ok(Begun::Answered(answer));
            }
            State::Running { until, owner } if self.still_runs(until, &owner) => return Ok(Begun::Running),
            State::Running { .. } | State::Open => {}
        }
        let seed = self.settings.sealer.open(&seed_of(&place), &known.seed);
        let seed: Option<[u8; SEED]> = seed.and_then(|seed| seed.try_into().ok());
        let draw = Draw::again(&seed.ok_or(ReceiptError::Unreadable)?);
        let again = self.running(&place, content, &draw);
        match self.put(&place, &again, Expect::Revision(entry.revision)).await {
            // Somebody else was quicker.
            Err(KvError::Conflict(_)) => Ok(Begun::Running),
            put => Ok(Begun::Ours(Ticket {
                revision: put?,
                place,
                content,
                draw,
            })),
        }
    }

    fn still_runs(&self, until: i64, owner: &str) -> bool {
        let ended = self.settings.alone && owner != self.owner;
        !ended && now().as_millis() < until
    }

    /// Keeps the answer. That it cannot be kept is no reason not to give it: the next under the key runs again.
    pub(super) async fn finish(&self, ticket: Ticket, answer: &Answer) {
        if let Err(error) = self.write(&ticket, answer).await {
            tracing::warn!(%error, "the answer to a keyed request could not be kept");
        }
    }

    /// Lets the next request under the key try again.
    pub(super) async fn leave(&self, ticket: Ticket) {
        if let Err(error) = self.settle(&ticket, State::Open).await {
            tracing::warn!(%error, "a keyed request stays marked as running until its time is over");
        }
    }

    async fn write(&self, ticket: &Ticket, answer: &Answer) -> Result<(), KvError> {
        let plain = rmp_serde::to_vec_named(answer).map_err(|error| KvError::Unavailable(Box::new(error)))?;
        let sealed = self.settings.sealer.seal(&answer_of(&ticket.place), &plain);
        let mut parts = sealed.chunks(PART);
        let first = parts.next().unwrap_or_default().to_vec().into();
        let mut others = 0;
        for bytes in parts {
            let place = part(&ticket.place, ticket.revision, others)?;
            let value = bytes.to_vec().into();
            let kept = Some(self.settings.kept);
            self.settings
                .bucket
                .put(&place, value, Expect::Anything, kept)
                .await?;
            others += 1;
        }
        let revision = ticket.revision;
        let answered = State::Answered {
            first,
            others,
            revision,
        };
        self.settle(ticket, answered).await
    }

    async fn settle(&self, ticket: &Ticket, state: State) -> Result<(), KvError> {
        let receipt = Receipt {
            state,
            ..self.running(&ticket.place, ticket.content, &ticket.draw)
        };
        let settled = self
            .put(&ticket.place, &receipt, Expect::Revision(ticket.revision))
            .await;
        match settled {
            // The run took too long and another has taken over, with the same seed and so to the same end.
            Ok(_) | Err(KvError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn read(
        &self,
        place: &Subject,
        first: ByteBuf,
        others: u64,
        revision: u64,
    ) -> Result<Answer, ReceiptError> {
        let mut sealed = first.into_vec();
        for number in 0..others {
            let next = part(place, revision, number)?;
            let entry = self.settings.bucket.get(&next).await?;
            sealed.extend_from_slice(&entry.ok_or(ReceiptError::Unreadable)?.value);
        }
        let plain = self.settings.sealer.open(&answer_of(place), &sealed);
        let plain = plain.ok_or(ReceiptError::Unreadable)?;
        rmp_serde::from_slice(&plain).map_err(|_| ReceiptError::Unreadable)
    }

    fn running(&self, place: &Subject, content: [u8; 32], draw: &Draw) -> Receipt {
        let seed = self.settings.sealer.seal(&seed_of(place), draw.seed().as_slice());
        Receipt {
            v: VERSION,
            content: content.to_vec().into(),
            seed: seed.into(),
            state: State::Running {
                until: now().saturating_add(self.settings.run).as_millis(),
                owner: self.owner.clone(),
            },
        }
    }

    async fn put(&self, place: &Subject, receipt: &Receipt, expect: Expect) -> Result<u64, KvError> {
        let value =
            rmp_serde::to_vec_named(receipt).map_err(|error| KvError::Unavailable(Box::new(error)))?;
        let kept = Some(self.settings.kept);
        self.settings.bucket.put(place, value.into(), expect, kept).await
    }
}

/// Where a later part of an answer is; each run has its own, so that those of two that overlap are not mixed.
fn part(place: &Subject, revision: u64, number: u64) -> Result<Subject, KvError> {
    Subject::new(format!("{place}.{revision}.{number}"))
        .map_err(|error| KvError::Unavailable(Box::new(error)))
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// What a sealed seed is bound to.
fn seed_of(place: &Subject) -> String {
    format!("{place}/seed")
}

/// What a sealed answer is bound to.
fn answer_of(place: &Subject) -> String {
    format!("{place}/answer")
}

#[cfg(test)]
mod tests;
