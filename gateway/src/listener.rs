//! Where connections come from: a listener that is closed as soon as the service is asked to stop.
//!
//! Closing it says "connection refused" to whoever comes later, who can safely ask elsewhere. Connections that the
//! kernel had taken already are still served: closing on them would lose what their clients have sent.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::SocketAddr;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A listener that ends with a token.
pub(crate) struct UntilStopped {
    listener: Option<TcpListener>,
    taken: VecDeque<(TcpStream, SocketAddr)>,
    address: SocketAddr,
    stopping: CancellationToken,
}

impl UntilStopped {
    /// Takes connections until the token is cancelled.
    pub(crate) fn new(listener: TcpListener, stopping: CancellationToken) -> io::Result<Self> {
        Ok(Self {
            address: listener.local_addr()?,
            listener: Some(listener),
            taken: VecDeque::new(),
            stopping,
        })
    }

    async fn next(&mut self) -> (TcpStream, SocketAddr) {
        if let Some(listener) = &mut self.listener {
            tokio::select! {
                // The stop comes first: with connections always waiting, a draw would keep the door open.
                biased;
                () = self.stopping.cancelled() => {}
                accepted = Listener::accept(listener) => return accepted,
            }
        }
        if let Some(listener) = self.listener.take() {
            self.taken = close(listener).unwrap_or_else(|error| {
                tracing::debug!(%error, "connections at the closing door are lost");
                VecDeque::new()
            });
        }
        match self.taken.pop_front() {
            Some(accepted) => accepted,
            None => pending().await,
        }
    }
}

/// Closes a listener, and answers the connections the kernel had taken already. The kernel itself is asked: what the
/// runtime knows of them is a moment old.
fn close(listener: TcpListener) -> io::Result<VecDeque<(TcpStream, SocketAddr)>> {
    let listener = listener.into_std()?;
    let mut taken = VecDeque::new();
    while let Ok((stream, peer)) = listener.accept() {
        stream.set_nonblocking(true)?;
        taken.push_back((TcpStream::from_std(stream)?, peer));
    }
    Ok(taken)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_was_taken_before_the_stop_is_served_and_nothing_after() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let mut listener = UntilStopped::new(listener, stopping.clone()).unwrap();
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        stopping.cancel();
        let mut served = Vec::new();
        for _ in 0..3 {
            let accepted = tokio::time::timeout(Duration::from_secs(10), Listener::accept(&mut listener));
            served.push(accepted.await.unwrap().1);
        }
        served.sort_unstable();
        let mut asked: Vec<_> = clients
            .iter()
            .map(|client| client.local_addr().unwrap())
            .collect();
        asked.sort_unstable();
        assert_eq!(served, asked);
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
