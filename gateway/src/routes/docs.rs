//! `/openapi.json`, `/docs` (a page to try the API), and the pages of the problems.

use axum::Router;
use axum::extract::Path;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

use crate::app::App;
use crate::problem::{Problem, ProblemType};

/// The page draws itself with inline styles and `data:` images; everything else comes from this service.
const POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

/// These addresses.
pub(crate) fn router(document: OpenApi) -> Router<App> {
    let page: Router<App> = SwaggerUi::new("/docs").url("/openapi.json", document).into();
    let page = page
        .layer(SetResponseHeaderLayer::if_not_present(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            CACHE_CONTROL,
            HeaderValue::from_static("no-cache"),
        ));
    page.route("/docs/problems/{code}", get(show_problem_page))
}

async fn show_problem_page(Path(code): Path<String>) -> Result<Response, Problem> {
    let kind = ProblemType::ALL
        .iter()
        .find(|kind| kind.code() == code)
        .ok_or_else(Problem::not_found)?;
    Ok(([(CONTENT_TYPE, "text/markdown; charset=utf-8")], kind.page()).into_response())
}
