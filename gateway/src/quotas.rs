//! Quotas: a tenant has at most so many users, endpoints, keys and teams. Exact, between processes too.
//!
//! What a tenant without the quota makes is simply made. Otherwise it goes through the quota's gate (see
//! `commands::Dispatcher::gate`), one at a time in this process: that is what exactness costs, and only those pay it
//! who have a quota. A gate that looks full, or that may have been passed by while another process did not know of the
//! quota yet, is counted anew by the read model `usage`, which is waited for until it has seen the end of the log.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime};

use commands::{Call, Dispatcher, Receipt};
use domain::tenant::Counted;
use domain::{Root, TenantId};
use tokio::sync::{Mutex, MutexGuard};

use crate::app::App;
use crate::problem::{Problem, ProblemType};
use crate::tenancy;

/// How long after a change of quotas a gate is not believed: every process knows of the change by then, whatever its
/// clock.
const SETTLED: Duration = Duration::from_secs(10);
/// How often a gate is tried that others go through.
const ATTEMPTS: u32 = 20;
/// How many gates can be waited for apart.
const TURNS: usize = 256;
const READ_MODEL: &[&str] = &["usage"];

/// Turns at the gates: in one process, racing for one would only make conflicts.
#[derive(Debug)]
pub(crate) struct Turns {
    hasher: RandomState,
    turns: Box<[Mutex<()>]>,
}

impl Turns {
    /// All free.
    pub(crate) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            turns: (0..TURNS).map(|_| Mutex::default()).collect(),
        }
    }

    async fn turn(&self, tenant: &TenantId, counted: Counted) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one((tenant, counted));
        let place = usize::try_from(hash % TURNS as u64).unwrap_or_default();
        self.turns[place].lock().await
    }
}

/// Makes one more of a counted thing, if the tenant's quota allows it: `make` executes the command with the dispatcher
/// it is given, and may be called several times.
///
/// `there` tells whether what the command makes is there already, which is asked before a refusal: a request that is
/// repeated after it made the last one allowed is answered as the first time.
pub(crate) async fn create<T, E, F>(
    app: &App,
    tenant: &TenantId,
    counted: Counted,
    there: impl Future<Output = Result<bool, Problem>>,
    make: impl Fn(Dispatcher) -> F,
) -> Result<T, Problem>
where
    F: Future<Output = Result<T, commands::Error<E>>>,
    E: std::error::Error + Into<Problem> + 'static,
{
    let state = tenancy::tenant(app, tenant).await?;
    let Some(limit) = state.quotas().of(counted) else {
        return Ok(make(app.dispatcher.clone()).await?);
    };
    let _turn = app.gates.turn(tenant, counted).await;
    let believed_from = SystemTime::from(state.quotas_changed_at()) + SETTLED;
    for _ in 0..ATTEMPTS {
        let gate = app.dispatcher.gate(tenant, counted.name()).await;
        let gate = gate.map_err(|error| Problem::unavailable(&error))?;
        let total = match gate.passed {
            Some(passed) if passed.at >= believed_from && passed.total < limit => passed.total,
            _ => count(app, tenant, counted).await?,
        };
        if total >= limit {
            return if there.await? {
                Ok(make(app.dispatcher.clone()).await?)
            } else {
                Err(reached(counted, limit))
            };
        }
        let through = app.dispatcher.through(&gate, counted.aggregate(), total + 1);
        match make(through).await {
            Err(commands::Error::Contended) => {}
            made => return Ok(made?),
        }
    }
    Err(Problem::new(
        ProblemType::Conflict,
        "Others are making more of these at the same time; nothing was changed. Send the request again.",
    ))
}

/// Executes a command that brings an aggregate of a counted kind into being, if the tenant's quota allows one more.
pub(crate) async fn execute<A: Root>(
    app: &App,
    tenant: &TenantId,
    counted: Counted,
    id: &str,
    command: A::Command,
    call: Call,
) -> Result<Receipt, Problem>
where
    A::Error: Into<Problem>,
{
    let make = |dispatcher: Dispatcher| {
        let (command, call) = (command.clone(), call.clone());
        async move { dispatcher.execute::<A>(tenant, id, command, call).await }
    };
    create(app, tenant, counted, is_there::<A>(app, tenant, id), make).await
}

/// Whether an aggregate has come into being, by the log's word.
async fn is_there<A: Root>(app: &App, tenant: &TenantId, id: &str) -> Result<bool, Problem> {
    let loaded = app.dispatcher.load::<A>(tenant, id, Duration::ZERO).await;
    loaded
        .map(|loaded| loaded.version > 0)
        .map_err(|error| Problem::unavailable(&error))
}

/// How many there are now: whatever the log acknowledged before the call is counted.
async fn count(app: &App, tenant: &TenantId, counted: Counted) -> Result<u64, Problem> {
    let end = app.dispatcher.end().await;
    let end = end.map_err(|error| Problem::unavailable(&error))?;
    let deadline = Instant::now() + app.http.consistency_wait;
    app.read_models
        .wait_for(READ_MODEL, &[end], deadline)
        .await
        .map_err(|stale| Problem::unavailable(&stale))?;
    let usage = app.read_models.usage(tenant).get().await?;
    Ok(usage.data.of(counted))
}

fn reached(counted: Counted, limit: u64) -> Problem {
    let name = counted.name();
    Problem::new(
        ProblemType::LimitReached,
        format!(
            "The tenant's quota {name} is {limit}, and it has that many. Take away what is no longer needed, or ask \
             the platform administrator for more."
        ),
    )
}
