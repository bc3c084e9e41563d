//! An entry of the trail as the API shows it.

use domain::{Position, Timestamp};
use projections::{AuditRow, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::super::export::Row;

/// What came of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AuditOutcome)]
pub(super) enum OutcomeView {
    /// It was done.
    Success,
    /// It was refused, and nothing changed.
    Refused,
}

impl From<OutcomeView> for Outcome {
    fn from(outcome: OutcomeView) -> Self {
        match outcome {
            OutcomeView::Success => Self::Success,
            OutcomeView::Refused => Self::Refused,
        }
    }
}

impl From<Outcome> for OutcomeView {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Success,
            Outcome::Refused => Self::Refused,
        }
    }
}

/// One field's change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditChange)]
pub(super) struct ChangeView {
    /// What changed, as `name`; of things that have many of a kind, which one follows after a dot.
    #[schema(example = "name")]
    field: String,
    /// What it was: null where there was nothing; not there where the event does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    from: Option<Value>,
    /// What it is: null where there is nothing.
    to: Value,
}

/// One entry: a change, a refusal, or the showing of a secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(super) struct AuditView {
    /// Where it stands in the log.
    #[schema(value_type = String, example = "e0-42")]
    position: Position,
    /// The resource's version after it; with the position, it names the entry.
    version: u64,
    /// When it was decided.
    #[schema(value_type = String, format = "date-time")]
    at: Timestamp,
    /// Who: `platform-admin`, `key_…`, `inv_…` or `system:<part>`.
    actor: String,
    /// What happened.
    #[schema(example = "user.registered")]
    action: String,
    /// What was asked for.
    #[schema(example = "RegisterUser")]
    command: String,
    /// The kind of thing it happened to.
    #[schema(example = "user")]
    resource_type: String,
    /// Which one; empty where a refused request named none.
    resource_id: String,
    /// What came of it.
    outcome: OutcomeView,
    /// The HTTP request it came with.
    request_id: Option<String>,
    /// The address the request came from.
    origin: Option<String>,
    /// Names the command for ever; of refusals, what wrote them down.
    command_id: String,
    /// What it belongs to, across requests: the header `Correlation-Id`, or else the request's id.
    correlation_id: Option<String>,
    /// What directly led to it: a command, an event or a delivery.
    causation_id: Option<String>,
    /// W3C trace context.
    traceparent: Option<String>,
    /// What changed, with old and new values.
    changes: Vec<ChangeView>,
    /// What the event says.
    #[schema(value_type = Object)]
    data: Value,
}

impl From<AuditRow> for AuditView {
    fn from(row: AuditRow) -> Self {
        let changes = row.changes.into_iter().map(|change| ChangeView {
            field: change.field,
            from: change.from,
            to: change.to,
        });
        Self {
            position: row.position,
            version: row.version,
            at: row.at,
            actor: row.actor,
            action: row.action,
            command: row.command,
            resource_type: row.resource_type,
            resource_id: row.resource_id,
            outcome: row.outcome.into(),
            request_id: row.request_id,
            origin: row.origin,
            command_id: row.command_id,
            correlation_id: row.correlation_id,
            causation_id: row.causation_id,
            traceparent: row.traceparent,
            changes: changes.collect(),
            data: row.data,
        }
    }
}

impl Row for AuditView {
    const COLUMNS: &'static [&'static str] = &[
        "position",
        "version",
        "at",
        "actor",
        "action",
        "command",
        "resource_type",
        "resource_id",
        "outcome",
        "request_id",
        "origin",
        "command_id",
        "correlation_id",
        "causation_id",
        "traceparent",
        "changes",
        "data",
    ];

    fn cells(&self) -> Vec<String> {
        let optional = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            self.position.to_string(),
            self.version.to_string(),
            self.at.to_string(),
            self.actor.clone(),
            self.action.clone(),
            self.command.clone(),
            self.resource_type.clone(),
            self.resource_id.clone(),
            Outcome::from(self.outcome).as_str().to_owned(),
            optional(&self.request_id),
            optional(&self.origin),
            self.command_id.clone(),
            optional(&self.correlation_id),
            optional(&self.causation_id),
            optional(&self.traceparent),
            serde_json::to_string(&self.changes).unwrap_or_default(),
            self.data.to_string(),
        ]
    }
}
