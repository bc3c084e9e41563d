//! `/health/live`, `/health/ready` and `/metrics`: for operators and their machines, without a credential.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use crate::health::Health;

/// The text format of Prometheus.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What these addresses show.
#[derive(Clone)]
pub(crate) struct Operator {
    /// Whether the process can do its work.
    pub(crate) health: Arc<Health>,
    /// All measures of the process.
    pub(crate) metrics: PrometheusHandle,
}

/// These addresses.
pub(crate) fn router(operator: Operator) -> Router {
    Router::new()
        .route("/health/live", get(show_liveness))
        .route("/health/ready", get(show_readiness))
        .route("/metrics", get(show_metrics))
        .with_state(operator)
}

/// The process runs and answers.
async fn show_liveness() -> impl IntoResponse {
    Json(json!({ "status": "live" }))
}

/// The process can do its work, part by part.
async fn show_readiness(State(operator): State<Operator>) -> impl IntoResponse {
    let report = operator.health.report().await;
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report))
}

async fn show_metrics(State(operator): State<Operator>) -> impl IntoResponse {
    ([(CONTENT_TYPE, TEXT_FORMAT)], operator.metrics.render())
}
