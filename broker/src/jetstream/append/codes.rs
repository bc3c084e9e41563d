//! Error codes of the JetStream API (nats-server `server/errors.json`).

/// A record is larger than the stream takes.
pub(in crate::jetstream) const MESSAGE_TOO_LARGE: u64 = 10_054;
/// The expected last sequence is not the last one.
pub(in crate::jetstream) const WRONG_LAST_SEQUENCE: u64 = 10_071;
/// As before, found against a write that is still under way.
pub(in crate::jetstream) const WRONG_LAST_SEQUENCE_IN_FLIGHT: u64 = 10_164;
/// The message id is just being stored.
pub(in crate::jetstream) const DUPLICATE_IN_FLIGHT: u64 = 10_158;
/// Part of an atomic batch is missing: it was lost on the way or abandoned.
pub(in crate::jetstream) const BATCH_INCOMPLETE: u64 = 10_176;
/// A message id of an atomic batch is stored already.
pub(in crate::jetstream) const BATCH_DUPLICATE: u64 = 10_201;
/// Too many atomic batches are under way.
pub(in crate::jetstream) const BATCHES_IN_FLIGHT: [u64; 2] = [10_210, 10_211];
/// The stream's leader has too much to do.
pub(in crate::jetstream) const TOO_MANY_REQUESTS: u64 = 10_167;
