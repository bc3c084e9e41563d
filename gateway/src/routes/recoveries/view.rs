//! How a recovery is shown.

use domain::endpoint::{EventTypeFilter, Rate};
use domain::recovery::{Only, Recovery, RecoveryEnd};
use domain::{EndpointId, RecoveryId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

/// A recovery.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Recovery)]
pub(super) struct RecoveryView {
    /// Its id.
    #[schema(value_type = String)]
    id: RecoveryId,
    /// The endpoint.
    #[schema(value_type = String)]
    pub(super) endpoint: EndpointId,
    /// `running` (which it also is while it waits for its endpoint to be enabled), `paused`, `completed`, `cancelled` or
    /// `failed`.
    #[schema(example = "running")]
    status: &'static str,
    /// Events accepted at this time or later.
    #[schema(value_type = String, format = "date-time")]
    since: Timestamp,
    /// Events accepted before this time.
    #[schema(value_type = String, format = "date-time")]
    until: Timestamp,
    /// Of which types, among those that the endpoint wants; empty: of all those.
    #[schema(value_type = Vec<String>)]
    event_types: Vec<EventTypeFilter>,
    /// `missing`, `failed` or `all`.
    #[schema(value_type = String, example = "missing")]
    only: Only,
    /// How many become due in a second; null: as fast as they are found.
    #[schema(value_type = Option<u32>)]
    rate: Option<Rate>,
    /// How far it is: told every few seconds, and exactly where it stands still.
    progress: ProgressView,
    /// Why it failed.
    error: Option<String>,
}

/// How far a recovery is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecoveryProgress)]
struct ProgressView {
    /// How many events of the tenant were looked at.
    scanned: u64,
    /// How many of them are to be delivered.
    matched: u64,
    /// How many of those are in the queue, or delivered.
    enqueued: u64,
    /// Where it is in the log of events that were published; null before it began.
    #[schema(value_type = Option<String>, example = "m0-42")]
    position: Option<String>,
    /// Where it ends.
    #[schema(value_type = Option<String>, example = "m0-4200")]
    end: Option<String>,
    /// How long the rest will take at the speed so far, in seconds; null while that cannot be told, and at the end.
    seconds_left: Option<u64>,
    /// When it began.
    #[schema(value_type = Option<String>, format = "date-time")]
    started_at: Option<Timestamp>,
    /// When this was so.
    #[schema(value_type = Option<String>, format = "date-time")]
    updated_at: Option<Timestamp>,
}

impl RecoveryView {
    /// A recovery as the log tells of it; none where there is none.
    pub(super) fn of(id: &RecoveryId, recovery: &Recovery) -> Option<Self> {
        let plan = recovery.plan()?.clone();
        let (status, error) = match recovery.end() {
            None if recovery.is_paused() => ("paused", None),
            None => ("running", None),
            Some(RecoveryEnd::Completed) => ("completed", None),
            Some(RecoveryEnd::Cancelled) => ("cancelled", None),
            Some(RecoveryEnd::Failed(reason)) => ("failed", Some(reason.to_string())),
        };
        Some(Self {
            id: id.clone(),
            endpoint: plan.endpoint,
            status,
            since: plan.since,
            until: plan.until,
            event_types: plan.event_types,
            only: plan.only,
            rate: plan.rate,
            progress: ProgressView::of(recovery),
            error,
        })
    }
}

impl ProgressView {
    fn of(recovery: &Recovery) -> Self {
        let progress = recovery.progress();
        let begun = progress.began_at != Timestamp::default();
        let place = |sequence: u64| begun.then(|| format!("m0-{sequence}"));
        let rest = progress.rest().filter(|_| recovery.end().is_none());
        Self {
            scanned: progress.scanned,
            matched: progress.matched,
            enqueued: progress.enqueued,
            position: place(progress.at),
            end: place(progress.to),
            seconds_left: rest.map(|rest| rest.as_secs()),
            started_at: begun.then_some(progress.began_at),
            updated_at: begun.then_some(progress.told_at),
        }
    }
}
