//! Where receivers may be: addresses of the public internet, and what the operator allows besides.
//!
//! A tenant chooses the URL, so without this anybody could have Tidings talk to its neighbours (SSRF). The address
//! is checked where it is used: names inside the HTTP client's resolver, whose checked answer is the one connected
//! to, so a name that resolves differently a moment later gains nothing; literal addresses before each send, since
//! the HTTP client asks no resolver for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Why a receiver may not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Neither `http` nor `https`.
    #[error("only http and https receivers are allowed")]
    Scheme,
    /// The URL has no host.
    #[error("the URL names no host")]
    NoHost,
    /// The address, or one of those the name stands for, is not of the public internet. Which one it is stays
    /// unsaid: it would tell a tenant about the network around Tidings.
    #[error("the receiver's address is private, local or reserved")]
    Address,
}

/// A text that is not a list of networks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network: write addresses or networks such as 10.1.0.0/16, separated by commas")]
pub struct InvalidNetworks(String);

/// Which addresses receivers may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    allowed: Vec<IpNet>,
    loopback: bool,
}

impl EgressPolicy {
    /// Public addresses only.
    pub fn public() -> Self {
        Self::default()
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

    /// Checks what can be told without resolving a name: the scheme, and the host where it is an address.
    ///
    /// For endpoints as they are set up, and before each send. Every spelling of an address that URLs allow
    /// (`http://2130706433/`, `http://0x7f.1/`) has become the address itself when the URL was parsed.
    pub fn check_url(&self, url: &Url) -> Result<(), Forbidden> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Forbidden::Scheme);
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
        let policy = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let checked = policy.check_all(found.collect())?;
            Ok(Box::new(checked.into_iter()) as Addrs)
        })
    }
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
