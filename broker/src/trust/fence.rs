//! What a log must hold at least, and the comparison with what it does hold: without any I/O.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::layout::Log;
use crate::{LogState, ReadError, Record};

use super::Distrust;

/// How often a log is asked that does not seem right, …
pub(super) const LOOKS: u32 = 5;
/// … and how long is waited in between: two seconds in all, longer than a new leader takes to apply what it has.
pub(super) const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// What is known of a log of events from elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fence {
    /// When it was made; none where that is not known yet, as when the read database was made anew.
    pub created: Option<SystemTime>,
    /// How many records it has at least.
    pub end: u64,
    /// A record of it, as sequence and [`digest`]; none where there is none yet.
    pub last: Option<Known>,
    /// Another, which was found not to be as it was; whoever finds it as it was may trust it again.
    pub suspect: Option<Known>,
}

/// A record as it is known: its sequence and [`digest`].
pub type Known = (u64, [u8; 32]);

impl Fence {
    /// Both together. Of two times and two records, those of the other stand.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self {
            created: other.created.or(self.created),
            end: self.end.max(other.end),
            last: other.last.or(self.last),
            suspect: other.suspect.or(self.suspect),
        }
    }
}

/// The SHA-256 of all that an append gave a record: its sequence, subject, message id and payload, each with its
/// length before it. Not of the time it was stored at, which a log that is restored cannot be given.
pub fn digest(record: &Record) -> [u8; 32] {
    let subject = record.subject.as_str();
    digest_of(record.sequence, subject, &record.message_id, &record.payload)
}

/// The [`digest`] of a record that is there in its parts.
pub fn digest_of(sequence: u64, subject: &str, message_id: &str, payload: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(sequence.to_be_bytes());
    for part in [subject.as_bytes(), message_id.as_bytes(), payload] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Compares what a log says of itself with its fence.
pub fn judge(log: Log, fence: &Fence, state: &LogState) -> Result<(), Distrust> {
    let expected = fence.end.max(fence.last.map_or(0, |(sequence, _)| sequence));
    if let Some(known) = fence
        .created
        .filter(|known| micros(*known) != micros(state.created))
    {
        return Err(Distrust::Replaced {
            log,
            known,
            found: state.created,
            expected,
            end: state.last,
        });
    }
    if state.last < expected {
        return Err(Distrust::Backwards {
            log,
            expected,
            end: state.last,
        });
    }
    // What is kept for ever begins at its first record.
    if state.first != 1 {
        return Err(Distrust::Missing {
            log,
            last: 0,
            found: (state.first <= state.last).then_some(state.first),
        });
    }
    if state.missing > 0 {
        return Err(Distrust::Holes {
            log,
            missing: state.missing,
            end: state.last,
        });
    }
    Ok(())
}

/// Compares what a log has at the place of a record with what is known of it.
pub fn judge_record(
    log: Log,
    (sequence, known): Known,
    found: &Result<Option<Record>, ReadError>,
) -> Result<(), Distrust> {
    match found {
        Ok(Some(record)) => {
            let found = digest(record);
            if found == known {
                return Ok(());
            }
            Err(Distrust::Rewritten {
                log,
                sequence,
                known,
                found,
            })
        }
        Ok(None) => Err(Distrust::Missing {
            log,
            last: sequence.saturating_sub(1),
            found: None,
        }),
        Err(ReadError::Damaged { .. }) => Err(Distrust::Unreadable { log, sequence }),
        // Nothing is known.
        Err(ReadError::Unavailable(_)) => Ok(()),
    }
}

/// Databases keep microseconds.
fn micros(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Subject;

    const LOG: Log = Log::Events(0);

    fn at(micros: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(micros)
    }

    fn state(last: u64) -> LogState {
        LogState {
            created: at(10) + Duration::from_nanos(7),
            first: 1,
            last,
            missing: 0,
        }
    }

    fn record(sequence: u64, payload: &'static str) -> Record {
        Record {
            sequence,
            subject: Subject::new("ev.t.user.u").unwrap(),
            message_id: "t:1".to_owned(),
            stored_at: at(sequence),
            payload: Bytes::from_static(payload.as_bytes()),
        }
    }

    fn fence(end: u64, last: Option<&Record>) -> Fence {
        Fence {
            created: Some(at(10)),
            end,
            last: last.map(|record| (record.sequence, digest(record))),
            suspect: None,
        }
    }

    #[test]
    fn a_log_that_goes_as_far_or_further_is_trusted() {
        let last = record(3, "a");
        for (end, known) in [
            (0, Fence::default()),
            (0, fence(0, None)),
            (5, fence(5, None)),
            (9, fence(3, Some(&last))),
        ] {
            assert_eq!(judge(LOG, &known, &state(end)), Ok(()), "{known:?}");
        }
    }

    #[test]
    fn a_log_of_another_time_or_too_short_is_not() {
        let replaced = LogState {
            created: at(11),
            ..state(9)
        };
        assert!(matches!(
            judge(LOG, &fence(3, None), &replaced),
            Err(Distrust::Replaced {
                end: 9,
                expected: 3,
                ..
            })
        ));
        // The end seen counts although no record is known there.
        let short = judge(LOG, &fence(5, Some(&record(3, "a"))), &state(4));
        assert_eq!(
            short,
            Err(Distrust::Backwards {
                log: LOG,
                expected: 5,
                end: 4
            })
        );
    }

    #[test]
    fn a_record_changed_or_gone_is_found() {
        let known = (3, digest(&record(3, "a")));
        let judged = |found| judge_record(LOG, known, &found);
        assert_eq!(judged(Ok(Some(record(3, "a")))), Ok(()));
        assert!(matches!(
            judged(Ok(Some(record(3, "b")))),
            Err(Distrust::Rewritten { sequence: 3, .. })
        ));
        assert!(matches!(
            judged(Ok(None)),
            Err(Distrust::Missing {
                last: 2,
                found: None,
                ..
            })
        ));
        let damaged = ReadError::Damaged {
            sequence: 3,
            cause: "rubbish".into(),
        };
        assert!(matches!(
            judged(Err(damaged)),
            Err(Distrust::Unreadable { sequence: 3, .. })
        ));
        assert_eq!(judged(Err(ReadError::Unavailable("away".into()))), Ok(()));
        let holes = LogState {
            missing: 2,
            ..state(9)
        };
        assert!(matches!(
            judge(LOG, &fence(0, None), &holes),
            Err(Distrust::Holes {
                missing: 2,
                end: 9,
                ..
            })
        ));
        let purged = LogState { first: 4, ..state(3) };
        assert!(matches!(
            judge(LOG, &fence(0, None), &purged),
            Err(Distrust::Missing {
                last: 0,
                found: None,
                ..
            })
        ));
    }

    #[test]
    fn every_part_of_a_record_counts_but_its_time() {
        let one = record(3, "a");
        let parts: [fn(&mut Record); 4] = [
            |record| record.sequence = 4,
            |record| record.subject = Subject::new("ev.t.user.v").unwrap(),
            |record| record.message_id = "t:2".to_owned(),
            |record| record.payload = Bytes::from_static(b"b"),
        ];
        for change in parts {
            let mut other = one.clone();
            change(&mut other);
            assert_ne!(digest(&one), digest(&other));
        }
        assert_eq!(
            digest(&one),
            digest(&Record {
                stored_at: at(99),
                ..one.clone()
            })
        );
    }
}
