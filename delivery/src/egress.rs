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
    let name = name.strip_suffix('.').unwrap_or(name);
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
mod tests {
    use super::*;

    fn check(policy: &EgressPolicy, url: &str) -> Result<(), Forbidden> {
        policy.check_url(&url.parse().unwrap())
    }

    #[test]
    fn every_spelling_of_a_forbidden_address_is_refused() {
        let policy = EgressPolicy::public();
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://0x7f.1/",
            "http://127.1/",
            "http://①②⑦.⓪.⓪.①/",
            "http://localhost/",
            "http://LOCALHOST./",
            "http://a.localhost/",
            "http://0.0.0.0/",
            "http://0/",
            "http://10.0.0.1/",
            "http://100.64.0.1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://172.31.255.255/",
            "http://192.0.0.1/",
            "http://192.0.2.1/",
            "http://192.168.1.1/",
            "http://198.18.0.1/",
            "http://198.19.255.255/",
            "http://198.51.100.1/",
            "http://203.0.113.1/",
            "http://224.0.0.1/",
            "http://240.0.0.1/",
            "http://255.255.255.255/",
            "http://[::]/",
            "http://[::1]/",
            "http://[::7f00:1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:a00:1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[64:ff9b:1::1]/",
            "http://[100::1]/",
            "http://[2001::1]/",
            "http://[2001:db8::1]/",
            "http://[2002:7f00:1::]/",
            "http://[3fff::1]/",
            "http://[fc00::1]/",
            "http://[fd12::1]/",
            "http://[fe80::1]/",
            "http://[fec0::1]/",
            "http://[ff02::1]/",
        ] {
            assert_eq!(check(&policy, url), Err(Forbidden::Address), "{url}");
        }
        assert_eq!(check(&policy, "ftp://example.org/"), Err(Forbidden::Scheme));
    }

    /// Every entry of the rules, with its first and last address and those around it.
    #[test]
    fn every_range_is_closed_from_its_first_address_to_its_last() {
        let policy = EgressPolicy::public();
        for (range, before, after) in [
            ("0.0.0.0/8", None, Some("1.0.0.0")),
            ("10.0.0.0/8", Some("9.255.255.255"), Some("11.0.0.0")),
            ("100.64.0.0/10", Some("100.63.255.255"), Some("100.128.0.0")),
            ("127.0.0.0/8", Some("126.255.255.255"), Some("128.0.0.0")),
            ("169.254.0.0/16", Some("169.253.255.255"), Some("169.255.0.0")),
            ("172.16.0.0/12", Some("172.15.255.255"), Some("172.32.0.0")),
            ("192.0.0.0/24", Some("191.255.255.255"), Some("192.0.1.0")),
            ("192.0.2.0/24", Some("192.0.1.255"), Some("192.0.3.0")),
            ("192.88.99.0/24", Some("192.88.98.255"), Some("192.88.100.0")),
            ("192.168.0.0/16", Some("192.167.255.255"), Some("192.169.0.0")),
            ("198.18.0.0/15", Some("198.17.255.255"), Some("198.20.0.0")),
            ("198.51.100.0/24", Some("198.51.99.255"), Some("198.51.101.0")),
            ("203.0.113.0/24", Some("203.0.112.255"), Some("203.0.114.0")),
            ("224.0.0.0/4", Some("223.255.255.255"), None),
            ("240.0.0.0/4", None, None),
            ("::/96", None, None),
            ("64:ff9b::/96", None, None),
            ("64:ff9b:1::/48", None, None),
            ("2001::/23", None, Some("2001:200::")),
            (
                "2001:db8::/32",
                Some("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"),
                Some("2001:db9::"),
            ),
            ("2002::/16", Some("2001:ffff::"), Some("2003::")),
            ("3fff::/20", Some("3ffe:ffff::"), Some("3fff:1000::")),
            ("fc00::/7", None, None),
            ("fe80::/10", None, None),
            ("fec0::/10", None, None),
            ("ff00::/8", None, None),
        ] {
            let network: IpNet = range.parse().unwrap();
            for inside in [network.network(), network.broadcast()] {
                assert!(!policy.permits(inside), "{inside} of {range}");
                if let IpAddr::V4(inside) = inside {
                    let mapped = IpAddr::V6(inside.to_ipv6_mapped());
                    assert!(!policy.permits(mapped), "{mapped} of {range}");
                }
            }
            for outside in before.into_iter().chain(after) {
                assert!(
                    policy.permits(outside.parse().unwrap()),
                    "{outside} beside {range}"
                );
            }
        }
    }

    #[test]
    fn schemes_and_ports_are_those_of_the_installation() {
        let policy = EgressPolicy::public()
            .by("https".parse().unwrap())
            .at("443, 8000-8001".parse().unwrap());
        for (url, verdict) in [
            ("https://example.org/", Ok(())),
            ("https://example.org:8001/", Ok(())),
            ("https://example.org:8002/", Err(Forbidden::Port)),
            ("https://1.1.1.1:25/", Err(Forbidden::Port)),
            ("http://example.org:443/", Err(Forbidden::Scheme)),
        ] {
            assert_eq!(check(&policy, url), verdict, "{url}");
        }
        let web = EgressPolicy::public().at(Ports::of_the_web());
        assert_eq!(check(&web, "http://example.org/"), Ok(()));
        assert_eq!(check(&web, "http://example.org:8080/"), Ok(()));
        for port in [22, 25, 110, 443 + 1, 1023] {
            let url = format!("http://example.org:{port}/");
            assert_eq!(check(&web, &url), Err(Forbidden::Port), "{url}");
        }
        assert_eq!("http, https".parse::<Schemes>(), Ok(Schemes::ALL));
        for text in ["", "ftp", "https,", "HTTP"] {
            assert_eq!(text.parse::<Schemes>(), Err(InvalidSchemes), "{text:?}");
        }
        for text in ["", "0", "65536", "9-8", "a", "80,"] {
            assert!(text.parse::<Ports>().is_err(), "{text:?}");
        }
        assert_eq!("any".parse::<Ports>(), Ok(Ports::any()));
    }

    /// A name that led to the public internet when it was set up, and leads inside when something is sent.
    #[derive(Debug)]
    struct Turncoat {
        policy: Arc<EgressPolicy>,
        answers: std::sync::Mutex<Vec<Vec<SocketAddr>>>,
    }

    impl Resolve for Turncoat {
        fn resolve(&self, _: Name) -> Resolving {
            let answer = self.answers.lock().unwrap().remove(0);
            checked(Arc::clone(&self.policy), async { Ok(answer) })
        }
    }

    #[tokio::test]
    async fn a_name_that_turns_inside_is_refused_and_nobody_inside_is_called() {
        crate::post::install_crypto();
        let inside = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = inside.local_addr().unwrap();
        let public: SocketAddr = "1.1.1.1:0".parse().unwrap();
        let turncoat = Turncoat {
            policy: Arc::new(EgressPolicy::public()),
            answers: vec![vec![public], vec![address], vec![public, address]].into(),
        };
        let first = turncoat.resolve("example.org".parse().unwrap()).await;
        assert!(first.is_ok(), "at first it leads outside");
        let client = reqwest::Client::builder()
            .no_proxy()
            .dns_resolver(Arc::new(turncoat));
        let client = client.build().unwrap();
        for _ in 0..2 {
            let sent = client
                .post(format!("http://example.org:{}/", address.port()))
                .send()
                .await;
            let error = sent.unwrap_err();
            let mut causes =
                std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            assert!(
                causes.any(|cause| cause.downcast_ref() == Some(&Forbidden::Address)),
                "{error:?}"
            );
        }
        let called = tokio::time::timeout(Duration::from_millis(200), inside.accept()).await;
        assert!(called.is_err(), "somebody inside was called");
    }

    #[tokio::test]
    async fn a_name_is_resolved_when_it_is_set_up() {
        let check = async |policy: EgressPolicy, url: &str| policy.check(&url.parse().unwrap()).await;
        let public = EgressPolicy::public();
        assert_eq!(
            check(public.clone(), "http://10.0.0.1/").await,
            Err(Forbidden::Address)
        );
        // Who resolves nothing may do so later.
        assert_eq!(check(public, "http://nothing.invalid/").await, Ok(()));
        let development = EgressPolicy::public().with_loopback();
        assert_eq!(check(development, "http://localhost/").await, Ok(()));
    }

    #[test]
    fn public_addresses_and_names_pass() {
        for url in [
            "https://example.org/",
            "https://localhost.example.org/",
            "http://1.1.1.1/",
            "http://172.32.0.1/",
            "http://[2606:4700:4700::1111]/",
            "http://[::ffff:1.1.1.1]/",
        ] {
            assert_eq!(check(&EgressPolicy::public(), url), Ok(()), "{url}");
        }
    }

    #[test]
    fn what_the_operator_allows_is_allowed_and_no_more() {
        let policy = EgressPolicy::public()
            .allowing(" 10.1.0.0/16, 192.168.7.9 ,fd00::/8,")
            .unwrap();
        for url in [
            "http://10.1.2.3/",
            "http://[::ffff:10.1.2.3]/",
            "http://192.168.7.9/",
            "http://[fd00::1]/",
        ] {
            assert_eq!(check(&policy, url), Ok(()), "{url}");
        }
        for url in ["http://10.2.0.1/", "http://192.168.7.8/", "http://127.0.0.1/"] {
            assert_eq!(check(&policy, url), Err(Forbidden::Address), "{url}");
        }
        let development = EgressPolicy::public().with_loopback();
        assert_eq!(check(&development, "http://localhost:9000/"), Ok(()));
        assert_eq!(check(&development, "http://[::1]:9000/"), Ok(()));
        assert_eq!(check(&development, "http://10.0.0.1/"), Err(Forbidden::Address));
        assert!(EgressPolicy::public().allowing("10.0.0.0/33").is_err());
        assert!(EgressPolicy::public().allowing("example.org").is_err());
    }

    #[test]
    fn one_bad_address_among_several_is_a_refusal() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let good = vec![address("1.1.1.1:0"), address("[2606:4700:4700::1111]:0")];
        let mixed = vec![good[0], address("10.0.0.1:0"), good[1]];
        let policy = EgressPolicy::public();
        assert_eq!(policy.check_all(good.clone()), Ok(good));
        assert_eq!(policy.check_all(mixed), Err(Forbidden::Address));
    }

    #[tokio::test]
    async fn the_resolver_refuses_a_name_of_this_machine() {
        let resolve = |policy: EgressPolicy| {
            CheckedResolver(Arc::new(policy)).resolve("localhost".parse::<Name>().unwrap())
        };
        let refusal = resolve(EgressPolicy::public()).await.err().unwrap();
        assert_eq!(refusal.downcast_ref(), Some(&Forbidden::Address));
        let found = resolve(EgressPolicy::public().with_loopback()).await.unwrap();
        assert!(found.map(|address| address.ip()).all(|ip| ip.is_loopback()));
    }
}
