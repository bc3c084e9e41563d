//! The receivers: an HTTP server on a thread of its own that notes when it first saw each `webhook-id` on each path.
//!
//! What a path does is in its first word: `/ok/…` answers 200, `/fail/…` 500, `/hang/…` nothing, `/drip/…` a byte a
//! second, `/later/…` 500 until [`Target::relent`] and 200 from then on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::stream;
use tokio::net::TcpListener;

/// How often one webhook came to one path, and when first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) first: Instant,
    pub(super) times: u32,
}

#[derive(Debug, Default)]
struct Seen {
    /// By `<path> <webhook-id>`.
    arrivals: Mutex<HashMap<String, Arrival>>,
    requests: AtomicU64,
    relented: AtomicBool,
}

/// A running set of receivers; they end with this program.
#[derive(Debug, Clone)]
pub(super) struct Target {
    base: String,
    seen: Arc<Seen>,
}

impl Target {
    /// Starts it on a free port.
    pub(super) fn start() -> anyhow::Result<Self> {
        let seen = Arc::new(Seen::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let base = format!("http://{}", listener.local_addr()?);
        let router = Router::new()
            .route("/{kind}/{name}", post(receive))
            .with_state(Arc::clone(&seen));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("a runtime for the receivers")?;
        std::thread::Builder::new()
            .name("receivers".to_owned())
            .spawn(move || runtime.block_on(serve(listener, router)))?;
        Ok(Self { base, seen })
    }

    /// The URL of a path, as `ok/1`.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// Requests seen so far, of all paths.
    pub(super) fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::Relaxed)
    }

    /// Lets `/later/…` answer 200 from now on.
    pub(super) fn relent(&self) {
        self.seen.relented.store(true, Ordering::Relaxed);
    }

    /// When a webhook first came to a path, and how often it came.
    pub(super) fn arrival(&self, path: &str, id: &str) -> Option<Arrival> {
        self.arrivals(|arrivals| arrivals.get(&key(path, id)).copied())
    }

    /// All that came, by `<path> <webhook-id>`.
    pub(super) fn all(&self) -> HashMap<String, Arrival> {
        self.arrivals(|arrivals| arrivals.clone())
    }

    /// Forgets what came so far.
    pub(super) fn forget(&self) {
        self.arrivals(HashMap::clear);
    }

    fn arrivals<T>(&self, look: impl FnOnce(&mut HashMap<String, Arrival>) -> T) -> T {
        look(&mut self.seen.arrivals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn key(path: &str, id: &str) -> String {
    format!("{path} {id}")
}

async fn serve(listener: std::net::TcpListener, router: Router) {
    match TcpListener::from_std(listener) {
        Ok(listener) => {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the receivers have ended: {error}");
            }
        }
        Err(error) => eprintln!("the receivers cannot listen: {error}"),
    }
}

async fn receive(
    State(seen): State<Arc<Seen>>,
    Path((kind, name)): Path<(String, String)>,
    headers: HeaderMap,
    _body: Bytes,
) -> Response {
    let now = Instant::now();
    seen.requests.fetch_add(1, Ordering::Relaxed);
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
    let relented = seen.relented.load(Ordering::Relaxed);
    if kind == "ok" || (kind == "later" && relented) {
        let key = key(&format!("{kind}/{name}"), id.unwrap_or_default());
        let mut arrivals = seen.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let arrival = arrivals.entry(key).or_insert(Arrival { first: now, times: 0 });
        arrival.times += 1;
        return StatusCode::OK.into_response();
    }
    match kind.as_str() {
        "hang" => std::future::pending().await,
        "drip" => drip(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A body of a byte a second that never ends.
fn drip() -> Response {
    let bytes = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(b".")), ()))
    });
    Body::from_stream(bytes).into_response()
}
