//! Stopping: on SIGTERM or SIGINT in order, on a second one at once.

use std::process::exit;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What the exit code tells when the operator would not wait: 128 + SIGINT, as shells have it.
const IMPATIENT: i32 = 130;

/// A token that is cancelled by the first signal; the second one ends the process.
pub(crate) fn on_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stopping = CancellationToken::new();
    let stop = stopping.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        tracing::info!("stopping: what is in flight is finished; a second signal ends the process at once");
        stop.cancel();
        next().await;
        tracing::warn!("a second signal: ending at once");
        exit(IMPATIENT);
    });
    Ok(stopping)
}
