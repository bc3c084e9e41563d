//! The third stage of the bulk fold: each batch is written in one transaction with the checkpoints.

use std::sync::Arc;

use broker::layout::Log;
use domain::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::pace::Tally;
use crate::engine::{Session, copies};
use crate::generations::Standing;
use crate::projectors::ParkedTenants;
use crate::read_models::ReadModels;
use crate::rebuild::job::Job;
use crate::rebuild::{Member, RebuildError};
use crate::rows::Changes;

/// What a batch makes of the tables.
pub(super) struct Written {
    pub(super) from: u64,
    pub(super) to: u64,
    /// When the last record was stored; none where all up to there are others' or gone by their age.
    pub(super) stored_at: Option<Timestamp>,
    /// Records gone past: those read, and for one tenant those of others too.
    pub(super) passed: u64,
    /// Per member that goes along.
    pub(super) changes: Vec<(usize, Vec<Changes>, ParkedTenants)>,
}

/// A message to the stage that writes.
pub(super) enum ToWriter {
    Batch(Box<Written>),
    /// Answer when everything before has been committed.
    Barrier(oneshot::Sender<()>),
}

/// What the run's row says of its progress when a stretch is begun.
pub(super) struct Told {
    pub(super) done: u64,
    pub(super) total: u64,
}

/// The stage, on one stretch of a log.
pub(super) struct Writer {
    pub(super) log: Log,
    /// Where the stretch begins.
    pub(super) from: u64,
    pub(super) told: Told,
    pub(super) read_models: ReadModels,
    pub(super) members: Vec<Member>,
    pub(super) job: Job,
    pub(super) tally: Arc<Tally>,
    pub(super) stop: CancellationToken,
}

impl Writer {
    /// Writes what comes, until there is no more.
    pub(super) async fn write(self, mut batches: mpsc::Receiver<ToWriter>) -> Result<(), RebuildError> {
        while let Some(message) = batches.recv().await {
            match message {
                ToWriter::Batch(batch) => self.write_batch(&batch).await?,
                ToWriter::Barrier(done) => {
                    // Nobody waits any more where the fold has failed.
                    let _gone = done.send(());
                }
            }
            if self.stop.is_cancelled() {
                return Err(RebuildError::Interrupted);
            }
        }
        Ok(())
    }

    async fn write_batch(&self, batch: &Written) -> Result<(), RebuildError> {
        let mut session = self.read_models.database.begin().await?;
        for (number, changes, fresh) in &batch.changes {
            let Some(member) = self.members.get(*number) else {
                continue;
            };
            let place = member.place(self.log, Standing::Building);
            if !place
                .advance(&mut session, batch.from, batch.to, batch.stored_at)
                .await?
            {
                return Err(RebuildError::Taken);
            }
            write_member(&mut session, member, changes).await?;
            for parked in fresh.values() {
                place.park(&mut session, parked).await?;
            }
        }
        let rate = self.tally.pass(batch.passed);
        let done = self.told.done + (batch.to - self.from);
        self.job
            .tell(&mut session, done, self.told.total.max(done), rate)
            .await?;
        Ok(session.commit().await?)
    }
}

/// Writes what a fold makes of one member's tables.
pub(super) async fn write_member(
    session: &mut Session,
    member: &Member,
    changes: &[Changes],
) -> Result<(), RebuildError> {
    let suffix = copies::suffix(member.generation);
    for changes in changes {
        let copying = copies::takes_copies(session, changes.table, member.generation).await?;
        session.write(changes, &suffix, copying).await?;
    }
    Ok(())
}
