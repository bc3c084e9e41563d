//! Appending by itself: publish or atomic batch, retries under the same ids, and the decision of unknown outcomes.
//! (Appending in company is in `writer`; what fails there comes here.)
//!
//! One append is a loop of tries until a deadline. A try ends with an acknowledgement, a refusal, or silence.
//! A refusal is judged by reading at the stream's leader; silence is followed by the identical try, and at the
//! deadline by the same reading. No lock is held anywhere: any number of appends share the connection.

pub(super) mod codes;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::connection::{Connection, PublishError, Refusal, message_id};
use super::names::Space;
use crate::layout::Log;
use crate::{AppendError, Appended, Cause, MAX_APPEND, NewRecord, Subject};

/// The pause between tries: doubled from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// The headers of an atomic batch that tell whose a message is, and that it is the last (ADR-50).
const BATCH_ID: &str = "Nats-Batch-Id";
const BATCH_COMMIT: &str = "Nats-Batch-Commit";

/// How many leader reads one judgement has under way at once.
const READS: usize = 16;

/// Atomic batches of single appends this process has under way on one stream; the server allows 50 from all
/// together, those of the writer included.
const BATCHES: usize = 12;

/// What appends to one stream need.
#[derive(Debug)]
pub(super) struct Appender {
    pub(super) connection: Arc<Connection>,
    log: Log,
    stream: String,
    space: Space,
    /// A place for each atomic batch under way.
    batches: Semaphore,
}

/// An atomic batch on its way to the server.
#[derive(Debug)]
pub(super) struct BatchUnderWay {
    id: String,
    /// How many of its records are sent.
    sent: usize,
}

/// What a refusal turned out to mean.
enum Verdict {
    /// An earlier try, or an earlier call, stored it.
    Stored(Vec<Appended>),
    /// An expectation fails for good.
    Conflict(Subject),
    /// Every expectation holds: it was refused because of writes under way.
    Open,
}

/// A try that brought no acknowledgement.
enum Failed {
    /// Try again; `sent` tells whether it may have been stored.
    Again { cause: Cause, sent: bool },
    /// Without expectations, some are stored already: each has to be asked for alone.
    Alone,
    /// It is decided.
    Decided(AppendError),
}

impl Appender {
    pub(super) fn new(connection: Arc<Connection>, log: Log, stream: String, space: Space) -> Self {
        Self {
            connection,
            log,
            stream,
            space,
            batches: Semaphore::new(BATCHES),
        }
    }

    /// Appends until it is decided or the deadline is there. `maybe_stored`: an earlier try was not answered.
    pub(super) async fn append_until(
        &self,
        records: &[NewRecord],
        deadline: Instant,
        mut maybe_stored: bool,
    ) -> Result<Vec<Appended>, AppendError> {
        let mut pause = PAUSE.0;
        loop {
            let failed = match self.attempt(records, deadline).await {
                Ok(appended) => return Ok(appended),
                Err(error) => self.judge(records, error).await,
            };
            let last = match failed {
                Ok(appended) => return Ok(appended),
                // This try was refused; of an earlier one that says nothing.
                Err(Failed::Decided(AppendError::Unavailable(cause))) if maybe_stored => {
                    return self.decide(records, cause).await;
                }
                Err(Failed::Decided(error)) => return Err(error),
                Err(Failed::Alone) => return self.append_each(records).await,
                Err(Failed::Again { cause, sent }) => {
                    maybe_stored |= sent;
                    cause
                }
            };
            if Instant::now() + pause >= deadline {
                return if maybe_stored {
                    self.decide(records, last).await
                } else {
                    Err(AppendError::Unavailable(last))
                };
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// One after the other: each acknowledgement tells whether, and where, that record was stored before.
    async fn append_each(&self, records: &[NewRecord]) -> Result<Vec<Appended>, AppendError> {
        let mut appended = Vec::with_capacity(records.len());
        for record in records {
            let deadline = Instant::now() + self.connection.timeouts.append;
            let one = Box::pin(self.append_until(std::slice::from_ref(record), deadline, false)).await;
            match one {
                Ok(one) => appended.extend(one),
                // Others of the append are stored by now.
                Err(AppendError::Unavailable(cause)) => return Err(AppendError::Unknown(cause)),
                Err(error) => return Err(error),
            }
        }
        Ok(appended)
    }

    async fn attempt(&self, records: &[NewRecord], deadline: Instant) -> Result<Vec<Appended>, PublishError> {
        if let [record] = records {
            let subject = self.space.wire(record.subject.as_str());
            let stored = self
                .connection
                .publish(
                    &self.stream,
                    subject,
                    headers(record),
                    record.payload.clone(),
                    deadline,
                )
                .await?;
            return Ok(contiguous(stored.sequence, 1, stored.duplicate));
        }
        let _place = self
            .batches
            .acquire()
            .await
            .map_err(|closed| PublishError::NotSent(closed.into()))?;
        self.publish_batch(records, deadline).await
    }

    /// Stores the records, all or none, in one atomic batch; answers where they stand.
    async fn publish_batch(
        &self,
        records: &[NewRecord],
        deadline: Instant,
    ) -> Result<Vec<Appended>, PublishError> {
        let [earlier @ .., last] = records else {
            return Ok(Vec::new());
        };
        let mut batch = self.begin();
        for record in earlier {
            self.add(&mut batch, record, deadline).await?;
        }
        self.commit(&mut batch, last, deadline).await
    }

    /// Begins an atomic batch; the server learns of it with its first record.
    pub(super) fn begin(&self) -> BatchUnderWay {
        BatchUnderWay {
            id: self.connection.unique(),
            sent: 0,
        }
    }

    /// Sends the next record of a batch, which is not its last.
    pub(super) async fn add(
        &self,
        batch: &mut BatchUnderWay,
        record: &NewRecord,
        deadline: Instant,
    ) -> Result<(), PublishError> {
        let headers = batch_headers(record, &batch.id, batch.sent);
        let subject = self.space.wire(record.subject.as_str());
        self.connection
            .send(subject, headers, record.payload.clone(), deadline)
            .await?;
        batch.sent += 1;
        Ok(())
    }

    /// Sends the last record of a batch, with which it is stored as a whole or not at all; answers where its
    /// records stand.
    pub(super) async fn commit(
        &self,
        batch: &mut BatchUnderWay,
        last: &NewRecord,
        deadline: Instant,
    ) -> Result<Vec<Appended>, PublishError> {
        let mut headers = batch_headers(last, &batch.id, batch.sent);
        headers.insert(BATCH_COMMIT, "1");
        let subject = self.space.wire(last.subject.as_str());
        let stored = self
            .connection
            .publish(&self.stream, subject, headers, last.payload.clone(), deadline)
            .await?;
        batch.sent += 1;
        let first = (stored.sequence + 1).saturating_sub(batch.sent as u64);
        Ok(contiguous(first, batch.sent, stored.duplicate))
    }

    /// Decides what a failed try means; `Ok` where the records turn out to be stored.
    async fn judge(&self, records: &[NewRecord], error: PublishError) -> Result<Vec<Appended>, Failed> {
        let refusal = match error {
            PublishError::Refused(refusal) => refusal,
            PublishError::NotSent(cause) => return Err(Failed::Again { cause, sent: false }),
            PublishError::NoAnswer(cause) => return Err(Failed::Again { cause, sent: true }),
        };
        let conditional = records.iter().any(|record| record.expect.is_some());
        match refusal.err_code {
            codes::BATCH_DUPLICATE if !conditional => Err(Failed::Alone),
            codes::WRONG_LAST_SEQUENCE | codes::WRONG_LAST_SEQUENCE_IN_FLIGHT | codes::BATCH_DUPLICATE => {
                self.resolve(records, refusal).await
            }
            codes::MESSAGE_TOO_LARGE => Err(Failed::Decided(self.too_large(records))),
            _ if is_passing(&refusal) => Err(Failed::Again {
                cause: refusal.into(),
                sent: false,
            }),
            _ => Err(Failed::Decided(AppendError::Unavailable(refusal.into()))),
        }
    }

    async fn resolve(&self, records: &[NewRecord], refusal: Refusal) -> Result<Vec<Appended>, Failed> {
        let duplicate = refusal.err_code == codes::BATCH_DUPLICATE;
        match self.verdict(records).await {
            Ok(Verdict::Stored(appended)) => Ok(appended),
            Ok(Verdict::Conflict(subject)) => Err(Failed::Decided(AppendError::Conflict { subject })),
            // Every expectation holds, but a record without one is in the log already: an append that was put
            // together differently before. One of its records alone will be recognised.
            Ok(Verdict::Open) if duplicate => {
                let unconditional = records
                    .iter()
                    .find(|record| record.expect.is_none())
                    .or(records.first());
                Err(Failed::Decided(match unconditional {
                    Some(record) => AppendError::Conflict {
                        subject: record.subject.clone(),
                    },
                    None => AppendError::Malformed("it is empty"),
                }))
            }
            Ok(Verdict::Open) => Err(Failed::Again {
                cause: refusal.into(),
                sent: false,
            }),
            Err(cause) => Err(Failed::Again { cause, sent: false }),
        }
    }

    /// The last word after silence: what can be read now.
    async fn decide(&self, records: &[NewRecord], cause: Cause) -> Result<Vec<Appended>, AppendError> {
        if records.iter().all(|record| record.expect.is_none()) {
            return Err(AppendError::Unknown(cause));
        }
        let reading = tokio::time::timeout(self.connection.timeouts.request, self.verdict(records)).await;
        match reading {
            Ok(Ok(Verdict::Stored(appended))) => Ok(appended),
            // The expectation can never hold again, so a try that is still on its way cannot be stored either.
            Ok(Ok(Verdict::Conflict(subject))) => Err(AppendError::Conflict { subject }),
            Ok(Ok(Verdict::Open) | Err(_)) | Err(_) => Err(AppendError::Unknown(cause)),
        }
    }

    /// Reads, at the leader, whether the records are stored, can never be, or still can.
    async fn verdict(&self, records: &[NewRecord]) -> Result<Verdict, Cause> {
        let conditional = records
            .iter()
            .enumerate()
            .find_map(|(index, record)| Some((index, record, record.expect?)));
        let Some((index, record, expect)) = conditional else {
            return Ok(Verdict::Open);
        };
        let subject = self.space.wire(record.subject.as_str());
        if let Some(found) = self
            .connection
            .first_from(&self.stream, expect + 1, &subject)
            .await?
        {
            if message_id(&found.headers) != Some(&record.message_id) {
                return Ok(Verdict::Conflict(record.subject.clone()));
            }
            let first = found.sequence.saturating_sub(index as u64);
            return if self.stands_at(records, first).await? {
                Ok(Verdict::Stored(contiguous(first, records.len(), true)))
            } else {
                Ok(Verdict::Conflict(record.subject.clone()))
            };
        }
        let failing = self.failed_expectation(records).await?;
        Ok(failing.map_or(Verdict::Open, Verdict::Conflict))
    }

    /// Whether the first and the last record stand where an earlier append of all of them would have put them.
    ///
    /// Where one would stand after the end of a log that ends in the middle of a batch, that cannot be told: a server whose
    /// disk failed has the rest, perhaps, and shows it when it is started again.
    async fn stands_at(&self, records: &[NewRecord], first: u64) -> Result<bool, Cause> {
        if first == 0 {
            return Ok(false);
        }
        let last = (first + records.len() as u64).saturating_sub(1);
        for (record, sequence) in records
            .first()
            .into_iter()
            .zip([first])
            .chain(records.last().into_iter().zip([last]))
        {
            match self.connection.message_at(&self.stream, sequence).await? {
                Some(found) if message_id(&found.headers) == Some(&record.message_id) => {}
                None if self.ends_within_a_batch().await? => {
                    return Err(
                        format!("the rest of a batch is missing, message {sequence} at least").into(),
                    );
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether the stream's last record came in an atomic batch of which it is not the last.
    async fn ends_within_a_batch(&self) -> Result<bool, Cause> {
        let asking = || self.connection.context.get_stream(&self.stream);
        let stream = self.connection.repeat(asking).await?;
        let end = stream.cached_info().state.last_sequence;
        let last = self.connection.message_at(&self.stream, end.max(1)).await?;
        Ok(last.is_some_and(|last| {
            last.headers.get(BATCH_ID).is_some() && last.headers.get(BATCH_COMMIT).is_none()
        }))
    }

    /// The first subject whose last record is not the expected one.
    async fn failed_expectation(&self, records: &[NewRecord]) -> Result<Option<Subject>, Cause> {
        let conditional = records
            .iter()
            .filter_map(|record| Some((&record.subject, record.expect?)));
        let checks = futures::stream::iter(conditional.map(|(subject, expect)| async move {
            let last = self
                .connection
                .last_kept_on(&self.stream, &self.space.wire(subject.as_str()))
                .await?;
            let sequence = last.map_or(0, |message| message.sequence);
            Ok::<_, Cause>((sequence != expect).then(|| subject.clone()))
        }));
        let mut failing = checks
            .buffered(READS)
            .try_filter_map(|failed| std::future::ready(Ok(failed)))
            .boxed();
        failing.try_next().await
    }

    /// Whether the append keeps the rules of [`NewRecord`] and the sizes the server takes.
    pub(super) fn check(&self, records: &[NewRecord]) -> Result<(), AppendError> {
        if records.is_empty() || records.len() > MAX_APPEND {
            return Err(AppendError::Malformed(
                "it is empty or has more than 1,000 records",
            ));
        }
        let mut subjects = HashSet::new();
        let mut ids = HashSet::new();
        for record in records {
            let root = record.subject.as_str().split('.').next().unwrap_or_default();
            if !self.log.subject_roots().contains(&root) || root.len() == record.subject.as_str().len() {
                return Err(AppendError::Malformed("a subject does not belong to this log"));
            }
            let id = &record.message_id;
            if !(1..=256).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(AppendError::Malformed(
                    "a message id is not 1-256 visible ASCII characters",
                ));
            }
            if !ids.insert(id) {
                return Err(AppendError::Malformed("two records have the same message id"));
            }
            if !subjects.insert(&record.subject) && record.expect.is_some() {
                return Err(AppendError::Malformed(
                    "only the first record on a subject may carry an expectation",
                ));
            }
        }
        let limit = self.connection.max_payload();
        if records.iter().any(|record| record.payload.len() > limit) {
            return Err(self.too_large(records));
        }
        Ok(())
    }

    fn too_large(&self, records: &[NewRecord]) -> AppendError {
        let bytes = records
            .iter()
            .map(|record| record.payload.len())
            .max()
            .unwrap_or_default();
        AppendError::TooLarge {
            bytes,
            limit: self.connection.max_payload(),
        }
    }
}

/// Whether the server may well take the same message a moment later.
pub(super) fn is_passing(refusal: &Refusal) -> bool {
    matches!(
        refusal.err_code,
        codes::DUPLICATE_IN_FLIGHT
            | codes::BATCH_INCOMPLETE
            | codes::WRONG_LAST_SEQUENCE_IN_FLIGHT
            | codes::TOO_MANY_REQUESTS
    ) || codes::BATCHES_IN_FLIGHT.contains(&refusal.err_code)
        || refusal.code == 503
}

/// The headers that make a message the next one of an atomic batch (ADR-50).
pub(super) fn mark_batch(headers: &mut HeaderMap, batch: &str, index: usize) {
    headers.insert(BATCH_ID, batch);
    headers.insert("Nats-Batch-Sequence", (index + 1).to_string().as_str());
}

fn headers(record: &NewRecord) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, record.message_id.as_str());
    if let Some(expect) = record.expect {
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expect.to_string().as_str());
    }
    headers
}

fn batch_headers(record: &NewRecord, batch: &str, index: usize) -> HeaderMap {
    let mut headers = headers(record);
    mark_batch(&mut headers, batch, index);
    headers
}

fn contiguous(first: u64, count: usize, duplicate: bool) -> Vec<Appended> {
    (first..)
        .take(count)
        .map(|sequence| Appended { sequence, duplicate })
        .collect()
}
