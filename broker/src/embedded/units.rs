//! How times, sequences and places are written in the file, whose integers are signed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bits of a place that hold the sequence; the log's number is above them.
const SEQUENCE_BITS: u32 = 45;

/// Microseconds since 1970; a time outside of what the file can hold becomes the nearest one it can.
pub(super) fn micros(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, span)
}

/// The present, in microseconds since 1970.
pub(super) fn now() -> i64 {
    micros(SystemTime::now())
}

/// A duration in microseconds.
pub(super) fn span(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The time of so many microseconds since 1970.
pub(super) fn time(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(unsigned(micros))
}

/// A count for the file; one it cannot hold becomes the greatest it can.
pub(super) fn signed(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// A count from the file, where no negative one is ever written.
pub(super) fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// Where the record of a sequence lies; a sequence beyond any log's end gives the end of the log.
pub(super) fn place(log_number: i64, sequence: u64) -> i64 {
    (log_number << SEQUENCE_BITS) | signed(sequence).min((1 << SEQUENCE_BITS) - 1)
}

/// The sequence of the record at a place.
pub(super) fn sequence(place: i64) -> u64 {
    unsigned(place & ((1 << SEQUENCE_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_keeps_logs_apart_and_sequences_in_order() {
        assert_eq!(sequence(place(3, 77)), 77);
        assert!(place(3, u64::MAX) < place(4, 0));
        assert!(place(3, 1) < place(3, 2));
        assert!(place(131_073, u64::MAX) > 0);
    }

    #[test]
    fn a_time_survives_the_file_to_the_microsecond() {
        let then = UNIX_EPOCH + Duration::from_micros(1_795_000_000_123_456);
        assert_eq!(time(micros(then)), then);
        assert_eq!(micros(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
