//! What somebody with the rights to it can do to a server's streams.

use anyhow::ensure;
use async_nats::jetstream::{self, stream};
use serde_json::{Value, json};

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

/// Changes a stream's configuration.
pub async fn reconfigure(
    url: &str,
    name: &str,
    change: impl FnOnce(&mut stream::Config),
) -> anyhow::Result<()> {
    let context = jetstream::new(async_nats::connect(url).await?);
    let mut stream = context.get_stream(name).await?;
    let mut config = stream.info().await?.config.clone();
    change(&mut config);
    context.update_stream(config).await?;
    Ok(())
}

/// Takes a stream's subjects away from it, and gives them to another, where that is named; answers them.
pub async fn divert(url: &str, name: &str, to: Option<&str>) -> anyhow::Result<Vec<String>> {
    let mut subjects = Vec::new();
    let nowhere = vec![format!("nowhere.{name}")];
    reconfigure(url, name, |config| {
        subjects = std::mem::replace(&mut config.subjects, nowhere);
    })
    .await?;
    if let Some(to) = to {
        let context = jetstream::new(async_nats::connect(url).await?);
        let other = stream::Config {
            name: to.to_owned(),
            subjects: subjects.clone(),
            allow_atomic_publish: true,
            ..stream::Config::default()
        };
        context.create_stream(other).await?;
    }
    Ok(subjects)
}

/// Has a stream's leader give its lead up to the server of this name.
pub async fn step_down(url: &str, stream: &str, to: &str) -> anyhow::Result<()> {
    let context = jetstream::new(async_nats::connect(url).await?);
    let subject = format!("STREAM.LEADER.STEPDOWN.{stream}");
    let preferred = json!({ "placement": { "preferred": to } });
    let answer: Value = context.request(subject, &preferred).await?;
    ensure!(answer["success"] == true, "{answer}");
    Ok(())
}
