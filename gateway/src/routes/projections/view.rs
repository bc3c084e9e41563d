//! How a projection is shown.

use domain::projection::{Paused, Skipped};
use domain::{Position, Timestamp};
use projections::{Generation, Parked, Standing};
use serde::Serialize;
use utoipa::ToSchema;

/// A projection.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Projection)]
pub(super) struct ProjectionView {
    /// Its name.
    #[schema(example = "audit")]
    pub(super) name: &'static str,
    /// The version of its fold in the process that answers.
    pub(super) version: i64,
    /// The generation of its tables that queries read; null before its projectors have begun.
    pub(super) generation: Option<i64>,
    /// How far that is, per log.
    #[schema(value_type = Vec<String>, example = json!(["e0-42"]))]
    pub(super) positions: Vec<Position>,
    /// Records of its logs that it has not folded.
    pub(super) lag_records: u64,
    /// For how long it has missed something, in seconds; null where it never had everything.
    pub(super) lag_seconds: Option<f64>,
    /// What keeps it from going on at this moment.
    pub(super) last_error: Option<String>,
    /// Whether it has stopped for good: its log is not as it must be, and only an operator can help.
    pub(super) stopped: bool,
    /// Since when and why it stands still, if an operator has decided so.
    pub(super) paused: Option<PausedView>,
    /// Tenants that stand still because of a record that cannot be folded.
    #[schema(value_type = Vec<ParkedTenant>)]
    pub(super) parked: Vec<Parked>,
    /// Records that it passes over, as operators have decided.
    pub(super) skipped: Vec<SkippedView>,
    /// The generation that is being dropped.
    pub(super) dropping: Option<u64>,
    /// All generations of its tables.
    pub(super) generations: Vec<GenerationView>,
}

/// That a projection stands still.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Paused)]
pub(super) struct PausedView {
    /// Why, where it was said.
    reason: Option<String>,
    /// Since when.
    #[schema(value_type = String, format = "date-time")]
    at: Timestamp,
}

/// A tenant that stands still in a projection.
#[derive(Debug, Serialize, ToSchema)]
struct ParkedTenant {
    /// The tenant's id.
    tenant: String,
    /// The record that cannot be folded.
    #[schema(example = "e0-42")]
    position: String,
    /// Why not.
    error: String,
}

/// A record that a projection passes over.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Skipped)]
pub(super) struct SkippedView {
    /// Whose record.
    tenant: String,
    /// Where it stands.
    #[schema(value_type = String, example = "e0-42")]
    position: Position,
    /// Why.
    reason: String,
    /// When this was decided.
    #[schema(value_type = String, format = "date-time")]
    at: Timestamp,
}

/// A copy of a projection's tables.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Generation)]
pub(super) struct GenerationView {
    /// Its number: generation 7 of `users` is the table `users_g7`.
    generation: i64,
    /// The version of the fold that made it.
    version: i64,
    /// `live`: queries read it; `building`: a replay fills it; `previous`: queries read it before, and a rollback lets
    /// them again; `inspection`: it shows a past position.
    #[schema(value_type = String, example = "live")]
    standing: Standing,
    /// How far it is, per log.
    #[schema(value_type = Vec<String>)]
    positions: Vec<Position>,
}

impl From<Paused> for PausedView {
    fn from(paused: Paused) -> Self {
        Self {
            reason: paused.reason.map(Into::into),
            at: paused.at,
        }
    }
}

impl From<Skipped> for SkippedView {
    fn from(skipped: Skipped) -> Self {
        Self {
            tenant: skipped.tenant.into(),
            position: skipped.position,
            reason: skipped.reason.into(),
            at: skipped.at,
        }
    }
}

impl From<Generation> for GenerationView {
    fn from(generation: Generation) -> Self {
        Self {
            generation: generation.generation,
            version: generation.version,
            standing: generation.standing,
            positions: generation.positions,
        }
    }
}
