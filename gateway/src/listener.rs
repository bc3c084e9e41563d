//! Where connections come from: a listener that is closed as soon as the service is asked to stop.
//!
//! Closing it says "connection refused" to whoever comes later, who can safely ask elsewhere. Connections that the
//! kernel had taken already are still served: closing on them would lose what their clients have sent.

use std::future::pending;
use std::io;
use std::net::SocketAddr;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A listener that ends with a token.
pub(crate) struct UntilStopped {
    listener: Option<TcpListener>,
    address: SocketAddr,
    stopping: CancellationToken,
}

impl UntilStopped {
    /// Takes connections until the token is cancelled.
    pub(crate) fn new(listener: TcpListener, stopping: CancellationToken) -> io::Result<Self> {
        Ok(Self {
            address: listener.local_addr()?,
            listener: Some(listener),
            stopping,
        })
    }

    async fn next(&mut self) -> (TcpStream, SocketAddr) {
        let Some(listener) = &mut self.listener else {
            return pending().await;
        };
        if !self.stopping.is_cancelled() {
            tokio::select! {
                accepted = Listener::accept(listener) => return accepted,
                () = self.stopping.cancelled() => {}
            }
        }
        // What the kernel has taken already is served still.
        if let Some(Ok(accepted)) = TcpListener::accept(listener).now_or_never() {
            return accepted;
        }
        self.listener = None;
        pending().await
    }
}

impl Listener for UntilStopped {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let (stream, peer) = self.next().await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        (stream, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// The address a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Connected<IncomingStream<'_, UntilStopped>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UntilStopped>) -> Self {
        Self(*stream.remote_addr())
    }
}
