//! A look at a server's monitoring endpoint, the only place where nats-server tells how it syncs to disk.

use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Cause;

/// More than any answer of `/varz`.
const MAX_ANSWER: u64 = 4 * 1024 * 1024;

/// What `/varz` says of JetStream's syncing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// Before every acknowledgement.
    Always,
    /// Every so often; what was acknowledged since the last time can be lost.
    Every(Duration),
    /// JetStream is off on that server.
    Off,
}

#[derive(Deserialize)]
struct Varz {
    #[serde(default)]
    jetstream: JetStreamVarz,
}

#[derive(Default, Deserialize)]
struct JetStreamVarz {
    config: Option<JetStreamConfig>,
}

#[derive(Deserialize)]
struct JetStreamConfig {
    #[serde(default)]
    sync_always: bool,
    #[serde(default)]
    sync_interval: u64,
}

/// Asks one server, as `http://127.0.0.1:8222`.
pub(super) async fn sync_of(address: &str, within: Duration) -> Result<Sync, Cause> {
    let body = tokio::time::timeout(within, get(address, "/varz")).await??;
    parse(&body)
}

fn parse(body: &[u8]) -> Result<Sync, Cause> {
    let varz: Varz = serde_json::from_slice(body)?;
    Ok(match varz.jetstream.config {
        None => Sync::Off,
        Some(config) if config.sync_always => Sync::Always,
        Some(config) => Sync::Every(Duration::from_nanos(config.sync_interval)),
    })
}

/// HTTP/1.0, so that the answer comes in one piece and ends with the connection.
async fn get(address: &str, path: &str) -> Result<Vec<u8>, Cause> {
    let host = address
        .strip_prefix("http://")
        .ok_or("a monitoring address starts with http://")?;
    let host = host.trim_end_matches('/');
    let mut connection = TcpStream::connect(host).await?;
    connection
        .write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    connection.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or("the answer is not HTTP")?;
    let status = String::from_utf8_lossy(answer.get(..end).unwrap_or_default());
    if status.split_whitespace().nth(1) != Some("200") {
        return Err(format!("it answers {}", status.lines().next().unwrap_or_default()).into());
    }
    Ok(answer.split_off(end + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncing_is_read_from_varz() {
        let sync = |text: &str| parse(text.as_bytes()).unwrap();
        let always = r#"{"version":"2.15.1","jetstream":{"config":{"sync_interval":120000000000,"sync_always":true}}}"#;
        assert_eq!(sync(always), Sync::Always);
        let seldom = r#"{"jetstream":{"config":{"sync_interval":120000000000}}}"#;
        assert_eq!(sync(seldom), Sync::Every(Duration::from_mins(2)));
        assert_eq!(sync(r#"{"jetstream":{}}"#), Sync::Off);
        assert!(parse(b"<html>").is_err());
    }
}
