//! What the audit trail tells besides changes: refused requests, and answers that show secrets.
//!
//! The guard is the one place through which every request of a known caller comes and goes, also those that another
//! call carries; there each answer is looked at (`asked`). That an answer shows a secret is in the log **before** the
//! answer is given, or it is not given. Refusals wait in memory and are written in the background, about once a
//! second, one commit for each tenant: so a flood of them costs one commit a second, and no request waits for it. What
//! finds no room is counted, and the count is written.

mod asked;
mod secrets;
mod senders;
mod waiting;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use commands::{Call, Dispatcher};
use domain::access_log::{AccessCommand, AccessEvent, AccessRejection, Asked};
use domain::{AccessLogId, Actor, Meta, TenantId, Timestamp};
use futures::{StreamExt, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::metrics;
use crate::problem::{Problem, ProblemType};
use waiting::Waiting;

pub(crate) use asked::{Asking, RefusedParts};
pub(crate) use secrets::{MayShow, Showing, Shown, Shows};
pub(crate) use senders::Sending;

/// How often what waits is written.
const ROUND: Duration = Duration::from_millis(800);
/// How many tenants' commits are under way at once.
const AT_ONCE: usize = 16;
/// How long the end of the process waits for what is still to be written.
const FAREWELL: Duration = Duration::from_secs(5);
/// After how many commits another log is begun, so that none grows long.
const LONGEST: u32 = 1_000;
/// How many tenants' logs are remembered.
const LOGS: usize = 10_000;
/// The most secrets told by one commit.
const SECRETS: usize = 200;

/// Writes down refusals and shown secrets. Clones share what waits.
#[derive(Clone)]
pub(crate) struct AccessLog(Arc<Shared>);

struct Shared {
    dispatcher: Dispatcher,
    waiting: Mutex<Waiting>,
    /// This process's log of each tenant, and how many commits it has.
    logs: Mutex<HashMap<TenantId, (AccessLogId, u32)>>,
}

/// Events on their way into the log, under the names by which they are recognised there.
struct Batch {
    tenant: TenantId,
    log: AccessLogId,
    command_id: String,
    events: Vec<AccessEvent>,
    /// It was tried before, and may be there.
    tried: bool,
    /// The one request it is about, if it is.
    asked: Option<Asked>,
}

impl AccessLog {
    /// With nothing waiting.
    pub(crate) fn new(dispatcher: Dispatcher) -> Self {
        Self(Arc::new(Shared {
            dispatcher,
            waiting: Mutex::default(),
            logs: Mutex::default(),
        }))
    }

    /// Lets a refusal be written, if there is room for it.
    fn refused(&self, tenant: &TenantId, event: AccessEvent, at: Timestamp) {
        if !self.waiting(|waiting| waiting.add(tenant, event, at)) {
            metrics::access_event("dropped");
        }
    }

    /// Counts a request that was one too many.
    fn limited(&self, tenant: &TenantId, at: Timestamp) {
        self.waiting(|waiting| waiting.limited(tenant, at));
    }

    /// Writes that an answer shows secrets; once this returns, it is in the log.
    async fn shown(&self, tenant: &TenantId, events: Vec<AccessEvent>, asked: &Asked) -> Result<(), Problem> {
        for events in events.chunks(SECRETS) {
            let batch = self.batch(tenant.clone(), events.to_vec(), Some(asked.clone()));
            self.write(&batch).await.map_err(|error| {
                Problem::caused(
                    ProblemType::OutcomeUnknown,
                    "The answer shows a secret, and that it was shown could not be written down, so it is not shown. \
                     Send the request again under its Idempotency-Key, or look what there is.",
                    &error,
                )
            })?;
        }
        Ok(())
    }

    /// Writes what waits, until stopped and then to the end.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut unsettled = Vec::new();
        let mut ticks = tokio::time::interval(ROUND);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            unsettled = self.round(unsettled, false).await;
        }
        let deadline = Instant::now() + FAREWELL;
        loop {
            match tokio::time::timeout_at(deadline, self.round(unsettled, true)).await {
                Ok(rest) if rest.is_empty() => return,
                Ok(rest) => unsettled = rest,
                Err(_) => break,
            }
            tokio::time::sleep(ROUND / 4).await;
        }
        tracing::warn!("what was refused last could not be written down before the end of the process");
    }

    /// Writes what waits; answers what could not be written.
    async fn round(&self, unsettled: Vec<Batch>, last: bool) -> Vec<Batch> {
        let busy: Vec<_> = unsettled.iter().map(|batch| batch.tenant.clone()).collect();
        let ready = self.waiting(|waiting| waiting.take(&busy, last));
        let fresh = ready
            .into_iter()
            .map(|(tenant, events)| self.batch(tenant, events, None));
        let batches: Vec<_> = unsettled.into_iter().chain(fresh).collect();
        let written = stream::iter(batches).map(|mut batch| async move {
            match self.write(&batch).await {
                Ok(()) => None,
                Err(error) if is_for_now(&error) => {
                    batch.tried = true;
                    Some(batch)
                }
                Err(error) => {
                    metrics::access_event("failed");
                    tracing::error!(tenant.id = %batch.tenant, %error, "refusals could not be written down");
                    None
                }
            }
        });
        written
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    fn batch(&self, tenant: TenantId, events: Vec<AccessEvent>, asked: Option<Asked>) -> Batch {
        let mut logs = self.0.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if logs.len() >= LOGS && !logs.contains_key(&tenant) {
            logs.clear();
        }
        let new = || (AccessLogId::new(Ulid::generate()), 0);
        let (log, commits) = logs.entry(tenant.clone()).or_insert_with(new);
        if *commits >= LONGEST {
            (*log, *commits) = new();
        }
        *commits += 1;
        Batch {
            log: log.clone(),
            tenant,
            command_id: Ulid::generate().to_string(),
            events,
            tried: false,
            asked,
        }
    }

    async fn write(&self, batch: &Batch) -> Result<(), commands::Error<AccessRejection>> {
        let of = |field: fn(&Asked) -> Option<String>| batch.asked.as_ref().and_then(field);
        let meta = Meta {
            command_id: batch.command_id.clone(),
            command: "RecordAccess".to_owned(),
            actor: Actor::System("gateway".to_owned()),
            request_id: of(|asked| asked.request_id.clone()),
            origin: of(|asked| asked.origin.clone()),
            correlation_id: of(|asked| asked.correlation_id.clone()),
            causation_id: None,
            traceparent: of(|asked| asked.traceparent.clone()),
            at: Timestamp::from(SystemTime::now()),
        };
        let call = Call {
            meta,
            repeated: batch.tried,
        };
        let command = AccessCommand::Record(batch.events.clone());
        let dispatcher = &self.0.dispatcher;
        dispatcher
            .execute::<domain::access_log::AccessLog>(&batch.tenant, batch.log.as_str(), command, call)
            .await?;
        metrics::access_event("recorded");
        Ok(())
    }

    fn waiting<T>(&self, change: impl FnOnce(&mut Waiting) -> T) -> T {
        change(&mut self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether another try may do.
fn is_for_now(error: &commands::Error<AccessRejection>) -> bool {
    matches!(
        error,
        commands::Error::Busy
            | commands::Error::Contended
            | commands::Error::Unavailable(_)
            | commands::Error::Unknown(_)
    )
}
