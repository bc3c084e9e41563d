//! The HTTP server: connections, and what each may take of the service, whatever its client sends or leaves out.
//!
//! HTTP/1.1 only. Everything a client could keep waiting has an end: the head of a request (and the time between two),
//! the next piece of a body, and the client's taking of an answer. Where the most connections are open, further ones
//! wait in the kernel until one ends.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::config::Connections;
use crate::listener::{Peer, UntilStopped};

/// Serves until `parted`, then ends each connection with the request in flight on it.
pub(crate) async fn serve(
    mut listener: UntilStopped,
    router: Router,
    limits: Connections,
    parted: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        // Beside this, a head may have a hundred fields, which is how the library has it.
        .max_buf_size(limits.head_limit);
    let open = Arc::new(Semaphore::new(limits.most));
    let connections = TaskTracker::new();
    loop {
        let next = async {
            let room = Arc::clone(&open).acquire_owned().await;
            (room, listener.accept().await)
        };
        let (room, (stream, peer)) = tokio::select! {
            // The stop comes first: with connections always waiting, a draw would keep the door open.
            biased;
            () = parted.cancelled() => break,
            next = next => next,
        };
        let connection = connection(
            &http,
            stream,
            peer,
            router.clone(),
            limits.answer_timeout,
            parted.clone(),
        );
        connections.spawn(async move {
            connection.await;
            drop(room);
        });
    }
    // Closed before the last connections end: whoever comes now can safely ask elsewhere.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Serves one connection until it ends, or until the stop and the end of the request in flight.
fn connection(
    http: &http1::Builder,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    answer_timeout: Duration,
    parted: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(answer_timeout));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(Peer(peer)));
        let answer = router.clone().oneshot(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let mut served = Box::pin(http.serve_connection(TokioIo::new(Box::pin(stream)), service));
    async move {
        let ended = tokio::select! {
            ended = served.as_mut() => ended,
            () = parted.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection was broken off");
        }
    }
}
