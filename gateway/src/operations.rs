//! Carrying out what operators decide about read models: pauses, skipped records, dropped generations, replays.
//!
//! Decisions are facts in the platform's log (`domain::projection`, `domain::replay`). Every process with projectors
//! follows them: it keeps its [`Control`] as they say, and works at what was asked for. Whatever is done is done so that
//! two processes may try it, and that one may go on where another was killed: what a decision is at is read from the log
//! each time, and who works at a replay holds a lease in the read database.

mod decisions;
mod facts;
mod replays;
mod troubles;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker::layout::Log;
use broker::{Engine, EventLog};
use commands::{Dispatcher, LoadError, Loaded};
use domain::{Actor, Meta, Root, TenantId, Timestamp};
use projections::rebuild::Rebuild;
use projections::{Control, ReadModels, logs_of};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::Failure;
use crate::draw::Draw;
use crate::installation::in_full;
use decisions::Decisions;
use replays::Replays;

pub(crate) use troubles::tell_troubles;

/// The log that the platform's facts are in.
const LOG: Log = Log::Events(0);
/// Who carries decisions out, as the log names it.
const ACTOR: &str = "projections";
/// How long to wait before something that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a replica of the log may be behind what was just followed.
const BEHIND: Duration = Duration::from_millis(50);

/// What runs in a process with projectors.
#[derive(Debug)]
pub(crate) struct Operations {
    tasks: JoinSet<()>,
}

impl Operations {
    /// Reads what has been decided so far and follows it from there. The projectors are to be started with the control
    /// answered, so that what is paused does not take a step.
    pub(crate) async fn start(
        engine: &Arc<dyn Engine>,
        dispatcher: &Dispatcher,
        read_models: &ReadModels,
        stop: &CancellationToken,
    ) -> Result<(Self, Control), Failure> {
        let control = Control::default();
        let logs = logs_of(engine.as_ref());
        let desk = Desk {
            log: engine.log(LOG),
            dispatcher: dispatcher.clone(),
            read_models: read_models.clone(),
            rebuild: Rebuild::new(read_models.clone(), logs, control.clone()),
            stop: stop.clone(),
        };
        let decisions = Decisions::read(desk.clone(), control.clone()).await;
        let decisions = decisions.map_err(|error| {
            Failure::new(
                format!(
                    "what operators have decided about projections cannot be read: {}",
                    in_full(&error)
                ),
                "start the log's servers; `tidings doctor` checks them",
            )
        })?;
        let mut tasks = JoinSet::new();
        tasks.spawn(decisions.run());
        tasks.spawn(Replays::new(desk).run());
        Ok((Self { tasks }, control))
    }

    /// Waits until all of it has ended, which it does after `stop` was cancelled.
    pub(crate) async fn join(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "What carries out operators' decisions ended by a fault of the program.");
            }
        }
    }
}

/// What carrying out needs.
#[derive(Clone)]
struct Desk {
    log: Arc<dyn EventLog>,
    dispatcher: Dispatcher,
    read_models: ReadModels,
    rebuild: Rebuild,
    stop: CancellationToken,
}

impl Desk {
    /// An aggregate of the platform that knows at least its record at this sequence.
    async fn load<A: Root>(&self, id: &str, sequence: u64) -> Result<Loaded<A>, LoadError> {
        let platform = TenantId::platform();
        loop {
            let loaded = self.dispatcher.load::<A>(&platform, id, Duration::ZERO).await?;
            if loaded.sequence >= sequence || self.stop.is_cancelled() {
                return Ok(loaded);
            }
            tokio::time::sleep(BEHIND).await;
        }
    }

    /// Says what came of a decision; `false` where the log cannot be written to now. What another process has said
    /// before is not said again.
    async fn say<A: Root>(&self, id: &str, name: &str, command: A::Command) -> bool {
        let platform = TenantId::platform();
        match self
            .dispatcher
            .execute::<A>(&platform, id, command, meta(name))
            .await
        {
            Ok(_) => true,
            Err(commands::Error::Rejected(rejection)) => {
                tracing::debug!(id, %rejection, "Another process has said what came of it.");
                true
            }
            Err(error) => {
                tracing::warn!(id, %error, "What came of an operator's decision cannot be written down yet.");
                false
            }
        }
    }

    /// Waits before trying again; `false` where the process stops meanwhile.
    async fn pause(&self) -> bool {
        let pause = tokio::time::sleep(PAUSE);
        self.stop.run_until_cancelled(pause).await.is_some()
    }
}

fn meta(command: &str) -> Meta {
    Meta {
        command_id: Draw::fresh().ulid(command).to_string(),
        command: command.to_owned(),
        actor: Actor::System(ACTOR.to_owned()),
        request_id: None,
        origin: None,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        at: Timestamp::from(SystemTime::now()),
    }
}
