//! The newest records of a log, decoded once and kept until all who follow it have them, within a bound.
//!
//! Nobody waits for the slowest: where there is no more room for it, it is left behind.

use std::collections::{BTreeMap, VecDeque};

use super::chunk::Chunk;

/// How many bytes of records are kept for the slowest follower. Decoded, they take two or three times as much.
const MOST_KEPT: usize = 4 * 1024 * 1024;

/// What a window has for a follower.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// The next records.
    Chunk(Chunk),
    /// Nothing yet: the follower has all there is.
    Nothing,
    /// Nothing any more: the next records must be read from the log.
    Behind,
}

/// A chunk, and the places in the log between which it lies.
#[derive(Debug)]
struct Kept {
    after: u64,
    end: u64,
    chunk: Chunk,
}

/// Chunks without a gap between them, and how far each follower is.
#[derive(Debug, Default)]
pub(super) struct Window {
    chunks: VecDeque<Kept>,
    bytes: usize,
    /// The last sequence that came by; none before the reader has begun.
    reached: Option<u64>,
    /// Where each follower stands, under its number.
    followers: BTreeMap<u64, u64>,
    next_follower: u64,
}

impl Window {
    /// The last sequence that came by; none before [`begin`](Self::begin).
    pub(super) fn reached(&self) -> Option<u64> {
        self.reached
    }

    /// Records come after this sequence.
    pub(super) fn begin(&mut self, after: u64) {
        self.reached = Some(after);
    }

    /// Takes the next records up to `end`; where there is no room, the oldest go, and who has not had them is behind.
    pub(super) fn push(&mut self, chunk: Chunk, end: u64) {
        let after = self.reached.unwrap_or_default();
        self.bytes += chunk.bytes();
        self.reached = Some(end);
        self.chunks.push_back(Kept { after, end, chunk });
        self.prune();
    }

    /// A new follower, that stands at a sequence; answers its number.
    pub(super) fn join(&mut self, at: u64) -> u64 {
        let number = self.next_follower;
        self.next_follower += 1;
        self.followers.insert(number, at);
        number
    }

    /// A follower has left.
    pub(super) fn leave(&mut self, number: u64) {
        self.followers.remove(&number);
        self.prune();
    }

    /// What follows a sequence, where a follower stands now.
    pub(super) fn after(&mut self, number: u64, at: u64) -> Found {
        if self.followers.insert(number, at) != Some(at) {
            self.prune();
        }
        if self.reached.is_some_and(|reached| at >= reached) {
            return Found::Nothing;
        }
        let place = self.chunks.partition_point(|kept| kept.end <= at);
        match self.chunks.get(place) {
            Some(kept) if kept.after <= at => Found::Chunk(kept.chunk.clone().after(at)),
            _ => Found::Behind,
        }
    }

    /// Drops what everybody has, and the oldest of what is too much.
    fn prune(&mut self) {
        let slowest = self.followers.values().copied().min().unwrap_or(u64::MAX);
        while let Some(oldest) = self.chunks.front()
            && (oldest.end <= slowest || (self.bytes > MOST_KEPT && self.chunks.len() > 1))
        {
            self.bytes -= oldest.chunk.bytes();
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use broker::layout::Log;
    use broker::{Record, Subject};

    use super::*;

    fn chunk(sequences: impl IntoIterator<Item = u64>, bytes: usize) -> Chunk {
        let records: Vec<Record> = sequences
            .into_iter()
            .map(|sequence| Record {
                sequence,
                subject: Subject::new("uq.acme.email.x").unwrap(),
                message_id: sequence.to_string(),
                stored_at: SystemTime::UNIX_EPOCH,
                payload: vec![0; bytes].into(),
            })
            .collect();
        Chunk::of(Log::Events(0), &records)
    }

    fn sequences(found: Found) -> Vec<u64> {
        match found {
            Found::Chunk(chunk) => chunk.sequences().collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_follower_gets_what_comes_after_it_and_nothing_twice() {
        let mut window = Window::default();
        let number = window.join(3);
        assert!(
            matches!(window.after(number, 3), Found::Behind),
            "the reader has not begun"
        );
        window.begin(3);
        assert!(matches!(window.after(number, 3), Found::Nothing));
        window.push(chunk([4, 5], 10), 5);
        // A log that forgets may have gaps.
        window.push(chunk([8, 9], 10), 9);
        assert_eq!(sequences(window.after(number, 3)), [4, 5]);
        assert_eq!(sequences(window.after(number, 4)), [5]);
        assert_eq!(sequences(window.after(number, 5)), [8, 9]);
        assert_eq!(sequences(window.after(number, 6)), [8, 9]);
        assert!(matches!(window.after(number, 9), Found::Nothing));
        assert!(
            matches!(window.after(number, 20), Found::Nothing),
            "another projector was faster"
        );
    }

    #[test]
    fn what_everybody_has_is_dropped() {
        let mut window = Window::default();
        window.begin(0);
        let (quick, slow) = (window.join(0), window.join(0));
        window.push(chunk([1], 10), 1);
        window.push(chunk([2], 10), 2);
        assert_eq!(sequences(window.after(quick, 1)), [2]);
        assert_eq!(window.chunks.len(), 2);
        assert_eq!(sequences(window.after(slow, 1)), [2]);
        assert_eq!(window.chunks.len(), 1);
        window.leave(slow);
        assert!(matches!(window.after(quick, 2), Found::Nothing));
        assert_eq!((window.chunks.len(), window.bytes), (0, 0));
        let late = window.join(1);
        assert!(matches!(window.after(late, 1), Found::Behind));
    }

    #[test]
    fn a_slow_follower_holds_no_more_than_the_bound() {
        let mut window = Window::default();
        window.begin(0);
        let slow = window.join(0);
        for sequence in 1..=20 {
            window.push(chunk([sequence], MOST_KEPT / 8), sequence);
            assert!(window.bytes <= MOST_KEPT, "{}", window.bytes);
        }
        assert!(matches!(window.after(slow, 0), Found::Behind));
        assert_eq!(sequences(window.after(slow, 12)), [13]);
        assert_eq!(sequences(window.after(slow, 13)), [14]);
        // A chunk that is too much by itself is handed out all the same.
        window.push(chunk([21], MOST_KEPT * 2), 21);
        assert_eq!(sequences(window.after(slow, 20)), [21]);
    }
}
