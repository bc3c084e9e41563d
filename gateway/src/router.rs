//! The HTTP API on one screen: a merge per feature, then the layers in order.

use std::sync::Arc;
use std::time::Duration;

use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::catalog::Catalog;
use crate::config::Http;
use crate::guard::{Guard, guard};
use crate::routes::health::Operator;
use crate::{layers, openapi, routes};

/// Every operation of the API, with the document made from it.
pub(crate) fn operations() -> (Router<App>, OpenApi) {
    let (router, document) = OpenApiRouter::with_openapi(openapi::base())
        .merge(routes::tenants::router())
        .merge(routes::api_keys::router())
        .merge(routes::users::router())
        .merge(routes::roles::router())
        .merge(routes::permissions::router())
        .merge(routes::teams::router())
        .merge(routes::invitations::router())
        .merge(routes::user_files::router())
        .merge(routes::endpoints::router())
        .merge(routes::event_types::router())
        .merge(routes::sources::router())
        .merge(routes::inbound::router())
        .merge(routes::events::router())
        .merge(routes::deliveries::router())
        .merge(routes::dead_letters::router())
        .merge(routes::recoveries::router())
        .merge(routes::audit::router())
        .merge(routes::proofs::router())
        .merge(routes::stats::router())
        .merge(routes::commands::router())
        .merge(routes::settings::router())
        .merge(routes::projections::router())
        .merge(routes::replays::router())
        .split_for_parts();
    (router, openapi::completed(document))
}

/// The API with its documentation; health and metrics beside it unless they are served elsewhere.
pub(crate) fn api(app: &App, operator: Option<Operator>) -> Router {
    let (router, document) = operations();
    let router = router.route_layer(from_fn_with_state(Guard::new(app, &document), guard));
    let catalog = Catalog::new(&document, inside(router.clone().with_state(app.clone())));
    let router = router
        .layer(Extension(Arc::new(catalog)))
        .merge(routes::docs::router(document))
        .with_state(app.clone());
    let router = match operator {
        Some(operator) => router.merge(routes::health::router(operator)),
        None => router,
    };
    layered(
        router,
        app.http.request_timeout,
        app.http.connections.body_timeout,
    )
}

/// Health and metrics alone.
pub(crate) fn operator(operator: Operator, http: &Http) -> Router {
    layered(
        routes::health::router(operator),
        http.request_timeout,
        http.connections.body_timeout,
    )
}

/// The API as calls that carry many commands use it: each command is a request of its own, inside the one that
/// brought it.
fn inside(router: Router) -> Router {
    router.layer(CatchPanicLayer::custom(layers::panicked))
}

/// The layers, innermost first: what a request meets last stands first here.
fn layered(router: Router, request_timeout: Duration, body_timeout: Duration) -> Router {
    router
        .fallback(layers::not_found)
        .method_not_allowed_fallback(layers::method_not_allowed)
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn_with_state(request_timeout, layers::bound_time))
        .layer(from_fn(layers::discard_unread))
        .layer(from_fn_with_state(body_timeout, layers::bound_pieces))
        .layer(from_fn(layers::identify))
}
