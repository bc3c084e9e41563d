//! An entry of the audit trail, as queries answer it.

use domain::{Change, Position, Source, Timestamp};
use serde::Serialize;
use serde_json::Value as Json;
use sqlx::any::AnyRow;

use crate::sql::{json, number, optional_text, text, time};

/// What came of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was refused, and nothing changed.
    Refused,
}

impl Outcome {
    /// The outcome as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
        }
    }
}

/// An entry of the audit trail as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditRow {
    /// Where the commit stands in the log.
    pub position: Position,
    /// The aggregate's version after the event.
    pub version: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// Who: `platform-admin`, `key_…`, `inv_…` or `system:<part>`.
    pub actor: String,
    /// What happened, as `user.registered`.
    pub action: String,
    /// What was asked for, as `RegisterUser`.
    pub command: String,
    /// The kind of thing it happened to, as `user`.
    pub resource_type: String,
    /// Which one; empty where a refused request named none.
    pub resource_id: String,
    /// What came of it.
    pub outcome: Outcome,
    /// The HTTP request it came with.
    pub request_id: Option<String>,
    /// The address the request came from.
    pub origin: Option<String>,
    /// Names the command for ever.
    pub command_id: String,
    /// What it belongs to, across requests.
    pub correlation_id: Option<String>,
    /// What directly led to it: a command, an event or a delivery.
    pub causation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// What changed, field by field, with old and new values.
    pub changes: Vec<Change>,
    /// What the event says.
    pub data: Json,
}

impl AuditRow {
    pub(super) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let (shard, sequence) = (number(row, "shard")?, number(row, "sequence")?);
        let (action, data) = (text(row, "action")?, json(row, "data")?);
        Ok(Self {
            position: Position {
                source: Source::Events,
                shard,
                sequence,
            },
            version: number(row, "version")?,
            at: time(row, "at")?,
            actor: text(row, "actor")?,
            command: text(row, "command")?,
            resource_type: text(row, "resource_type")?,
            resource_id: text(row, "resource_id")?,
            outcome: match text(row, "outcome")?.as_str() {
                "refused" => Outcome::Refused,
                _ => Outcome::Success,
            },
            request_id: optional_text(row, "request_id")?,
            origin: optional_text(row, "origin")?,
            command_id: text(row, "command_id")?,
            correlation_id: optional_text(row, "correlation_id")?,
            causation_id: optional_text(row, "causation_id")?,
            traceparent: optional_text(row, "traceparent")?,
            changes: domain::changes(&action, &data),
            action,
            data,
        })
    }
}
