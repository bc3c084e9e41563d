//! The scrub: compares every record of every log of events with the archive, from the first to the last and over again.
//!
//! The [`super::Watch`] looks at the ends of a log, which costs nothing. What a disk changes in the middle shows only to
//! who reads it, and old records are seldom read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::layout::{Log, Shard};
use crate::{Cause, Engine, EventLog, ReadError, Record};

use super::fence::{BETWEEN_LOOKS, LOOKS};
use super::{Distrust, Fences, Known, Trust, digest, judge_record};

/// How many records are compared in a second: at first, since what was damaged while nobody ran is damaged now, …
const AT_FIRST: u32 = 10_000;
/// … and from then on: little enough beside all that a service does.
const LATER: u32 = 500;
/// How many records are asked for at once.
const AT_ONCE: usize = 16;
/// Passes begin at least so far apart.
const EVERY: Duration = Duration::from_secs(10);
/// How long a log or an archive is left alone that could not be read.
const PAUSE: Duration = Duration::from_secs(2);

/// What logs of events held, record by record, kept outside of the log's disk.
#[async_trait]
pub trait Archive: Send + Sync + std::fmt::Debug {
    /// The records after a sequence, in order, so many as the archive thinks fit; none where it ends.
    async fn known(&self, shard: Shard, after: u64) -> Result<Vec<Known>, Cause>;
}

/// The scrub of one process, which may read the archive.
#[derive(Debug)]
pub struct Scrub {
    trust: Trust,
    logs: Vec<(Shard, Arc<dyn EventLog>)>,
    archive: Arc<dyn Archive>,
    fences: Arc<dyn Fences>,
}

impl Scrub {
    /// Over the logs of an engine, which must be the one beneath a [`super::Trusted`].
    pub fn new(
        trust: Trust,
        engine: &dyn Engine,
        archive: Arc<dyn Archive>,
        fences: Arc<dyn Fences>,
    ) -> Self {
        let logs = (0..engine.layout().shards).map(|shard| (shard, engine.log(Log::Events(shard))));
        Self {
            trust,
            logs: logs.collect(),
            archive,
            fences,
        }
    }

    /// Compares until trust is lost, by this or by others, or `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            _ = self.trust.until_lost() => {}
            () = self.compare() => {}
        }
    }

    async fn compare(&self) {
        let mut way = Way::Pages;
        loop {
            let next = tokio::time::Instant::now() + EVERY;
            for (shard, log) in &self.logs {
                if let Some((known, why)) = self.pass(*shard, log.as_ref(), way).await {
                    // The others learn of it by their watch. Where that fails, this process stops all the same.
                    if let Err(error) = self.fences.suspect(*shard, known).await {
                        tracing::warn!(%error, "That a record is not as it was could not be noted.");
                    }
                    self.trust.lose(why);
                    return;
                }
            }
            way = Way::Leader;
            tokio::time::sleep_until(next).await;
        }
    }

    /// Compares a log from its first record to the last that is archived: the first that is not as it was, if one is.
    /// What cannot be read now is waited for.
    async fn pass(&self, shard: Shard, log: &dyn EventLog, way: Way) -> Option<(Known, Distrust)> {
        let mut after = 0;
        loop {
            match self.page(shard, log, after, way).await {
                Ok(Page::Good { last, records }) => {
                    after = last;
                    tokio::time::sleep(Duration::from_secs(1) * records / way.rate()).await;
                }
                Ok(Page::Bad(known, why)) => return Some((known, why)),
                Ok(Page::End) => return None,
                Err(error) => {
                    tracing::debug!(%error, "The log cannot be compared with the archive now.");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn page(&self, shard: Shard, log: &dyn EventLog, after: u64, way: Way) -> Result<Page, Cause> {
        let known = self.archive.known(shard, after).await?;
        let Some((last, _)) = known.last().copied() else {
            return Ok(Page::End);
        };
        let read = match way {
            // Where a page cannot be read as one, each of its records is looked for.
            Way::Pages => log.read(after, None, known.len()).await.unwrap_or_default(),
            Way::Leader => each(log, &known).await,
        };
        let found: HashMap<u64, [u8; 32]> = read
            .iter()
            .map(|record| (record.sequence, digest(record)))
            .collect();
        for record in &known {
            if found.get(&record.0) != Some(&record.1)
                && let Some(why) = look(Log::Events(shard), log, *record).await?
            {
                return Ok(Page::Bad(*record, why));
            }
        }
        let records = u32::try_from(known.len()).unwrap_or(u32::MAX);
        Ok(Page::Good { last, records })
    }
}

/// How a log is read.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Page by page, which is quick; which replica answers is left to chance.
    Pages,
    /// Record by record, from the log's leader: what the others have may be sound where its copy is not.
    Leader,
}

impl Way {
    fn rate(self) -> u32 {
        match self {
            Self::Pages => AT_FIRST,
            Self::Leader => LATER,
        }
    }
}

/// The records that the log's leader has of these; what cannot be read is left out.
async fn each(log: &dyn EventLog, known: &[Known]) -> Vec<Record> {
    let mut records = Vec::new();
    for some in known.chunks(AT_ONCE) {
        let asked: Vec<_> = some.iter().map(|(sequence, _)| log.at(*sequence)).collect();
        records.extend(join_all(asked).await.into_iter().flatten().flatten());
    }
    records
}

/// What comparing a page came to.
enum Page {
    /// It is as it was.
    Good {
        /// Its last record.
        last: u64,
        /// How many it has.
        records: u32,
    },
    /// This record is not.
    Bad(Known, Distrust),
    /// There is nothing more.
    End,
}

/// Asks the log's leader for a record that was not found as it was: a replica may have been behind, and so may a new
/// leader for a moment.
async fn look(log: Log, port: &dyn EventLog, known: Known) -> Result<Option<Distrust>, ReadError> {
    let mut looks = 0;
    loop {
        let found = port.at(known.0).await;
        let Err(why) = judge_record(log, known, &found) else {
            return found.map(|_| None);
        };
        looks += 1;
        if why.is_certain() || looks == LOOKS {
            return Ok(Some(why));
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}
