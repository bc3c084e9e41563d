//! `/v1/audit`: every change in a tenant, who made it, and from where.

mod legal_hold;

use axum::extract::State;
use axum::response::Response;
use domain::{Position, Timestamp};
use projections::{AuditFilter, AuditRow, Page};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::export::{self, Format, Part, Row};
use crate::app::App;
use crate::auth::Member;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Limit, Parameters};
use crate::guard::{may, needs};
use crate::problem::Problem;

const TAG: &str = "audit";
const READ_MODEL: &[&str] = &["audit"];

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::READ_AUDIT, routes!(list_audit)))
        .routes(needs(may::READ_AUDIT, routes!(export_audit)))
        .merge(legal_hold::router())
}

/// One change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
struct AuditView {
    /// Where it stands in the log.
    #[schema(value_type = String, example = "e0-42")]
    position: Position,
    /// The resource's version after it.
    version: u64,
    /// When it was decided.
    #[schema(value_type = String, format = "date-time")]
    at: Timestamp,
    /// Who: `platform-admin`, `key_…` or `system:<part>`.
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
    /// Which one.
    resource_id: String,
    /// The HTTP request it came with.
    request_id: Option<String>,
    /// The address the request came from.
    origin: Option<String>,
    /// Names the command for ever.
    command_id: String,
    /// What it belongs to, across requests: the header `Correlation-Id`, or else the request's id.
    correlation_id: Option<String>,
    /// What directly led to it: a command, an event or a delivery.
    causation_id: Option<String>,
    /// W3C trace context.
    traceparent: Option<String>,
    /// What the event says, old and new values among it.
    #[schema(value_type = Object)]
    data: Value,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// By this actor.
    actor: Option<String>,
    /// This action, as `user.registered`.
    action: Option<String>,
    /// On this resource: its id, its kind, or `kind/id`.
    resource: Option<String>,
    /// Decided at this time (RFC 3339) or later.
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<Timestamp>,
    /// Decided before this time (RFC 3339).
    #[param(value_type = Option<String>, format = "date-time")]
    until: Option<Timestamp>,
    /// With this text somewhere.
    q: Option<String>,
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ExportQuery {
    /// The form of the file.
    #[param(inline)]
    format: Format,
    /// By this actor.
    actor: Option<String>,
    /// This action, as `user.registered`.
    action: Option<String>,
    /// On this resource: its id, its kind, or `kind/id`.
    resource: Option<String>,
    /// Decided at this time (RFC 3339) or later.
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<Timestamp>,
    /// Decided before this time (RFC 3339).
    #[param(value_type = Option<String>, format = "date-time")]
    until: Option<Timestamp>,
    /// With this text somewhere.
    q: Option<String>,
}

/// List changes
#[utoipa::path(
    get, path = "/v1/audit", tag = TAG, params(AuditQuery),
    responses((status = 200, description = "A page of changes, newest first.", body = List<AuditView>))
)]
async fn list_audit(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<AuditQuery>,
) -> Result<Found<List<AuditView>>, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let filter = AuditFilter {
        actor: query.actor,
        action: query.action,
        resource: query.resource,
        since: query.since,
        until: query.until,
        q: query.q,
    };
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    Ok(Found::list(
        app.read_models.audit(&member.tenant).list(&filter, &page).await?,
        AuditView::from,
    ))
}

/// Export changes
///
/// Newest first.
#[utoipa::path(
    get, path = "/v1/audit/export", tag = TAG, params(ExportQuery),
    responses((status = 200, description = "The file.", content((String = "application/jsonl"), (String = "text/csv"))))
)]
async fn export_audit(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<ExportQuery>,
) -> Result<Response, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let filter = AuditFilter {
        actor: query.actor,
        action: query.action,
        resource: query.resource,
        since: query.since,
        until: query.until,
        q: query.q,
    };
    let tenant = member.tenant;
    export::stream(query.format, "audit", move |cursor| {
        let (app, tenant, filter) = (app.clone(), tenant.clone(), filter.clone());
        async move {
            let page = Page {
                limit: Some(Page::MAX),
                cursor,
            };
            let found = app.read_models.audit(&tenant).list(&filter, &page).await?.data;
            let rows = found.data.into_iter().map(AuditView::from).collect();
            Ok(Part {
                rows,
                next: found.next_cursor,
            })
        }
    })
    .await
}

impl From<AuditRow> for AuditView {
    fn from(row: AuditRow) -> Self {
        Self {
            position: row.position,
            version: row.version,
            at: row.at,
            actor: row.actor,
            action: row.action,
            command: row.command,
            resource_type: row.resource_type,
            resource_id: row.resource_id,
            request_id: row.request_id,
            origin: row.origin,
            command_id: row.command_id,
            correlation_id: row.correlation_id,
            causation_id: row.causation_id,
            traceparent: row.traceparent,
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
        "request_id",
        "origin",
        "command_id",
        "correlation_id",
        "causation_id",
        "traceparent",
        "data",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.position.to_string(),
            self.version.to_string(),
            self.at.to_string(),
            self.actor.clone(),
            self.action.clone(),
            self.command.clone(),
            self.resource_type.clone(),
            self.resource_id.clone(),
            self.request_id.clone().unwrap_or_default(),
            self.origin.clone().unwrap_or_default(),
            self.command_id.clone(),
            self.correlation_id.clone().unwrap_or_default(),
            self.causation_id.clone().unwrap_or_default(),
            self.traceparent.clone().unwrap_or_default(),
            self.data.to_string(),
        ]
    }
}
