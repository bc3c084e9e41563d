//! Foreign texts where webhooks go out: secrets, schedules, and above all where a URL leads.

#![expect(
    clippy::unwrap_used,
    reason = "what a test prepares must succeed, in its helpers too"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use delivery::{EgressPolicy, MasterKey, Schedule, Secret};
use proptest::prelude::*;
use url::Url;

/// Every way in which URLs spell an address of IPv4: the WHATWG's parser takes them all.
fn spellings(address: Ipv4Addr) -> Vec<String> {
    let number = u32::from(address);
    let [a, b, c, d] = address.octets();
    let low = number & 0x00ff_ffff;
    vec![
        address.to_string(),
        number.to_string(),
        format!("0x{number:x}"),
        format!("0{number:o}"),
        format!("{a}.{low}"),
        format!("0x{a:X}.{b}.{}", u16::from_be_bytes([c, d])),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a}.{b}.{c}.{d}."),
        format!(
            "%{:02x}{}",
            address.to_string().as_bytes()[0],
            &address.to_string()[1..]
        ),
        format!("[::ffff:{address}]"),
    ]
}

/// What the standard library knows to be nowhere on the public internet.
fn is_surely_private(address: Ipv4Addr) -> bool {
    let shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_documentation()
        || shared
}

fn forbidden(policy: &EgressPolicy, host: &str) -> bool {
    let url = Url::parse(&format!("http://{host}/hook")).unwrap();
    policy.check_url(&url).is_err()
}

/// An address, more often than not one that a webhook has no business with.
fn address() -> impl Strategy<Value = Ipv4Addr> {
    let near = prop::sample::select(vec![
        [127, 0, 0, 1],
        [10, 0, 0, 0],
        [172, 16, 0, 0],
        [192, 168, 1, 1],
        [169, 254, 169, 254],
        [100, 64, 0, 0],
        [0, 0, 0, 0],
        [224, 0, 0, 1],
    ]);
    let near = (near, any::<u16>()).prop_map(|(octets, off)| u32::from_be_bytes(octets) ^ u32::from(off));
    prop_oneof![near, any::<u32>()].prop_map(Ipv4Addr::from)
}

proptest! {
    /// However an address is spelled, the same is allowed and forbidden, and what is private is forbidden.
    #[test]
    fn an_address_is_judged_by_where_it_leads(address in address()) {
        let policy = EgressPolicy::public();
        let permitted = policy.permits(IpAddr::V4(address));
        prop_assert!(!(permitted && is_surely_private(address)), "{address} is permitted");
        for host in spellings(address) {
            prop_assert_eq!(forbidden(&policy, &host), !permitted, "{}", host);
        }
    }

    /// No address of IPv6 leads to a private one of IPv4, in whichever of its forms.
    #[test]
    fn an_address_of_ipv6_is_no_way_around(address in address(), prefix in any::<u64>()) {
        let policy = EgressPolicy::public();
        let [a, b, c, d] = address.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let teredo = prefix.to_be_bytes();
        let ways = [
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, u16::from_be_bytes([teredo[0], teredo[1]]), 0, 0, 0, !high, !low),
        ];
        for way in ways {
            let leads = way.to_ipv4_mapped() == Some(address) && policy.permits(IpAddr::V4(address));
            prop_assert_eq!(policy.permits(IpAddr::V6(way)), leads, "{}", way);
            prop_assert_eq!(forbidden(&policy, &format!("[{way}]")), !leads, "{}", way);
        }
    }

    /// Any text that is a URL at all is judged, and nothing but http and https is let out.
    #[test]
    fn any_url_is_judged(text in "(http|https|file|gopher|ftp|HTTP)://[^ ]{0,40}", all in any::<String>()) {
        for text in [text, all] {
            if let Ok(url) = Url::parse(&text)
                && EgressPolicy::public().check_url(&url).is_ok()
            {
                prop_assert!(matches!(url.scheme(), "http" | "https"), "{} was let out", url);
            }
        }
    }

    /// A secret that is read is written as it was given.
    #[test]
    fn any_text_is_a_secret_or_refused(text in any::<String>(), bytes in prop::collection::vec(any::<u8>(), 0..80), spoil in any::<prop::sample::Index>(), by in any::<char>()) {
        use base64::Engine as _;
        let valid = format!("whsec_{}", base64::prelude::BASE64_STANDARD.encode(&bytes));
        let mut characters: Vec<char> = valid.chars().collect();
        let at = spoil.index(characters.len());
        characters[at] = by;
        let spoilt: String = characters.into_iter().collect();
        for text in [text, valid, spoilt] {
            if let Ok(secret) = text.parse::<Secret>() {
                prop_assert_eq!(secret.reveal().to_string(), text);
            }
        }
    }

    #[test]
    fn any_text_is_a_schedule_or_refused(text in "([0-9]{1,20}(ms|s|m|h|d|x|)?,? ?){0,12}", other in any::<String>()) {
        for text in [text, other] {
            if let Ok(schedule) = text.parse::<Schedule>() {
                let again = schedule.to_string().parse::<Schedule>();
                prop_assert_eq!(again, Ok(schedule));
            }
        }
    }

    #[test]
    fn any_text_is_a_master_key_or_refused(text in any::<String>(), hex in "[0-9a-fA-F=+/]{0,70}") {
        for text in [text, hex] {
            // Keys do not print themselves: what counts is that nothing breaks.
            drop(text.parse::<MasterKey>());
        }
    }
}
