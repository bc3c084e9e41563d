//! `/v1/audit`: what happened in a tenant, who did it, and from where; what was refused, and which secrets were shown.

mod export;
mod legal_hold;
mod ocsf;
mod stream;
mod view;

use axum::extract::State;
use domain::Timestamp;
use projections::{AuditFilter, Page};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::Auditor;
use crate::consistency::{AtLeast, Found, List};
use crate::extract::{Limit, Parameters};
use crate::guard::{may, needs};
use crate::problem::Problem;
use view::{AuditView, OutcomeView};

pub(crate) use stream::Streams;

const TAG: &str = "audit";
const READ_MODEL: &[&str] = &["audit"];

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::READ_AUDIT, routes!(list_audit)))
        .merge(export::router())
        .merge(stream::router())
        .merge(legal_hold::router())
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
    /// The most rows, 1 to 200; 50 unless given.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List entries
///
/// By the time of decision, newest first. One page looks at 5,000 entries at most: where `q`, `outcome`, a kind of
/// resource, or two of actor, action and resource are asked for, a page can hold fewer entries than `limit`, or none,
/// and still have a `next_cursor`: the list is over only where that is null. Times narrow what is looked at.
#[utoipa::path(
    get, path = "/v1/audit", tag = TAG, params(AuditQuery),
    responses((status = 200, description = "A page of entries, newest first.", body = List<AuditView>))
)]
async fn list_audit(
    auditor: Auditor,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<AuditQuery>,
) -> Result<Found<List<AuditView>>, Problem> {
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
    let page = Page {
        limit: Some(Limit::rows(query.limit)),
        cursor: query.cursor,
    };
    Ok(Found::list(
        app.read_models
            .audit(&auditor.tenant)
            .list(&filter, &page)
            .await?,
        AuditView::from,
    ))
}
