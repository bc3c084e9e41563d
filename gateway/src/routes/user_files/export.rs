//! `GET /v1/users/export`: all users as a file that can be imported again.

use axum::extract::State;
use axum::response::Response;
use domain::user::UserStatus;
use projections::{Page, UserFilter, UserRow};
use serde::Deserialize;
use utoipa::IntoParams;

use super::super::export::{self, Format, Part, Row};
use crate::app::App;
use crate::auth::Member;
use crate::consistency::AtLeast;
use crate::extract::Parameters;
use crate::problem::Problem;

const READ_MODEL: &[&str] = &["users"];

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportQuery {
    /// The form of the file.
    #[param(inline)]
    format: Format,
    /// Users that are this only; all but the removed unless given.
    #[param(value_type = Option<String>)]
    status: Option<UserStatus>,
}

/// Export users
///
/// Newest first. The file can be imported again, which makes new users of its rows: ids, status and times are then
/// passed over. Cells that a spreadsheet would take for a formula begin with `'`; an import takes it away again.
#[utoipa::path(
    get, path = "/v1/users/export", tag = "users", params(ExportQuery),
    responses((status = 200, description = "The file.", content((String = "application/jsonl"), (String = "text/csv"))))
)]
pub(super) async fn export_users(
    member: Member,
    State(app): State<App>,
    at_least: AtLeast,
    Parameters(query): Parameters<ExportQuery>,
) -> Result<Response, Problem> {
    at_least.reached(&app, READ_MODEL).await?;
    let tenant = member.tenant;
    let filter = UserFilter {
        status: query.status,
        ..UserFilter::default()
    };
    export::stream(query.format, "users", move |cursor| {
        let (app, tenant, filter) = (app.clone(), tenant.clone(), filter.clone());
        async move {
            let page = Page {
                limit: Some(Page::MAX),
                cursor,
            };
            let found = app.read_models.users(&tenant).list(&filter, &page).await?;
            Ok(Part::of(found, |row| row))
        }
    })
    .await
}

impl Row for UserRow {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "email",
        "name",
        "status",
        "roles",
        "attributes",
        "created_at",
        "updated_at",
    ];

    fn cells(&self) -> Vec<String> {
        let roles: Vec<_> = self.roles.iter().map(ToString::to_string).collect();
        let attributes = if self.attributes.is_empty() {
            String::new()
        } else {
            serde_json::Value::Object(self.attributes.clone()).to_string()
        };
        let status = serde_json::to_value(self.status).unwrap_or_default();
        vec![
            self.id.to_string(),
            self.email.clone(),
            self.name.clone(),
            status.as_str().unwrap_or_default().to_owned(),
            roles.join(";"),
            attributes,
            self.created_at.to_string(),
            self.updated_at.to_string(),
        ]
    }
}
