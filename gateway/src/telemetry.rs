//! Logging: to stderr, so that stdout stays for what the operator asked to see.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::Logging;

/// Starts logging; a second call changes nothing.
pub(crate) fn init(logging: &Logging) {
    let filter = EnvFilter::new(&logging.filter);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = if logging.json {
        builder.json().try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}
