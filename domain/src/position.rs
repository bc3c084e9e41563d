//! A position: where in which log something stands.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a position, such as e0-42 (as `Tidings-Position` gives it)")]
pub struct InvalidPosition;

/// Which kind of log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Commits: facts about aggregates.
    Events,
    /// Messages: tenants' application events.
    Messages,
    /// The delivery log.
    Deliveries,
}

impl Source {
    fn letter(self) -> char {
        match self {
            Self::Events => 'e',
            Self::Messages => 'm',
            Self::Deliveries => 'd',
        }
    }
}

/// A place in a log: its kind, its shard, and the sequence there. In text: `e0-42`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Position {
    /// Which kind of log.
    pub source: Source,
    /// Which of the logs of that kind.
    pub shard: u16,
    /// The sequence in it, from 1; 0 is "before everything".
    pub sequence: u64,
}

impl Position {
    /// The log it is a place of, as `e0`.
    pub fn log(&self) -> String {
        format!("{}{}", self.source.letter(), self.shard)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}-{}", self.source.letter(), self.shard, self.sequence)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (log, sequence) = text.split_once('-').ok_or(InvalidPosition)?;
        let mut log = log.chars();
        let source = match log.next() {
            Some('e') => Source::Events,
            Some('m') => Source::Messages,
            Some('d') => Source::Deliveries,
            _ => return Err(InvalidPosition),
        };
        Ok(Self {
            source,
            shard: digits(log.as_str())?,
            sequence: digits(sequence)?,
        })
    }
}

/// Integers without the sign and the leading zeros that `parse` would allow: a position has one form.
fn digits<T: FromStr>(text: &str) -> Result<T, InvalidPosition> {
    let padded = text.len() > 1 && text.starts_with('0');
    if padded || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidPosition);
    }
    text.parse().map_err(|_| InvalidPosition)
}

impl TryFrom<String> for Position {
    type Error = InvalidPosition;

    fn try_from(text: String) -> Result<Self, InvalidPosition> {
        text.parse()
    }
}

impl From<Position> for String {
    fn from(position: Position) -> Self {
        position.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_as_it_prints() {
        for text in ["e0-42", "m3-0", "d65535-18446744073709551615"] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
        for text in [
            "", "e-1", "x0-1", "e0", "e0-", "e0-+1", "e65536-1", "e0-1-1", "e0--1", "ä0-1", "e00-1", "e0-01",
        ] {
            assert_eq!(
                text.parse::<Position>(),
                Err(InvalidPosition),
                "{text:?} was accepted"
            );
        }
    }
}
