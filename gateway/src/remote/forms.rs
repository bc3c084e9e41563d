//! The service's answers, as far as a terminal shows them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A projection.
#[derive(Debug, Deserialize)]
pub(super) struct Projection {
    pub(super) name: String,
    pub(super) version: i64,
    pub(super) generation: Option<i64>,
    pub(super) positions: Vec<String>,
    pub(super) lag_records: u64,
    pub(super) lag_seconds: Option<f64>,
    pub(super) last_error: Option<String>,
    pub(super) stopped: bool,
    pub(super) paused: Option<Paused>,
    pub(super) parked: Vec<Parked>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) generations: Vec<Generation>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Paused {
    pub(super) reason: Option<String>,
    pub(super) at: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Parked {
    pub(super) tenant: String,
    pub(super) position: String,
    pub(super) error: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Skipped {
    pub(super) tenant: String,
    pub(super) position: String,
    pub(super) reason: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Generation {
    pub(super) generation: i64,
    pub(super) standing: String,
}

/// A replay, and how far it is.
#[derive(Debug, Deserialize)]
pub(super) struct Replay {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) projections: Vec<String>,
    pub(super) tenant: Option<String>,
    pub(super) to: Option<String>,
    pub(super) switch: bool,
    pub(super) status: String,
    pub(super) phase: Option<String>,
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) rate: u64,
    pub(super) seconds_left: Option<u64>,
    pub(super) generations: BTreeMap<String, i64>,
    pub(super) differences: Option<Vec<Difference>>,
    pub(super) not_compared: Option<Vec<NotCompared>>,
    pub(super) error: Option<String>,
    pub(super) requested_at: String,
}

impl Replay {
    /// Whether nothing more will happen.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed" | "cancelled")
    }

    /// Whether what was asked for is done.
    pub(super) fn is_completed(&self) -> bool {
        self.status == "completed"
    }
}

/// A live table that said otherwise than the log.
#[derive(Debug, Deserialize)]
pub(super) struct Difference {
    pub(super) projection: String,
    pub(super) table: String,
    pub(super) live: u64,
    pub(super) rebuilt: u64,
    #[serde(default)]
    pub(super) tenants: Vec<String>,
}

/// What was not compared.
#[derive(Debug, Deserialize)]
pub(super) struct NotCompared {
    pub(super) projection: String,
    pub(super) table: Option<String>,
    pub(super) reason: String,
}

impl NotCompared {
    /// Whether it can never be told again: the log no longer has the records.
    pub(super) fn is_aged(&self) -> bool {
        self.reason == "aged"
    }
}
