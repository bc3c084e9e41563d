//! Three servers that keep three copies of every stream, with a proxy in every link between them, and one before each
//! for clients: so one of them can be cut off from all others.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::jetstream;

use super::{NatsServer, Options, TRIES};
use crate::proxy::{Fault, Proxy};
use crate::tools::{self, Folder};

/// How many there are.
const SERVERS: usize = 3;
/// How long they may take to elect whom they need; a first election takes up to ten seconds.
const ELECTED: Duration = Duration::from_secs(45);

/// Where they tell each other that others are found, beside the links: nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// The way on which one server connects to another.
#[derive(Debug)]
struct Link {
    /// From which to which.
    between: [usize; 2],
    proxy: Proxy,
}

/// The servers beside the first, and the links of all; dropped, they are gone.
#[derive(Debug)]
pub struct Replicas {
    others: Vec<NatsServer>,
    links: Vec<Link>,
    clients: Vec<Proxy>,
    _configs: Folder,
}

impl Replicas {
    /// Starts three servers; answers the first, and the rest of it.
    pub async fn start() -> anyhow::Result<(NatsServer, Self)> {
        for _ in 1..TRIES {
            match Self::start_once().await {
                // Somebody else took a port between its choice and its use.
                Err(error) if format!("{error:#}").contains("address already in use") => {}
                started => return started,
            }
        }
        Self::start_once().await
    }

    async fn start_once() -> anyhow::Result<(NatsServer, Self)> {
        let configs = Folder::new()?;
        let mut ports = Vec::new();
        for _ in 0..SERVERS {
            ports.push(tools::free_port()?);
        }
        let mut links = Vec::new();
        for between in [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]] {
            links.push(Link {
                between,
                proxy: Proxy::start(format!("127.0.0.1:{}", ports[between[1]])).await?,
            });
        }
        let (mut servers, mut clients) = (Vec::new(), Vec::new());
        for (number, port) in ports.iter().enumerate() {
            let config = write_config(configs.path(), number, *port, &links)?;
            let mut server = Options::default().config(config).make()?;
            server.launch().await?;
            clients.push(Proxy::start(server.address()).await?);
            servers.push(server);
        }
        for server in &mut servers {
            server.until_healthy().await?;
        }
        let others = servers.split_off(1);
        let first = servers.pop().context("the first server")?;
        let replicas = Self {
            others,
            links,
            clients,
            _configs: configs,
        };
        Ok((first, replicas))
    }

    /// Where clients find them: all of them, each through its proxy.
    pub fn url(&self) -> String {
        let urls = self
            .clients
            .iter()
            .map(|proxy| format!("nats://{}", proxy.address()));
        urls.collect::<Vec<_>>().join(",")
    }

    /// One of the others, whose number begins at one.
    pub fn other(&mut self, number: usize) -> anyhow::Result<&mut NatsServer> {
        let other = number.checked_sub(1).and_then(|index| self.others.get_mut(index));
        other.with_context(|| format!("there is no server {number}"))
    }

    /// Cuts one off from the others and from clients, or heals that.
    pub fn isolate(&self, number: usize, fault: Fault) {
        let links = self.links.iter().filter(|link| link.between.contains(&number));
        let client = self.clients.get(number);
        for proxy in links.map(|link| &link.proxy).chain(client) {
            proxy.set(fault);
        }
    }
}

/// The number of the server that leads a stream, as any of these servers knows it.
pub async fn leader(urls: &[String], stream: &str) -> anyhow::Result<usize> {
    let deadline = Instant::now() + ELECTED;
    loop {
        for url in urls {
            if let Ok(Some(leader)) = asked(url, stream).await {
                return Ok(leader);
            }
        }
        ensure!(Instant::now() < deadline, "nobody leads {stream}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn asked(url: &str, stream: &str) -> anyhow::Result<Option<usize>> {
    let context = jetstream::new(async_nats::connect(url).await?);
    let mut stream = context.get_stream(stream).await?;
    let cluster = stream.info().await?.cluster.as_ref();
    let name = cluster.and_then(|cluster| cluster.leader.as_deref());
    Ok(name.and_then(|name| (0..SERVERS).find(|number| server_name(*number) == name)))
}

/// What the server of a number is called.
pub fn server_name(number: usize) -> String {
    format!("n{number}")
}

/// A server connects to the others through proxies only, and tells nobody of addresses past them.
fn write_config(folder: &Path, number: usize, port: u16, links: &[Link]) -> anyhow::Result<PathBuf> {
    let routes = links.iter().filter(|link| link.between[0] == number);
    let routes: Vec<String> = routes
        .map(|link| format!("\"nats://{}\"", link.proxy.address()))
        .collect();
    let (name, routes) = (server_name(number), routes.join(", "));
    let config = format!(
        "server_name: {name}\nmax_payload: 2MB\njetstream {{ sync_interval: always }}\n\
         cluster {{\n  name: tests\n  listen: \"127.0.0.1:{port}\"\n  no_advertise: true\n  \
         cluster_advertise: \"{NOWHERE}\"\n  routes: [{routes}]\n}}\n"
    );
    let file = folder.join(format!("{name}.conf"));
    std::fs::write(&file, config)?;
    Ok(file)
}
