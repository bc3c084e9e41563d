//! The conformance suite on the embedded engine.

broker::conformance_suite!(embedded, broker::conformance::EmbeddedHarness::start().await);
