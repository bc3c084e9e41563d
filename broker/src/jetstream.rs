//! The JetStream engine.
