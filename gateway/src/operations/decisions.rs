//! Decisions about projections: pauses and skipped records go into the [`Control`] that projectors and replays heed;
//! generations that are to be dropped are dropped.

use broker::ReadError;
use commands::LoadError;
use domain::projection::{Projection, ProjectionCommand, Reason};
use projections::{Control, models};
use tokio::sync::mpsc;

use super::Desk;
use super::facts::{self, Fact};

/// Follows the decisions about all projections.
pub(super) struct Decisions {
    desk: Desk,
    control: Control,
    facts: mpsc::Receiver<Fact>,
}

/// Why the decisions so far could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// The log's end is not known.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// A projection's history could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Decisions {
    /// Puts what has been decided so far into the control.
    pub(super) async fn read(desk: Desk, control: Control) -> Result<Self, Unread> {
        let after = desk.log.state().await?.last;
        for projection in models::all() {
            let decided = desk.load::<Projection>(projection.name(), 0).await?.aggregate;
            heed(&control, projection.name(), &decided);
        }
        let facts = facts::follow::<Projection>(desk.log.clone(), after, desk.stop.clone());
        Ok(Self { desk, control, facts })
    }

    /// Heeds decisions as they come, until stopped.
    pub(super) async fn run(mut self) {
        for projection in models::all() {
            let name = projection.name().to_owned();
            self.look(Fact {
                id: name,
                sequence: 0,
            })
            .await;
        }
        while let Some(fact) = self.facts.recv().await {
            self.look(fact).await;
        }
    }

    /// Does what is decided about a projection, however often it must be tried.
    async fn look(&self, fact: Fact) {
        loop {
            match self.desk.load::<Projection>(&fact.id, fact.sequence).await {
                Ok(decided) => {
                    heed(&self.control, &fact.id, &decided.aggregate);
                    let dropping = decided.aggregate.dropping();
                    let done = match dropping {
                        Some(generation) => self.drop_generation(&fact.id, generation).await,
                        None => true,
                    };
                    if done {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(projection = fact.id, %error, "A decision about a projection cannot be read yet.");
                }
            }
            if !self.desk.pause().await {
                return;
            }
        }
    }

    /// Whether nothing is left to do.
    async fn drop_generation(&self, name: &str, generation: u64) -> bool {
        let number = i64::try_from(generation).unwrap_or(i64::MAX);
        let (command, what) = match self.desk.rebuild.drop_generation(name, number).await {
            Ok(()) => (ProjectionCommand::Dropped { generation }, "DropGeneration"),
            Err(error) if error.passes() => {
                tracing::warn!(projection = name, generation, %error, "A generation cannot be dropped yet.");
                return false;
            }
            Err(error) => {
                let reason = Reason::fitting(&error.to_string());
                (
                    ProjectionCommand::DropFailed { generation, reason },
                    "FailToDropGeneration",
                )
            }
        };
        self.desk.say::<Projection>(name, what, command).await
    }
}

fn heed(control: &Control, name: &str, decided: &Projection) {
    for skipped in decided.skipped() {
        control.skip(name, skipped.position);
    }
    if decided.paused().is_some() {
        control.pause(name);
    } else {
        control.resume(name);
    }
}
