//! `/v1/users/import` and `/v1/users/export`: users as files, of any length, in bounded memory.

mod columns;
mod cut;
mod export;
mod import;
mod report;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::guard::{may, needs};

/// This feature's operations.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(needs(may::WRITE_USERS, routes!(import::import_users)))
        .routes(needs(may::READ_USERS, routes!(export::export_users)))
}
