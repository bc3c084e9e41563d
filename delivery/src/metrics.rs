//! The figures of delivery: names, units and meanings.

use std::time::Duration;

use domain::AttemptOutcome;
use metrics::{counter, gauge, histogram};

/// Counter: HTTP tries, by `outcome` (`ok` or an error class as in the delivery log).
pub const ATTEMPTS: &str = "tidings_delivery_attempts_total";
/// Histogram, seconds: one HTTP try from start to end.
pub const ATTEMPT_SECONDS: &str = "tidings_delivery_attempt_seconds";
/// Histogram, seconds: from the publication of a message to its recorded arrival.
pub const PUBLISH_TO_DELIVERED_SECONDS: &str = "tidings_delivery_publish_to_delivered_seconds";
/// Counter: deliveries that used up their attempts.
pub const DEAD: &str = "tidings_delivery_dead_total";
/// Counter: messages matched against the endpoints.
pub const MESSAGES_MATCHED: &str = "tidings_delivery_messages_matched_total";
/// Counter: deliveries made of them.
pub const DELIVERIES_CREATED: &str = "tidings_delivery_deliveries_created_total";
/// Counter: records of a log that could not be read and were passed over, by `log`.
pub const UNREADABLE: &str = "tidings_delivery_unreadable_records_total";
/// Counter: jobs sent back to the queue as they came, by `why`: `full` (every place of the endpoint's lane is taken),
/// `rate` (it has begun as many tries as its rate allows), `open` (its breaker is), `resting` (its receiver asked for
/// it), `busy` (this process has as much under way as it may).
pub const SENT_AWAY: &str = "tidings_delivery_sent_away_total";
/// Counter: how often the breaker of an endpoint opened.
pub const BREAKERS_OPENED: &str = "tidings_delivery_breakers_opened_total";
/// Gauge: endpoints whose breaker is not closed.
pub const BREAKERS_OPEN: &str = "tidings_delivery_breakers_open";
/// Gauge: jobs in hand that wait before their lane.
pub const WAITING: &str = "tidings_delivery_waiting";
/// Gauge: HTTP tries under way that have lasted for half a second or more, or are to an endpoint that is as slow.
pub const SLOW_IN_FLIGHT: &str = "tidings_delivery_slow_in_flight";
/// Counter: jobs sent back to the queue because their tenant is suspended.
pub const TENANT_SUSPENDED: &str = "tidings_delivery_tenant_suspended_total";
/// Counter: jobs of an order that found the one before them not ended, and lay down behind it.
pub const OUT_OF_TURN: &str = "tidings_delivery_out_of_turn_total";
/// Counter: deliveries of an order that became dead letters behind one.
pub const PARKED: &str = "tidings_delivery_parked_total";
/// Counter: endpoints disabled by Tidings itself, by `why`: `gone` or `failing`.
pub const DISABLED: &str = "tidings_delivery_endpoints_disabled_total";
/// Gauge: HTTP tries under way.
pub const IN_FLIGHT: &str = "tidings_delivery_in_flight";

pub(crate) fn attempted(outcome: &AttemptOutcome) {
    let label = outcome.error.map_or("ok", domain::ErrorClass::as_str);
    counter!(ATTEMPTS, "outcome" => label).increment(1);
    histogram!(ATTEMPT_SECONDS).record(Duration::from_millis(outcome.duration_ms));
}

pub(crate) fn delivered(since_publication: Duration) {
    histogram!(PUBLISH_TO_DELIVERED_SECONDS).record(since_publication);
}

pub(crate) fn dead() {
    counter!(DEAD).increment(1);
}

pub(crate) fn matched(messages: usize, deliveries: usize) {
    counter!(MESSAGES_MATCHED).increment(messages as u64);
    counter!(DELIVERIES_CREATED).increment(deliveries as u64);
}

pub(crate) fn unreadable(log: &str) {
    counter!(UNREADABLE, "log" => log.to_owned()).increment(1);
}

pub(crate) fn sent_away(why: &'static str) {
    counter!(SENT_AWAY, "why" => why).increment(1);
}

pub(crate) fn out_of_turn() {
    counter!(OUT_OF_TURN).increment(1);
}

pub(crate) fn parked() {
    counter!(PARKED).increment(1);
}

pub(crate) fn disabled(why: &'static str) {
    counter!(DISABLED, "why" => why).increment(1);
}

pub(crate) fn breaker_opened() {
    counter!(BREAKERS_OPENED).increment(1);
}

/// Jobs that wait, tries that last, and open breakers.
#[expect(
    clippy::cast_precision_loss,
    reason = "gauges are floats, and these numbers small"
)]
pub(crate) fn lanes((waiting, slow, open): (usize, u32, usize)) {
    gauge!(WAITING).set(waiting as f64);
    gauge!(SLOW_IN_FLIGHT).set(f64::from(slow));
    gauge!(BREAKERS_OPEN).set(open as f64);
}

pub(crate) fn tenant_suspended() {
    counter!(TENANT_SUSPENDED).increment(1);
}

/// Counts one try as under way for as long as it lives.
#[derive(Debug)]
pub(crate) struct InFlight;

impl InFlight {
    pub(crate) fn begin() -> Self {
        gauge!(IN_FLIGHT).increment(1);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!(IN_FLIGHT).decrement(1);
    }
}
