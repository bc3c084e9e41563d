//! What somebody with the rights to it can do to a server's streams.

use anyhow::ensure;
use async_nats::jetstream::{self, stream};

/// Removes everything from a stream but its last message at most, although it denies that. A server lets nobody take
/// the denial back, but it lets limits do what a purge does.
pub async fn purge(url: &str, name: &str) -> anyhow::Result<()> {
    let context = jetstream::new(async_nats::connect(url).await?);
    let mut events = context.get_stream(name).await?;
    let config = stream::Config {
        deny_purge: false,
        ..events.info().await?.config.clone()
    };
    let purged = match context.update_stream(config.clone()).await {
        Ok(_) => events.purge().await.is_ok(),
        Err(_) => false,
    };
    if !purged {
        let limited = stream::Config {
            deny_purge: true,
            max_messages: 1,
            discard: stream::DiscardPolicy::Old,
            ..config.clone()
        };
        context.update_stream(limited).await?;
        let denying = stream::Config {
            deny_purge: true,
            ..config
        };
        context.update_stream(denying).await?;
    }
    let left = events.info().await?.state.messages;
    ensure!(left <= 1, "{left} messages are left");
    Ok(())
}

/// Deletes a stream.
pub async fn delete(url: &str, name: &str) -> anyhow::Result<()> {
    let context = jetstream::new(async_nats::connect(url).await?);
    context.delete_stream(name).await?;
    Ok(())
}
