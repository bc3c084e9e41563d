//! The conformance suite on the JetStream engine: each case has a nats-server of its own.

use tests::nats::JetStreamHarness;

broker::conformance_suite!(
    jetstream,
    JetStreamHarness::start().await.expect("nats-server starts")
);
