//! The demo's service: this program as a process of its own, `tidings serve`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::scratch::Scratch;
use crate::cli::Failure;

const START: Duration = Duration::from_mins(1);

/// A running `tidings serve`; killed when dropped.
pub(crate) struct Service {
    child: Child,
    url: String,
    admin_key: String,
    started_in: Duration,
}

impl Service {
    /// Starts it on the demo's own data and waits until it is ready.
    pub(crate) async fn start(scratch: &Scratch) -> Result<Self, Failure> {
        let failed = |what: String| Failure::new(what, "the lines above say more");
        let begun = Instant::now();
        let program =
            std::env::current_exe().map_err(|error| failed(format!("this program is not found: {error}")))?;
        let admin_key = format!("tdk_{}{}", ulid::Ulid::generate(), ulid::Ulid::generate());
        let mut child = Command::new(program)
            .arg("serve")
            .current_dir(scratch.folder())
            .envs(scratch.settings())
            .env("TIDINGS_LISTEN", "127.0.0.1:0")
            .env("TIDINGS_PROFILE", "development")
            .env("TIDINGS_ADMIN_KEY", &admin_key)
            .env("TIDINGS_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(format!("the service cannot be started: {error}")))?;
        let Some(output) = child.stdout.take() else {
            return Err(failed("the service has no output".to_owned()));
        };
        let url = tokio::time::timeout(START, listening(output))
            .await
            .ok()
            .flatten();
        let Some(url) = url else {
            return Err(failed("the service did not start".to_owned()));
        };
        wait_until_ready(&url).await.map_err(failed)?;
        Ok(Self {
            child,
            url,
            admin_key,
            started_in: begun.elapsed(),
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn admin_key(&self) -> &str {
        &self.admin_key
    }

    pub(crate) fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Ends it; its data is about to be removed, so nothing has to be finished.
    pub(crate) async fn stop(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "The demo's service could not be ended.");
        }
    }
}

/// The address it says it listens on. The rest of its output is read and dropped, so that it never blocks.
async fn listening(output: tokio::process::ChildStdout) -> Option<String> {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(url) = line.strip_prefix("listening on ") {
            let url = url.trim().to_owned();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some(url);
        }
    }
    None
}

async fn wait_until_ready(url: &str) -> Result<(), String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .map_err(|error| error.to_string())?;
    let deadline = Instant::now() + START;
    while Instant::now() < deadline {
        let answer = client.get(format!("{url}/health/ready")).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(format!("the service at {url} did not become ready"))
}
