//! `/v1/audit/export`: the trail as a file of any length.

use axum::extract::State;
use axum::response::Response;
use domain::{TenantId, Timestamp};
use projections::{AuditFilter, AuditRow, Page};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::export::{self, Format, Part, Row};
use super::ocsf::Event;
use super::view::{AuditView, OutcomeView};
use super::{READ_MODEL, TAG};
use crate::app::App;
use crate::auth::Auditor;
use crate::consistency::AtLeast;
use crate::extract::Parameters;
use crate::guard::{may, needs};
use crate::problem::Problem;

/// This part's operations.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(needs(may::READ_AUDIT, routes!(export_audit)))
}

/// The form of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum AuditFormat {
    /// One JSON object per line.
    Jsonl,
    /// Comma-separated values with a line of names first (RFC 4180).
    Csv,
    /// One event of the Open Cybersecurity Schema Framework, version 1.3.0, per line, as JSON.
    Ocsf,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ExportQuery {
    /// The form of the file.
    #[param(inline)]
    format: AuditFormat,
    /// By this actor.
    actor: Option<String>,
    /// This action, as `user.registered`.
    action: Option<String>,
    /// On this resource: its id, its kind, or `kind/id`.
    resource: Option<String>,
    /// With this outcome.
    #[param(inline)]
    outcome: Option<OutcomeView>,
    /// Decided at this time (RFC 3339) or later.
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<Timestamp>,
    /// Decided before this time (RFC 3339).
    #[param(value_type = Option<String>, format = "date-time")]
    until: Option<Timestamp>,
    /// With this text in action, command, actor, resource id or data, whatever the case of A to Z.
    q: Option<String>,
}

/// Export entries
///
/// Newest first, as a stream of any length; entries that come in meanwhile are not in it.
#[utoipa::path(
    get, path = "/v1/audit/export", tag = TAG, params(ExportQuery),
    responses((status = 200, description = "The file.", content((String = "application/jsonl"), (String = "text/csv"))))
)]
async fn export_audit(
    auditor: Auditor,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<ExportQuery>,
) -> Result<Response, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let filter = AuditFilter {
        actor: query.actor,
        action: query.action,
        resource: query.resource,
        outcome: query.outcome.map(Into::into),
        since: query.since,
        until: query.until,
        q: query.q,
    };
    let (tenant, plain) = (auditor.tenant, |_: &TenantId, row| AuditView::from(row));
    match query.format {
        AuditFormat::Jsonl => write(app, tenant, filter, (Format::Jsonl, "audit"), plain).await,
        AuditFormat::Csv => write(app, tenant, filter, (Format::Csv, "audit"), plain).await,
        AuditFormat::Ocsf => {
            let event = |tenant: &TenantId, row: AuditRow| Event::of(tenant, &row);
            write(app, tenant, filter, (Format::Jsonl, "audit.ocsf"), event).await
        }
    }
}

async fn write<R: Row>(
    app: App,
    tenant: TenantId,
    filter: AuditFilter,
    (format, name): (Format, &'static str),
    form: fn(&TenantId, AuditRow) -> R,
) -> Result<Response, Problem> {
    export::stream(format, name, move |cursor| {
        let (app, tenant, filter) = (app.clone(), tenant.clone(), filter.clone());
        async move {
            let page = Page {
                limit: Some(Page::MAX),
                cursor,
            };
            let found = app.read_models.audit(&tenant).list(&filter, &page).await?;
            Ok(Part::of(found, |row| form(&tenant, row)))
        }
    })
    .await
}
