//! A TCP proxy that loses, delays and cuts what passes through it, at a test's command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What happens to the bytes of all connections, old and new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// All pass.
    None,
    /// What the server answers is swallowed; what the client says arrives. A connection that lost something is
    /// of no use afterwards: cut it.
    LoseAnswers,
    /// Every piece is held back for this long, in both directions.
    Delay(Duration),
    /// Nothing passes in either direction, and the connections stay open: a host that is gone without a word.
    HalfOpen,
    /// Connections are closed, and new ones at once.
    Cut,
}

/// A listening proxy; dropped, it closes everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    swallowed: Arc<AtomicU64>,
    _stop: DropGuard,
}

/// What every connection of a proxy shares.
#[derive(Debug, Clone)]
struct Shared {
    fault: watch::Receiver<Fault>,
    swallowed: Arc<AtomicU64>,
    stop: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Proxy {
    /// A proxy on a free loopback port before `server`, as `127.0.0.1:4222`.
    pub async fn start(server: String) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (fault, watched) = watch::channel(Fault::None);
        let swallowed = Arc::new(AtomicU64::new(0));
        let stop = CancellationToken::new();
        let shared = Shared {
            fault: watched,
            swallowed: Arc::clone(&swallowed),
            stop: stop.clone(),
        };
        tokio::spawn(accept(listener, server, shared));
        Ok(Self {
            address,
            fault,
            swallowed,
            _stop: stop.drop_guard(),
        })
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Changes what happens from now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Bytes of answers swallowed so far.
    pub fn swallowed(&self) -> u64 {
        self.swallowed.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, server: String, shared: Shared) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => return,
        };
        // A failed accept concerns a client that is gone.
        let Ok((client, _)) = accepted else { continue };
        if *shared.fault.borrow() != Fault::Cut {
            tokio::spawn(connect(client, server.clone(), shared.clone()));
        }
    }
}

async fn connect(client: TcpStream, server: String, shared: Shared) {
    // A server that is down is a closed connection to the client.
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut fault = shared.fault.clone();
    tokio::select! {
        () = pass(from_client, to_server, Direction::ToServer, shared.clone()) => {}
        () = pass(from_server, to_client, Direction::ToClient, shared.clone()) => {}
        _ = fault.wait_for(|fault| *fault == Fault::Cut) => {}
        () = shared.stop.cancelled() => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, direction: Direction, shared: Shared) {
    let mut buffer = vec![0; 64 * 1024];
    let mut fault = shared.fault.clone();
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let now = *fault.borrow_and_update();
        match now {
            Fault::LoseAnswers if direction == Direction::ToClient => {
                shared.swallowed.fetch_add(length as u64, Ordering::Relaxed);
                continue;
            }
            Fault::HalfOpen => {
                if fault.wait_for(|fault| *fault != Fault::HalfOpen).await.is_err() {
                    return;
                }
            }
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::None | Fault::LoseAnswers | Fault::Cut => {}
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
