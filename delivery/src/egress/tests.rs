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
        "http://localhost../",
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
