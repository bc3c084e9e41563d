//! Names of streams and subjects under the installation prefix.

use crate::layout::{Bucket, Log};
use crate::{Subject, Token};

/// Derives every name the engine uses from the installation prefix.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &Token) -> Self {
        Self {
            prefix: prefix.as_str().to_owned(),
        }
    }

    /// The stream of a log, as `TIDINGS_EVENTS-0`.
    pub(super) fn stream(&self, log: Log) -> String {
        self.capital(&log.name())
    }

    /// The stream of jobs.
    pub(super) fn deliveries(&self) -> String {
        self.capital("DELIVERIES")
    }

    /// The stream of dead letters.
    pub(super) fn dead_letters(&self) -> String {
        self.capital("DEADLETTERS")
    }

    /// The bucket's NATS name, as `tidings_receipts`.
    pub(super) fn bucket(&self, bucket: Bucket) -> String {
        format!("{}_{}", self.prefix, bucket.name())
    }

    /// What stands before a log's subjects on the wire, with its final dot: `tidings.0.`.
    pub(super) fn log_space(&self, log: Log) -> Space {
        Space(match log {
            Log::Events(shard) | Log::Messages(shard) => format!("{}.{shard}.", self.prefix),
            Log::Attempts => format!("{}.", self.prefix),
        })
    }

    /// What stands before the queue's subjects on the wire.
    pub(super) fn queue_space(&self) -> Space {
        Space(format!("{}.", self.prefix))
    }

    /// What stands before a bucket's keys on the wire.
    pub(super) fn bucket_space(&self, bucket: Bucket) -> Space {
        Space(format!("$KV.{}.", self.bucket(bucket)))
    }

    fn capital(&self, name: &str) -> String {
        format!("{}_{name}", self.prefix.to_uppercase())
    }
}

/// A part of the server's subjects, which the ports' subjects live in.
#[derive(Debug, Clone)]
pub(super) struct Space(String);

impl Space {
    /// The subject (or filter) on the wire.
    pub(super) fn wire(&self, subject: &str) -> String {
        format!("{}{subject}", self.0)
    }

    /// The port's subject of a wire subject; `None` where it is not of this space or this crate's form.
    pub(super) fn subject(&self, wire: &str) -> Option<Subject> {
        Subject::new(wire.strip_prefix(&self.0)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_have_subjects_of_their_own() {
        let names = Names::new(&Token::new("tidings").unwrap());
        assert_eq!(names.stream(Log::Events(3)), "TIDINGS_EVENTS-3");
        let space = names.log_space(Log::Events(3));
        assert_eq!(space.wire("ev.t.user.u"), "tidings.3.ev.t.user.u");
        assert_eq!(
            space.subject("tidings.3.ev.t.user.u"),
            Subject::new("ev.t.user.u").ok()
        );
        assert_eq!(space.subject("tidings.2.ev.t.user.u"), None);
        assert_eq!(names.log_space(Log::Attempts).wire("att.t.e"), "tidings.att.t.e");
        assert_eq!(
            names.bucket_space(Bucket::Cursors).wire("a.b"),
            "$KV.tidings_cursors.a.b"
        );
    }
}
