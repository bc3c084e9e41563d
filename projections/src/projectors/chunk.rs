//! Decoded records on their way to the followers of a log, which share them.

use std::ops::Range;
use std::sync::Arc;

use broker::Record;
use broker::layout::Log;
use domain::Timestamp;

use super::batch::Decoded;

/// Some records that follow each other in a log; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    decoded: Arc<Decoded>,
    /// Those that count.
    within: Range<usize>,
}

impl Chunk {
    /// Decodes records of a log.
    pub(crate) fn of(log: Log, records: &[Record]) -> Self {
        Decoded::read(log, records).into()
    }

    /// What the chunk holds, and which of it counts.
    pub(super) fn parts(&self) -> (&Decoded, Range<usize>) {
        (&self.decoded, self.within.clone())
    }

    /// How many records it has.
    pub(crate) fn len(&self) -> usize {
        self.within.len()
    }

    /// How long its records are together, as the log has them.
    pub(super) fn bytes(&self) -> usize {
        self.decoded.bytes(self.within.clone())
    }

    /// The sequences of its records, in order.
    pub(super) fn sequences(&self) -> impl Iterator<Item = u64> {
        self.decoded.sequences(self.within.clone())
    }

    /// The last record's sequence, and when it was stored; none in an empty chunk.
    pub(crate) fn end(&self) -> Option<(u64, Timestamp)> {
        let last = self
            .within
            .end
            .checked_sub(1)
            .filter(|_| !self.within.is_empty())?;
        let last = self.decoded.get(last)?;
        Some((last.position.sequence, last.stored_at))
    }

    /// What of it stands after a sequence.
    pub(super) fn after(mut self, sequence: u64) -> Self {
        let passed = self.sequences().take_while(|known| *known <= sequence).count();
        self.within.start += passed;
        self
    }

    /// Each of its records as a chunk of its own.
    pub(super) fn singles(&self) -> impl Iterator<Item = Self> {
        self.within.clone().map(|place| Self {
            decoded: Arc::clone(&self.decoded),
            within: place..place + 1,
        })
    }
}

impl From<Decoded> for Chunk {
    fn from(decoded: Decoded) -> Self {
        Self {
            within: 0..decoded.len(),
            decoded: Arc::new(decoded),
        }
    }
}
