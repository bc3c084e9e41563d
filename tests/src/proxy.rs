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
    /// of no use afterwards: [`Proxy::cut_and_heal`] it.
    LoseAnswers,
    /// Every piece is held back for this long, in both directions.
    Delay(Duration),
    /// Nothing passes in either direction, and the connections stay open: a host that is gone without a word.
    HalfOpen,
    /// Connections are closed, and new ones at once.
    Refuse,
}

/// A listening proxy; dropped, it closes everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    swallowed: Arc<AtomicU64>,
    _stop: DropGuard,
}

#[derive(Debug, Clone, Copy)]
struct State {
    fault: Fault,
    /// Counts cuts: a connection ends when it has grown since it was made.
    cuts: u64,
    /// Counts strandings: nothing passes over a connection any more when it has grown since it was made.
    strandings: u64,
}

impl State {
    /// Whether nothing passes over a connection that was made at `made`.
    fn holds_back(&self, made: &Self) -> bool {
        self.fault == Fault::HalfOpen || self.strandings != made.strandings
    }
}

/// What every connection of a proxy shares.
#[derive(Debug, Clone)]
struct Shared {
    state: watch::Receiver<State>,
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
        let (state, watched) = watch::channel(State {
            fault: Fault::None,
            cuts: 0,
            strandings: 0,
        });
        let swallowed = Arc::new(AtomicU64::new(0));
        let stop = CancellationToken::new();
        let shared = Shared {
            state: watched,
            swallowed: Arc::clone(&swallowed),
            stop: stop.clone(),
        };
        tokio::spawn(accept(listener, server, shared));
        Ok(Self {
            address,
            state,
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
        self.state.send_modify(|state| {
            state.fault = fault;
            state.cuts += u64::from(fault == Fault::Refuse);
        });
    }

    /// Closes the connections there are; new ones come through without a fault.
    pub fn cut_and_heal(&self) {
        self.state.send_modify(|state| {
            state.fault = Fault::None;
            state.cuts += 1;
        });
    }

    /// Nothing passes any more over the connections there are, and they stay open; new ones come through as they are
    /// told: one server of several stands still.
    pub fn strand(&self) {
        self.state.send_modify(|state| state.strandings += 1);
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
        let made = *shared.state.borrow();
        if made.fault != Fault::Refuse {
            tokio::spawn(connect(client, server.clone(), shared.clone(), made));
        }
    }
}

async fn connect(client: TcpStream, server: String, shared: Shared, made: State) {
    // A server that is down is a closed connection to the client.
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut state = shared.state.clone();
    tokio::select! {
        () = pass(from_client, to_server, Direction::ToServer, shared.clone(), made) => {}
        () = pass(from_server, to_client, Direction::ToClient, shared.clone(), made) => {}
        _ = state.wait_for(|state| state.cuts != made.cuts) => {}
        () = shared.stop.cancelled() => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    shared: Shared,
    made: State,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut state = shared.state.clone();
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let now = *state.borrow_and_update();
        if now.cuts != made.cuts {
            return;
        }
        match now.fault {
            Fault::LoseAnswers if direction == Direction::ToClient => {
                shared.swallowed.fetch_add(length as u64, Ordering::Relaxed);
                continue;
            }
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::None | Fault::HalfOpen | Fault::LoseAnswers | Fault::Refuse => {}
        }
        let passes = state.wait_for(|state| !state.holds_back(&made) || state.cuts != made.cuts);
        if passes.await.is_err() {
            return;
        }
        if state.borrow().cuts != made.cuts || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets, in capitals.
    async fn shouting_server() -> anyhow::Result<String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 64];
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        buffer.make_ascii_uppercase();
                        if stream.write_all(&buffer[..length]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Ok(address)
    }

    async fn say(stream: &mut TcpStream, word: &str) -> anyhow::Result<String> {
        stream.write_all(word.as_bytes()).await?;
        let mut answer = vec![0; word.len()];
        tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut answer)).await??;
        Ok(String::from_utf8(answer)?)
    }

    #[tokio::test]
    async fn answers_are_lost_and_connections_cut_on_command() -> anyhow::Result<()> {
        let proxy = Proxy::start(shouting_server().await?).await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        assert_eq!(say(&mut stream, "one").await?, "ONE");
        proxy.set(Fault::LoseAnswers);
        stream.write_all(b"lost").await?;
        tokio::time::timeout(Duration::from_secs(10), async {
            while proxy.swallowed() < 4 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await?;
        proxy.cut_and_heal();
        assert!(
            say(&mut stream, "two").await.is_err(),
            "the old connection is closed"
        );
        let mut stream = TcpStream::connect(proxy.address()).await?;
        assert_eq!(say(&mut stream, "three").await?, "THREE");
        proxy.set(Fault::Refuse);
        let mut refused = TcpStream::connect(proxy.address()).await?;
        assert!(say(&mut refused, "four").await.is_err());
        Ok(())
    }
}
