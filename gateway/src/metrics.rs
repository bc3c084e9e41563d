//! What the gateway measures, and the exporter for all crates' measures.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

/// Requests answered, by method, route template and status.
const REQUESTS: &str = "tidings_http_requests_total";
/// Time to answer a request in seconds, by method and route template.
const REQUEST_SECONDS: &str = "tidings_http_request_seconds";

/// Requests under an Idempotency-Key, by outcome: `first`, `resumed` (an earlier one was not answered for good),
/// `replayed`, `running`, `reused`.
const KEYED_REQUESTS: &str = "tidings_idempotent_requests_total";

/// Commits that tell of refusals and shown secrets, and refusals that found no room, by outcome: `recorded`, `dropped`
/// (counted only), `failed`.
const ACCESS_EVENTS: &str = "tidings_access_log_total";

/// Webhooks of other systems, by outcome: `taken`, `repeated`, `answered` (a challenge or ping), or the code of the problem.
const INBOUND: &str = "tidings_inbound_requests_total";

/// Upper bounds of the histograms' buckets, in seconds.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// How often the exporter folds what was measured; without it histograms would only grow.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the recorder of this process; call it once, inside the runtime.
pub(crate) fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(SECONDS)?
        .install_recorder()?;
    metrics::describe_counter!(REQUESTS, "Requests answered.");
    metrics::describe_counter!(KEYED_REQUESTS, "Requests under an Idempotency-Key.");
    metrics::describe_counter!(ACCESS_EVENTS, "Commits of refusals and shown secrets.");
    metrics::describe_counter!(INBOUND, "Webhooks of other systems.");
    metrics::describe_histogram!(
        REQUEST_SECONDS,
        metrics::Unit::Seconds,
        "Time to answer a request."
    );
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// Counts one request under an `Idempotency-Key`.
pub(crate) fn keyed_request(outcome: &'static str) {
    metrics::counter!(KEYED_REQUESTS, "outcome" => outcome).increment(1);
}

/// Counts what became of refusals and shown secrets.
pub(crate) fn access_event(outcome: &'static str) {
    metrics::counter!(ACCESS_EVENTS, "outcome" => outcome).increment(1);
}

/// Counts one webhook of another system.
pub(crate) fn inbound(outcome: &'static str) {
    metrics::counter!(INBOUND, "outcome" => outcome).increment(1);
}

/// Counts one answered request.
pub(crate) fn request(method: &str, route: &str, status: u16, took: Duration) {
    let labels = [("method", method.to_owned()), ("route", route.to_owned())];
    metrics::histogram!(REQUEST_SECONDS, &labels).record(took);
    let [method, route] = labels;
    metrics::counter!(REQUESTS, &[method, route, ("status", status.to_string())]).increment(1);
}
