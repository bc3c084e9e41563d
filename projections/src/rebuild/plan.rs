//! What a run is to do, what it came to, and why it came to nothing.

use std::collections::BTreeMap;

use broker::ReadError;
use domain::{Position, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Difference, NotCompared};

/// Up to where a copy for inspection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// This record of its log, and of other logs what was stored by then.
    Position(Position),
    /// What was stored by then.
    Time(Timestamp),
}

/// What to rebuild.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The projections, by their names; they are built together, in one pass over the logs.
    pub projections: Vec<String>,
    /// Only this tenant's rows.
    pub tenant: Option<TenantId>,
    /// A copy as of then, for inspection.
    pub until: Option<Until>,
    /// Whether to switch; otherwise the copy is compared and dropped.
    pub switch: bool,
    /// Whether it goes on with the generation before the live one instead of a new one.
    #[serde(default)]
    pub back: bool,
}

impl Plan {
    /// All rows of these projections, from the beginning, to be switched to.
    pub fn of<N: Into<String>>(projections: impl IntoIterator<Item = N>) -> Self {
        Self {
            projections: projections.into_iter().map(Into::into).collect(),
            tenant: None,
            until: None,
            switch: true,
            back: false,
        }
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The generation of each projection.
    pub generations: BTreeMap<String, i64>,
    /// Records gone past, of all logs.
    pub records: u64,
    /// What the live models said otherwise; none where there was nothing to compare with.
    pub differences: Option<Vec<Difference>>,
    /// What was not compared.
    pub not_compared: Vec<NotCompared>,
}

/// Why a run ended without one.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The plan cannot be carried out.
    #[error("{0}")]
    Refused(String),
    /// It was asked to stop; run again under the same id, it goes on.
    #[error("the rebuild was interrupted; it goes on when it is run again")]
    Interrupted,
    /// It was cancelled, and what it had built is gone.
    #[error("the rebuild was cancelled")]
    Cancelled,
    /// It has ended before, in this process or another.
    #[error("the rebuild {0} is over")]
    Over(String),
    /// It was begun by a program whose fold makes other rows of the same records.
    #[error(
        "{projection} was begun by a program whose fold has version {began}, and this one's has version {this}: \
         ask for it again"
    )]
    OtherFold {
        /// Of which projection.
        projection: String,
        /// The version it was begun with.
        began: i64,
        /// This program's.
        this: i64,
    },
    /// The log has dropped records by their age that the live model has and the copy lacks.
    #[error(
        "{log} has dropped the records {from} to {} by their age, which {projection} has folded and the copy has not: \
         ask for it again, and what came of them is taken over",
        first - 1
    )]
    Aged {
        /// Of which projection.
        projection: String,
        /// Which log.
        log: String,
        /// The first record that the copy lacks.
        from: u64,
        /// The first record that the log still has.
        first: u64,
    },
    /// Another process works at it.
    #[error("another process works at this rebuild")]
    Taken,
    /// The log failed; run again, the rebuild goes on.
    #[error("the log cannot be read")]
    Log(#[from] ReadError),
    /// Records are missing in the log.
    #[error(
        "record {found} follows {last} in the log {log}: records are missing, and the log must be restored first"
    )]
    Gap {
        /// Which log.
        log: String,
        /// The record before the gap.
        last: u64,
        /// The record after it.
        found: u64,
    },
    /// The database failed; run again, the rebuild goes on.
    #[error("the read database failed: {0}")]
    Database(#[from] sqlx::Error),
}

impl RebuildError {
    /// Whether running it again can help.
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Log(_) | Self::Database(_) | Self::Interrupted | Self::Taken
        )
    }
}
