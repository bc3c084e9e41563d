//! Leaves a server that stands still.
//!
//! The client's own pings are put off by whatever it sends, so that a service with work to do would stay for as long as it
//! has work on a server that holds its connections open and answers nothing: a process that is stopped, a host whose
//! network is gone without a word. Where there are others, or the address leads to another by now, they would answer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;

/// How often is looked whether anything was heard.
const BEAT: Duration = Duration::from_secs(1);
/// How many looks in a row may find that nothing was, though the server was asked for a sign at each.
const SILENT_BEATS: u32 = 3;

/// Asks a silent server for a sign, and has the client connect anew where none comes. Ends with the client.
pub(super) async fn watch(client: Client) {
    let (mut heard, mut silent) = (0, 0);
    loop {
        // Beats are counted, not time: after a stop of this very process, what was sent meanwhile is yet to be read.
        tokio::time::sleep(BEAT).await;
        let bytes = client.statistics().in_bytes.load(Ordering::Relaxed);
        if bytes != heard || client.connection_state() != State::Connected {
            (heard, silent) = (bytes, 0);
            continue;
        }
        silent += 1;
        if silent <= SILENT_BEATS {
            // Where the client's queue is full there is no room for the question either, and the silence counts.
            tokio::time::timeout(BEAT, ask(&client)).await.ok();
            continue;
        }
        tracing::warn!("NATS has not answered for {silent} seconds: connecting anew");
        silent = 0;
        if let Ok(Err(_)) = tokio::time::timeout(BEAT, client.force_reconnect()).await {
            return;
        }
    }
}

/// Has the client ping: it does so when a subscription is given up in order. All it takes is the right to subscribe to
/// one's own replies.
async fn ask(client: &Client) {
    if let Ok(mut subscription) = client.subscribe(client.new_inbox()).await {
        subscription.drain().await.ok();
    }
}
