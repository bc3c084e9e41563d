//! A webhook receiver that records what it gets and answers by script.
//!
//! Each path has its own script of [`Answer`]s, used one after the other; the last one stays. A path without a
//! script answers 200.

use std::collections::{HashMap, VecDeque};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use standardwebhooks::Webhook;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::tls::TlsListener;
use crate::tools;

/// The largest body it takes.
const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// How a receiver answers one request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// This status at once, with a short body.
    Status(u16),
    /// This status with a header, as `Retry-After`.
    With(u16, &'static str, String),
    /// 200 after a while.
    After(Duration),
    /// Nothing, ever; the connection stays open.
    Hang,
    /// 200, then a byte of body at every interval, without end.
    Drip(Duration),
    /// 302 to this address.
    Redirect(String),
    /// 200 with a body of so many bytes.
    Huge(usize),
    /// This status with a JSON body.
    Json(u16, serde_json::Value),
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, verbatim.
    pub body: Bytes,
    /// When it had come in full.
    pub at: SystemTime,
}

impl Received {
    /// A header as text; empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The `webhook-id`: constant over all attempts of a delivery.
    pub fn webhook_id(&self) -> &str {
        self.header("webhook-id")
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context("the webhook's body is not JSON")
    }

    /// Verifies signature and time with the `standardwebhooks` crate and the endpoint's secret (`whsec_…`).
    pub fn verify(&self, secret: &str) -> anyhow::Result<()> {
        Webhook::new(secret)?
            .verify(&self.body, &self.headers)
            .context("the webhook does not verify")
    }
}

/// How far from its arrival the time of a webhook may be (Standard Webhooks).
const TOLERANCE: u64 = 5 * 60;

impl Received {
    /// Whether it verified when it came, however long ago that is.
    pub fn was_genuine(&self, secret: &str) -> anyhow::Result<()> {
        let sent: i64 = self.header("webhook-timestamp").parse()?;
        let came = self.at.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        ensure!(
            came.abs_diff(sent.try_into()?) <= TOLERANCE,
            "it was sent at {sent} and came at {came}"
        );
        let expected = Webhook::new(secret)?.sign(self.webhook_id(), sent, &self.body)?;
        let mut signatures = self.header("webhook-signature").split(' ');
        ensure!(
            signatures.any(|signature| signature == expected),
            "no signature is that of the endpoint"
        );
        Ok(())
    }
}

/// Reads `{"secret","headers","body"}` and verifies it; an exception ends it with a code other than 0.
const PYTHON_VERIFIER: &str = "
import json, sys
from standardwebhooks import Webhook
webhook = json.load(sys.stdin)
Webhook(webhook['secret']).verify(webhook['body'], webhook['headers'])
";

impl Received {
    /// The same with the Python library of that name, which shares no code with the crate.
    pub async fn verify_with_python(&self, secret: &str) -> anyhow::Result<()> {
        let headers: HashMap<&str, &str> = self
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        let body = std::str::from_utf8(&self.body)?;
        let webhook = serde_json::json!({"secret": secret, "headers": headers, "body": body});
        let mut python = tokio::process::Command::new(tools::python()?)
            .args(["-c", PYTHON_VERIFIER])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut input = python.stdin.take().context("the verifier has no input")?;
        input.write_all(&serde_json::to_vec(&webhook)?).await?;
        drop(input);
        let output = python.wait_with_output().await?;
        ensure!(
            output.status.success(),
            "refused: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Shared {
    scripts: Mutex<HashMap<String, VecDeque<Answer>>>,
    received: watch::Sender<Vec<Received>>,
}

/// A receiver on a free loopback port, until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: std::net::SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Receiver {
    /// Starts one that answers 200 to everything.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        Ok(Self::serving("http", listener.local_addr()?, listener))
    }

    /// Starts one that speaks TLS.
    pub async fn start_tls(config: rustls::ServerConfig) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self::serving(
            "https",
            address,
            TlsListener::new(listener, config),
        ))
    }

    fn serving<L>(scheme: &'static str, address: std::net::SocketAddr, listener: L) -> Self
    where
        L: axum::serve::Listener,
        L::Addr: std::fmt::Debug,
    {
        let shared = Arc::new(Shared::default());
        let router = Router::new().fallback(receive).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            // It is aborted with the receiver; an error before that shows as requests that do not come.
            axum::serve(listener, router).await.ok();
        });
        Self {
            address,
            scheme,
            shared,
            server,
        }
    }

    /// The address of a path, as `http://127.0.0.1:1234/hook`.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Sets how a path answers from now on: in this order, then for ever as the last.
    pub fn script(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        locked(&self.shared.scripts).insert(path.to_owned(), answers.into_iter().collect());
    }

    /// Lets a path fail `times` times with 500, then succeed.
    pub fn fail_first(&self, path: &str, times: usize) {
        let failures = std::iter::repeat_n(Answer::Status(500), times);
        self.script(path, failures.chain([Answer::Status(200)]));
    }

    /// All requests so far, in the order they came.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.borrow().clone()
    }

    /// The same, of which nothing is kept: what comes from now on is counted anew.
    pub fn drain(&self) -> Vec<Received> {
        let mut drained = Vec::new();
        self.shared
            .received
            .send_modify(|all| drained = std::mem::take(all));
        drained
    }

    /// Waits until at least `count` requests have come and answers them all.
    pub async fn wait_for(&self, count: usize, within: Duration) -> anyhow::Result<Vec<Received>> {
        self.wait_until(within, |received| received.len() >= count)
            .await
            .with_context(|| format!("{count} requests were expected"))
    }

    /// Waits until the requests so far fulfil a condition and answers them.
    pub async fn wait_until(
        &self,
        within: Duration,
        condition: impl Fn(&[Received]) -> bool,
    ) -> anyhow::Result<Vec<Received>> {
        let deadline = Instant::now() + within;
        let mut changes = self.shared.received.subscribe();
        match tokio::time::timeout_at(deadline, changes.wait_for(|received| condition(received))).await {
            Ok(received) => Ok(received?.clone()),
            Err(_) => bail!(
                "only {} requests came to the receiver within {within:?}",
                self.received().len()
            ),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn receive(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_LIMIT).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let path = head.uri.path().to_owned();
    let answer = next_answer(&shared, &path);
    let received = Received {
        method: head.method,
        path,
        headers: head.headers,
        body,
        at: SystemTime::now(),
    };
    shared.received.send_modify(|all| all.push(received));
    respond(answer).await
}

fn next_answer(shared: &Shared, path: &str) -> Answer {
    let mut scripts = locked(&shared.scripts);
    let script = scripts.get_mut(path);
    script
        .and_then(|answers| {
            if answers.len() > 1 {
                answers.pop_front()
            } else {
                answers.front().cloned()
            }
        })
        .unwrap_or(Answer::Status(200))
}

async fn respond(answer: Answer) -> Response {
    let status = |code| StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match answer {
        Answer::Status(code) => (status(code), "noted").into_response(),
        Answer::With(code, name, value) => (status(code), [(name, value)], "noted").into_response(),
        Answer::After(delay) => {
            tokio::time::sleep(delay).await;
            StatusCode::OK.into_response()
        }
        Answer::Hang => std::future::pending().await,
        Answer::Drip(interval) => Response::new(dripping(interval)),
        Answer::Redirect(target) => (StatusCode::FOUND, [(header::LOCATION, target)]).into_response(),
        Answer::Huge(size) => Response::new(huge(size)),
        Answer::Json(code, body) => (status(code), axum::Json(body)).into_response(),
    }
}

fn dripping(interval: Duration) -> Body {
    let drops = stream::repeat(()).then(move |()| async move {
        tokio::time::sleep(interval).await;
        Ok::<_, std::convert::Infallible>(Bytes::from_static(b"."))
    });
    Body::from_stream(drops)
}

/// Made in pieces, so that it costs no memory here.
fn huge(size: usize) -> Body {
    const PIECE: usize = 16 * 1024;
    let pieces = (0..size).step_by(PIECE).map(move |start| {
        Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; PIECE]).slice(..PIECE.min(size - start)))
    });
    Body::from_stream(stream::iter(pieces))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[tokio::test]
    async fn a_script_is_followed_and_its_last_answer_stays() -> anyhow::Result<()> {
        let receiver = Receiver::start().await?;
        receiver.fail_first("/hook", 2);
        let client = http::client()?;
        let mut codes = Vec::new();
        for _ in 0..4 {
            codes.push(
                client
                    .post(receiver.url("/hook"))
                    .body("{}")
                    .send()
                    .await?
                    .status()
                    .as_u16(),
            );
        }
        assert_eq!(codes, [500, 500, 200, 200]);
        assert_eq!(
            client
                .post(receiver.url("/other"))
                .send()
                .await?
                .status()
                .as_u16(),
            200
        );
        let received = receiver.wait_for(5, Duration::from_secs(5)).await?;
        assert_eq!(
            (received[0].path.as_str(), &received[0].body[..]),
            ("/hook", &b"{}"[..])
        );
        assert!(receiver.wait_for(6, Duration::from_millis(20)).await.is_err());
        Ok(())
    }

    #[tokio::test]
    async fn a_huge_body_has_the_size_asked_for() -> anyhow::Result<()> {
        let receiver = Receiver::start().await?;
        receiver.script("/huge", [Answer::Huge(200_000)]);
        let body = http::client()?
            .get(receiver.url("/huge"))
            .send()
            .await?
            .bytes()
            .await?;
        assert_eq!(body.len(), 200_000);
        Ok(())
    }

    #[tokio::test]
    async fn only_the_right_secret_verifies() -> anyhow::Result<()> {
        let now = i64::try_from(
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)?
                .as_secs(),
        )?;
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let signature = Webhook::new(secret)?.sign("msg_1", now, b"{}")?;
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "msg_1".parse()?);
        headers.insert("webhook-timestamp", now.to_string().parse()?);
        headers.insert("webhook-signature", signature.parse()?);
        let received = Received {
            method: Method::POST,
            path: "/".to_owned(),
            headers,
            body: Bytes::from_static(b"{}"),
            at: SystemTime::now(),
        };
        let other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        received.verify(secret)?;
        assert!(received.verify(other).is_err());
        received.verify_with_python(secret).await?;
        assert!(received.verify_with_python(other).await.is_err());
        Ok(())
    }
}
