//! What is wrong with a log, in words that say what was expected, what is there, and what to do.

use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use crate::layout::Log;

/// Why a log of events is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Another log stands under its name.
    #[error(
        "The log {log} is another one under the same name: the one this installation has written was made at \
         {}, this one at {} and it ends at {end}, where at least {expected} records are known.", time(*.known), time(*.found)
    )]
    Replaced {
        /// Which log.
        log: Log,
        /// When the log known was made.
        known: SystemTime,
        /// When this one was made.
        found: SystemTime,
        /// How many records are known.
        expected: u64,
        /// Where this one ends.
        end: u64,
    },
    /// It ends before a record that was in it.
    #[error("The log {log} has gone backwards: it ends at {end}, and {expected} records of it are known.")]
    Backwards {
        /// Which log.
        log: Log,
        /// How many records are known.
        expected: u64,
        /// Where it ends.
        end: u64,
    },
    /// A record is another than it was.
    #[error(
        "The log {log} was rewritten: record {sequence} had the SHA-256 {}, and has {}.", hex::encode(.known), hex::encode(.found)
    )]
    Rewritten {
        /// Which log.
        log: Log,
        /// Which record.
        sequence: u64,
        /// The digest known.
        known: [u8; 32],
        /// The digest of what is there.
        found: [u8; 32],
    },
    /// Records are missing from its middle.
    #[error("The log {log} has lost records: {} is expected after {last}, and {}.", last + 1, .found.map_or_else(|| "nothing is there".to_owned(), |found| format!("{found} comes")))]
    Missing {
        /// Which log.
        log: Log,
        /// The last record that was there.
        last: u64,
        /// The next that is, if one is.
        found: Option<u64>,
    },
    /// Records are missing, and nobody says which.
    #[error("The log {log} has lost records: it ends at {end}, and {missing} are gone from before that.")]
    Holes {
        /// Which log.
        log: Log,
        /// How many are missing.
        missing: u64,
        /// Where it ends.
        end: u64,
    },
    /// A record is there, and makes no sense.
    #[error("The log {log} is damaged: record {sequence} cannot be read any more.")]
    Unreadable {
        /// Which log.
        log: Log,
        /// Which record.
        sequence: u64,
    },
}

impl Distrust {
    /// What to do, whichever it is.
    pub const ADVICE: &'static str = "Nothing is written or delivered until this is settled. Stop every tidings \
        process and look at the disk of the log; then put a sound copy of the log back, or have `tidings restore` \
        build it again from the archive in the read database. docs/operating.md, \"When the log is lost or damaged\", \
        tells how, and how to accept a loss.";

    /// Which log it is about.
    pub fn log(&self) -> Log {
        match *self {
            Self::Replaced { log, .. }
            | Self::Backwards { log, .. }
            | Self::Rewritten { log, .. }
            | Self::Missing { log, .. }
            | Self::Holes { log, .. }
            | Self::Unreadable { log, .. } => log,
        }
    }

    /// Whether one look is enough: what a new leader has not applied yet can only be missing.
    pub(super) fn is_certain(&self) -> bool {
        matches!(self, Self::Replaced { .. } | Self::Rewritten { .. })
    }

    /// The distrust that an error comes from, if one is behind it.
    pub fn behind<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Self> {
        std::iter::successors(Some(error), |&error| error.source()).find_map(|error| {
            error
                .downcast_ref::<Self>()
                .or_else(|| error.downcast_ref::<Arc<Self>>().map(AsRef::as_ref))
        })
    }
}

/// A time as people and programs write it; one that cannot be written is shown as the beginning of all.
fn time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReadError;

    fn backwards() -> Distrust {
        Distrust::Backwards {
            log: Log::Events(0),
            expected: 7,
            end: 3,
        }
    }

    #[test]
    fn what_was_expected_and_what_is_there_is_told() {
        let text = backwards().to_string();
        assert!(
            text.contains("EVENTS-0") && text.contains("ends at 3") && text.contains("7 records"),
            "{text}"
        );
        let replaced = Distrust::Replaced {
            log: Log::Events(1),
            known: SystemTime::UNIX_EPOCH,
            found: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1),
            expected: 5,
            end: 0,
        };
        let text = replaced.to_string();
        assert!(
            text.contains("1970-01-01T00:00:00Z") && text.contains("1970-01-01T00:00:01Z"),
            "{text}"
        );
    }

    #[test]
    fn it_is_found_behind_other_errors() {
        let error = ReadError::Unavailable(Box::new(Arc::new(backwards())));
        assert_eq!(Distrust::behind(&error), Some(&backwards()));
        assert_eq!(Distrust::behind(&ReadError::Unavailable("away".into())), None);
    }
}
