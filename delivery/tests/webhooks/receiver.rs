//! A receiver that keeps what it gets and answers as it is told.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// One request that came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Received {
    pub(crate) fn id(&self) -> &str {
        self.headers["webhook-id"].to_str().unwrap()
    }

    /// Checks the signature with the library a receiver would use.
    pub(crate) fn verify(&self, secret: &str) {
        Webhook::new(secret)
            .unwrap()
            .verify(&self.body, &self.headers)
            .unwrap();
    }
}

#[derive(Debug, Default)]
struct Shared {
    /// Statuses still to be answered, by path; 200 when none is left, and 0 is never to answer.
    scripts: Mutex<HashMap<String, VecDeque<u16>>>,
    received: watch::Sender<Vec<Received>>,
}

/// A running receiver; ends with the test's runtime.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    base: String,
    shared: Arc<Shared>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let router = Router::new().fallback(receive).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { base, shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Answers these statuses on a path, in order, then 200.
    pub(crate) fn script(&self, path: &str, statuses: &[u16]) {
        let mut scripts = self.shared.scripts.lock().unwrap();
        scripts.insert(path.to_owned(), statuses.iter().copied().collect());
    }

    /// What came on a path so far.
    pub(crate) fn received(&self, path: &str) -> Vec<Received> {
        let all = self.shared.received.borrow();
        all.iter()
            .filter(|received| received.path == path)
            .cloned()
            .collect()
    }

    /// Waits until so many have come on a path.
    pub(crate) async fn wait(&self, path: &str, count: usize) -> Vec<Received> {
        let mut watch = self.shared.received.subscribe();
        let enough =
            watch.wait_for(|all| all.iter().filter(|received| received.path == path).count() >= count);
        let waited = tokio::time::timeout(Duration::from_secs(20), enough)
            .await
            .is_ok();
        let received = self.received(path);
        assert!(
            waited,
            "{count} requests were awaited on {path}, {} came",
            received.len()
        );
        received
    }
}

async fn receive(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    let path = uri.path().to_owned();
    let status = {
        let mut scripts = shared.scripts.lock().unwrap();
        scripts
            .get_mut(&path)
            .and_then(VecDeque::pop_front)
            .unwrap_or(200)
    };
    shared
        .received
        .send_modify(|all| all.push(Received { path, headers, body }));
    if status == 0 {
        std::future::pending::<()>().await;
    }
    StatusCode::from_u16(status).unwrap()
}
