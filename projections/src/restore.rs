//! Restoring a log of events from the archive, and proving that the two are equal.
//!
//! A log is only ever continued where it holds the exact beginning of the archive, so a restore that was killed goes on
//! where it stood, and what differs is never papered over. Whatever the end is, the whole log is read back and compared
//! with the archive, record by record.

mod after;
mod pages;

use std::time::Duration;

use async_trait::async_trait;
use broker::layout::Shard;
use broker::trust::{self, Known, digest};
use broker::{AppendError, Cause, EventLog, MAX_APPEND, NewRecord, ReadError, Record};
use sha2::{Digest, Sha256};

use crate::fences;
use crate::read_models::ReadModels;
use pages::Archive;

pub use after::Made;

/// How many records are read from a log at once.
const PAGE: usize = 500;
/// How often an append whose outcome is unknown, or that finds the log away, is tried again …
const TRIES: u32 = 5;
/// … and after how long.
const PAUSE: Duration = Duration::from_secs(2);

/// Why a log was not restored, or is not what the archive says.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is nothing to restore it from.
    #[error("the archive holds no record of this log")]
    Empty,
    /// The archive itself lacks a record.
    #[error("the archive lacks record {missing}: a log cannot be restored from it beyond that")]
    Gap {
        /// The first that is missing.
        missing: u64,
    },
    /// The log does not begin at its first record, so nothing that is appended can get the sequence it had.
    #[error(
        "the log begins after record {removed}, which only an empty new log can make good: it must be removed and made \
         anew before it is restored"
    )]
    Beheaded {
        /// The last sequence that is gone from its beginning.
        removed: u64,
    },
    /// The log has another record than the archive.
    #[error(
        "record {sequence} of the log is not the one in the archive: it must be put aside before it is restored"
    )]
    Differs {
        /// The first that differs.
        sequence: u64,
    },
    /// The log lacks a record that it should have.
    #[error("the log ends at {end}, the archive at {archived}")]
    Short {
        /// Where the log ends.
        end: u64,
        /// Where the archive ends.
        archived: u64,
    },
    /// A record was stored under another sequence than it had.
    #[error(
        "record {expected} was stored as {found}: somebody else writes to the log, or the broker still recognises records \
         that it has lost. Stop every tidings process, wait three minutes, make the log anew, and run this again"
    )]
    Misplaced {
        /// The sequence it had.
        expected: u64,
        /// The one it got.
        found: u64,
    },
    /// The archive holds what a log cannot take.
    #[error("record {sequence} of the archive cannot be appended: {reason}")]
    Unwritable {
        /// Which.
        sequence: u64,
        /// Why not.
        reason: String,
    },
    /// The log could not be read.
    #[error("the log cannot be read")]
    Log(#[from] ReadError),
    /// The log could not be written.
    #[error("the log cannot be written")]
    Append(#[from] AppendError),
    /// The archive could not be read.
    #[error("the read database is unavailable")]
    Database(#[from] sqlx::Error),
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Comparing what is in the log with the archive.
    Comparing,
    /// Appending what is missing.
    Appending,
}

/// That a log and its archive are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// How many records both have.
    pub records: u64,
    /// How many more the log has, which are not archived yet.
    pub ahead: u64,
    /// The SHA-256 over the digests ([`broker::trust::digest`]) of these records in their order.
    pub digest: [u8; 32],
}

#[async_trait]
impl trust::Archive for ReadModels {
    async fn known(&self, shard: Shard, after: u64) -> Result<Vec<Known>, Cause> {
        let archive = Archive {
            database: &self.database,
            shard,
        };
        let page = archive.page(after).await?;
        Ok(page
            .iter()
            .map(|record| (record.sequence, digest(record)))
            .collect())
    }
}

/// One log of events and its archive.
#[derive(Debug)]
pub struct Restore<'r> {
    read_models: &'r ReadModels,
    log: &'r dyn EventLog,
    shard: Shard,
}

impl<'r> Restore<'r> {
    /// Of this shard's log.
    pub fn new(read_models: &'r ReadModels, log: &'r dyn EventLog, shard: Shard) -> Self {
        Self {
            read_models,
            log,
            shard,
        }
    }

    fn archive(&self) -> Archive<'r> {
        Archive {
            database: &self.read_models.database,
            shard: self.shard,
        }
    }

    /// Compares the whole log with the archive and changes nothing. `told` hears of each page: records done, and in all.
    pub async fn check(&self, told: &mut (dyn FnMut(Step, u64, u64) + Send)) -> Result<Proof, RestoreError> {
        let archived = self.archive().end().await?;
        let state = self.log.state().await?;
        if state.first != 1 {
            return Err(RestoreError::Beheaded {
                removed: state.first - 1,
            });
        }
        let digest = self.compare(archived.min(state.last), told).await?;
        if state.last < archived {
            return Err(RestoreError::Short {
                end: state.last,
                archived,
            });
        }
        Ok(Proof {
            records: archived,
            ahead: state.last - archived,
            digest,
        })
    }

    /// Appends what the log lacks of the archive, compares all of it, and makes it the log this installation knows.
    ///
    /// Nobody else may write to the log meanwhile. Killed, it goes on where it stood when it is run again.
    pub async fn run(&self, told: &mut (dyn FnMut(Step, u64, u64) + Send)) -> Result<Proof, RestoreError> {
        let archived = self.archive().end().await?;
        let state = self.log.state().await?;
        if state.first != 1 {
            return Err(RestoreError::Beheaded {
                removed: state.first - 1,
            });
        }
        if state.last < archived {
            self.compare(state.last, told).await?;
            self.append_after(state.last, archived, told).await?;
        }
        let proof = self.check(told).await?;
        let created = self.log.state().await?.created;
        let mut session = self.read_models.database.begin().await?;
        fences::replace(&mut session, self.shard, created).await?;
        session.commit().await?;
        Ok(proof)
    }

    /// The digest over the first records of both, which must be the same.
    async fn compare(
        &self,
        end: u64,
        told: &mut (dyn FnMut(Step, u64, u64) + Send),
    ) -> Result<[u8; 32], RestoreError> {
        let (archive, mut over_all) = (self.archive(), Sha256::new());
        let (mut at, mut known) = (0, Vec::new().into_iter());
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(PAGE).min(PAGE);
            let page = self.log.read(at, None, wanted).await?;
            if page.is_empty() {
                return Err(RestoreError::Differs { sequence: at + 1 });
            }
            for record in page {
                if known.len() == 0 {
                    known = archive.page(at).await?.into_iter();
                }
                let next = known.next();
                let found = digest(&record);
                // The log's sequence is part of its digest.
                if next.as_ref().map(digest) != Some(found) {
                    return Err(RestoreError::Differs { sequence: at + 1 });
                }
                at += 1;
                over_all.update(found);
            }
            told(Step::Comparing, at, end);
        }
        Ok(over_all.finalize().into())
    }

    async fn append_after(
        &self,
        after: u64,
        end: u64,
        told: &mut (dyn FnMut(Step, u64, u64) + Send),
    ) -> Result<(), RestoreError> {
        let (archive, mut at, mut tries) = (self.archive(), after, 0);
        while at < end {
            let mut page = archive.page(at).await?;
            page.truncate(MAX_APPEND);
            let Some(last) = page.last().map(|record| record.sequence) else {
                return Err(RestoreError::Gap { missing: at + 1 });
            };
            match self.append(page).await {
                Ok(()) => (at, tries) = (last, 0),
                // What of it was stored, if anything was, shows by itself.
                Err(RestoreError::Append(
                    AppendError::Unknown(_) | AppendError::Unavailable(_) | AppendError::Busy,
                )) if tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                    at = self.log.state().await?.last;
                }
                Err(error) => return Err(error),
            }
            told(Step::Appending, at, end);
        }
        Ok(())
    }

    async fn append(&self, page: Vec<Record>) -> Result<(), RestoreError> {
        let sequences: Vec<u64> = page.iter().map(|record| record.sequence).collect();
        let records = page.into_iter().map(|record| NewRecord {
            subject: record.subject,
            message_id: record.message_id,
            expect: None,
            payload: record.payload,
        });
        let appended = self
            .log
            .append(records.collect())
            .await
            .map_err(|error| match error {
                AppendError::Malformed(reason) => RestoreError::Unwritable {
                    sequence: sequences.first().copied().unwrap_or_default(),
                    reason: reason.to_owned(),
                },
                error => error.into(),
            })?;
        let misplaced = sequences
            .into_iter()
            .zip(appended)
            .find(|(expected, appended)| appended.sequence != *expected);
        match misplaced {
            None => Ok(()),
            Some((expected, appended)) => Err(RestoreError::Misplaced {
                expected,
                found: appended.sequence,
            }),
        }
    }
}
