//! Where receivers may be: addresses of the public internet, and what the operator allows besides.
//!
//! A tenant chooses the URL, so without this anybody could have Tidings talk to its neighbours (SSRF). The address
//! is checked where it is used: names inside the HTTP client's resolver, whose checked answer is the one connected
//! to, so a name that resolves differently a moment later gains nothing; literal addresses before each send, since
//! the HTTP client asks no resolver for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Why a receiver may not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// A scheme that this installation does not use.
    #[error("receivers may not have a URL of this scheme")]
    Scheme,
    /// A port that this installation does not use.
    #[error("receivers may not be at this port")]
    Port,
    /// The URL has no host.
    #[error("the URL names no host")]
    NoHost,
    /// The address, or one of those the name stands for, is not of the public internet. Which one it is stays
    /// unsaid: it would tell a tenant about the network around Tidings.
    #[error("the receiver's address is private, local or reserved")]
    Address,
}

/// How long a name is waited for when a URL is set up.
const RESOLVING: Duration = Duration::from_secs(2);

/// A text that is not a list of networks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network: write addresses or networks such as 10.1.0.0/16, separated by commas")]
pub struct InvalidNetworks(String);

/// A text that is not a list of schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write `https`, or `http,https`")]
pub struct InvalidSchemes;

/// By which schemes receivers may be asked: `https`, and perhaps `http`, whose webhooks everybody on the way can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schemes {
    http: bool,
    https: bool,
}

impl Schemes {
    /// Both.
    pub const ALL: Self = Self {
        http: true,
        https: true,
    };
    /// What a network that others listen to allows.
    pub const HTTPS: Self = Self {
        http: false,
        https: true,
    };

    fn permits(self, scheme: &str) -> bool {
        match scheme {
            "http" => self.http,
            "https" => self.https,
            _ => false,
        }
    }
}

impl FromStr for Schemes {
    type Err = InvalidSchemes;

    fn from_str(text: &str) -> Result<Self, InvalidSchemes> {
        let mut schemes = Self {
            http: false,
            https: false,
        };
        for scheme in text.split(',').map(str::trim) {
            match scheme {
                "http" => schemes.http = true,
                "https" => schemes.https = true,
                _ => return Err(InvalidSchemes),
            }
        }
        Ok(schemes)
    }
}

/// A text that is not a list of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a port: write ports or ranges such as 443,8000-8999, separated by commas, or `any`")]
pub struct InvalidPorts(String);

/// At which ports receivers may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports(Vec<RangeInclusive<u16>>);

impl Ports {
    /// At any.
    pub fn any() -> Self {
        Self(vec![1..=u16::MAX])
    }

    /// Those of HTTP, and those that no well-known service has: a webhook is no way to talk to mail servers.
    pub fn of_the_web() -> Self {
        Self(vec![80..=80, 443..=443, 1024..=u16::MAX])
    }

    fn permits(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }
}

impl FromStr for Ports {
    type Err = InvalidPorts;

    fn from_str(text: &str) -> Result<Self, InvalidPorts> {
        if text.trim() == "any" {
            return Ok(Self::any());
        }
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (1 <= first && first <= last).then_some(first..=last)
        };
        let ranges = text.split(',').map(str::trim);
        let ranges =
            ranges.map(|text| range(text).ok_or_else(|| InvalidPorts(text.chars().take(64).collect())));
        ranges.collect::<Result<_, _>>().map(Self)
    }
}

/// Where receivers may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressPolicy {
    allowed: Vec<IpNet>,
    loopback: bool,
    schemes: Schemes,
    ports: Ports,
}

impl EgressPolicy {
    /// Public addresses only.
    pub fn public() -> Self {
        Self {
            allowed: Vec::new(),
            loopback: false,
            schemes: Schemes::ALL,
            ports: Ports::any(),
        }
    }

    /// By these schemes only.
    #[must_use]
    pub fn by(mut self, schemes: Schemes) -> Self {
        self.schemes = schemes;
        self
    }

    /// At these ports only.
    #[must_use]
    pub fn at(mut self, ports: Ports) -> Self {
        self.ports = ports;
        self
    }

    /// Public addresses and this machine itself: for development.
    #[must_use]
    pub fn with_loopback(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// Allows networks besides, as `10.1.0.0/16,192.168.7.9`; an empty text allows none.
    pub fn allowing(mut self, networks: &str) -> Result<Self, InvalidNetworks> {
        for text in networks.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let network = text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| InvalidNetworks(text.chars().take(64).collect()))?;
            self.allowed.push(network.trunc());
        }
        Ok(self)
    }

    /// Whether a receiver may have this address.
    pub fn permits(&self, address: IpAddr) -> bool {
        // `::ffff:10.0.0.1` reaches 10.0.0.1: rules are applied to what is reached.
        let address = address.to_canonical();
        self.allowed.iter().any(|network| network.contains(&address))
            || (self.loopback && address.is_loopback())
            || is_public(address)
    }

    /// Checks a URL as it is set up: what can be told of it, and where its name leads at present. A name that does not
    /// resolve now may do so later; it is checked again whenever something is sent.
    pub async fn check(&self, url: &Url) -> Result<(), Forbidden> {
        self.check_url(url)?;
        let Some(Host::Domain(name)) = url.host() else {
            return Ok(());
        };
        let found = tokio::time::timeout(RESOLVING, tokio::net::lookup_host((name, 0))).await;
        match found {
            Ok(Ok(addresses)) => self.check_all(addresses.collect()).map(|_| ()),
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    /// Checks what can be told without resolving a name: scheme, port, and the host where it is an address.
    ///
    /// For endpoints as they are set up, and before each send. Every spelling of an address that URLs allow
    /// (`http://2130706433/`, `http://0x7f.1/`) has become the address itself when the URL was parsed.
    pub fn check_url(&self, url: &Url) -> Result<(), Forbidden> {
        if !self.schemes.permits(url.scheme()) {
            return Err(Forbidden::Scheme);
        }
        if !url
            .port_or_known_default()
            .is_some_and(|port| self.ports.permits(port))
        {
            return Err(Forbidden::Port);
        }
        let address = match url.host().ok_or(Forbidden::NoHost)? {
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address),
            Host::Domain(name) if is_localhost(name) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Host::Domain(_) => return Ok(()),
        };
        if self.permits(address) {
            Ok(())
        } else {
            Err(Forbidden::Address)
        }
    }

    /// All the addresses of a name, or a refusal if a single one of them is not permitted: a name that mixes
    /// public and private addresses is an attack or a mistake.
    fn check_all(&self, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Forbidden> {
        if addresses.iter().all(|address| self.permits(address.ip())) {
            Ok(addresses)
        } else {
            Err(Forbidden::Address)
        }
    }
}

/// RFC 6761: `localhost` and every name under it is this machine, whatever a resolver says.
fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost")
}

const fn v4(a: u8, b: u8, c: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), length)
}

const fn v6(a: u16, b: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length)
}

/// The special-purpose ranges of IPv4 (IANA's registry, RFC 6890 and its successors).
const RESERVED_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 8),       // "this network"
    v4(10, 0, 0, 8),      // private
    v4(100, 64, 0, 10),   // shared by carriers (CGNAT)
    v4(127, 0, 0, 8),     // loopback
    v4(169, 254, 0, 16),  // link-local, cloud metadata
    v4(172, 16, 0, 12),   // private
    v4(192, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 24),    // documentation
    v4(192, 88, 99, 24),  // 6to4 relays
    v4(192, 168, 0, 16),  // private
    v4(198, 18, 0, 15),   // benchmarks
    v4(198, 51, 100, 24), // documentation
    v4(203, 0, 113, 24),  // documentation
    v4(224, 0, 0, 4),     // multicast
    v4(233, 252, 0, 24),  // documentation of multicast
    v4(240, 0, 0, 4),     // reserved, broadcast
];

/// The only range of IPv6 that is assigned to the public internet. Outside lie loopback, `::/96`, NAT64
/// (`64:ff9b::/96`, `64:ff9b:1::/48`), unique local, link-local, site-local and multicast addresses.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);

/// The special-purpose ranges inside it.
const RESERVED_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 23),     // protocol assignments, Teredo: tunnels to IPv4
    v6(0x2001, 0xdb8, 32), // documentation
    v6(0x2002, 0, 16),     // 6to4: tunnels to IPv4
    v6(0x3fff, 0, 20),     // documentation
];

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !RESERVED_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !RESERVED_V6.iter().any(|network| network.contains(&address))
        }
    }
}

/// The HTTP client's resolver: the system's, with every answer checked.
#[derive(Debug)]
pub(crate) struct CheckedResolver(pub(crate) Arc<EgressPolicy>);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.0);
        checked(policy, async move {
            Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect())
        })
    }
}

/// What a resolver found, if all of it is permitted. The client connects to just these addresses and asks nobody again.
fn checked(
    policy: Arc<EgressPolicy>,
    found: impl Future<Output = std::io::Result<Vec<SocketAddr>>> + Send + 'static,
) -> Resolving {
    Box::pin(async move {
        let permitted = policy.check_all(found.await?)?;
        Ok(Box::new(permitted.into_iter()) as Addrs)
    })
}

#[cfg(test)]
mod tests;
