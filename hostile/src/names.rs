//! Texts: names, positions, filters and addresses.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use delivery::{EgressPolicy, Ports};
use domain::endpoint::{ContentFilter, EventTypeFilter, TargetUrl};
use domain::user::Email;
use domain::{EventId, EventType, Grant, Permission, Position, SourceAddress, TenantId, Timestamp, UserId};
use url::{Host, Url};

use crate::text;

/// Reads a text; what is accepted prints as it was given, so that no thing has two names.
fn one_form<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text, "it has another form");
    }
}

/// Any text as a position.
pub(crate) fn position(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    one_form::<Position>(text);
}

/// Any text as a name of something.
pub(crate) fn name(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    one_form::<TenantId>(text);
    one_form::<UserId>(text);
    one_form::<EventId>(text);
    one_form::<EventType>(text);
    one_form::<Permission>(text);
    one_form::<SourceAddress>(text);
    if let Ok(grant) = text.parse::<Grant>() {
        // It has a form that is shorter to write, and one that is stored.
        assert_eq!(grant.to_string().parse(), Ok(grant), "{text}");
    }
    if let Ok(email) = Email::try_from(text.to_owned()) {
        assert_eq!(email.as_str(), text.trim());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        assert_eq!(time.to_string().parse::<Timestamp>(), Ok(time), "{text}");
    }
}

/// A filter of event types and a type, on a line each: it selects what a naive one does.
pub(crate) fn type_filter(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let (pattern, event_type) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(filter) = EventTypeFilter::try_from(pattern.to_owned()) else {
        return;
    };
    assert_eq!(filter.as_str(), pattern, "it has another form");
    let Ok(event_type) = event_type.parse::<EventType>() else {
        return;
    };
    let wanted: Vec<_> = pattern.split('.').collect();
    let words: Vec<_> = event_type.as_str().split('.').collect();
    let selects = filter.matches(&event_type);
    if !pattern.contains('*') {
        assert_eq!(
            selects,
            pattern == event_type.as_str(),
            "{pattern} and {event_type}"
        );
    } else if pattern == "*" {
        // What is told of deliveries is asked for by its own prefix.
        let own = event_type.as_str().starts_with("tidings.");
        assert_eq!(selects, !own, "{pattern} and {event_type}");
    } else if selects {
        let fit = |(wanted, word): (&&str, &&str)| *wanted == "*" || wanted == word;
        assert!(wanted.iter().zip(&words).all(fit), "{pattern} and {event_type}");
    }
}

/// A content filter and data, on a line each: what is accepted decides the same after it was written and read again.
pub(crate) fn content_filter(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let (filter, data) = text.split_once('\n').unwrap_or((text, "null"));
    let (Ok(filter), Ok(data)) = (
        serde_json::from_str::<ContentFilter>(filter),
        serde_json::from_str(data),
    ) else {
        return;
    };
    let written = serde_json::to_value(&filter);
    let again = written.and_then(serde_json::from_value::<ContentFilter>);
    let again = again.map(|again| again.lets_through(&data)).ok();
    assert_eq!(
        again,
        Some(filter.lets_through(&data)),
        "it changes when it is written"
    );
}

/// Any text as the address of a receiver: nothing that is let out leads to where webhooks must not go.
pub(crate) fn address(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(url) = TargetUrl::try_from(text.to_owned()) {
        assert_eq!(
            TargetUrl::try_from(url.to_string()).as_ref(),
            Ok(&url),
            "it has another form"
        );
    }
    let Ok(url) = Url::parse(text) else { return };
    let policy = EgressPolicy::public();
    if policy.check_url(&url).is_ok() {
        assert!(matches!(url.scheme(), "http" | "https"), "{url} is let out");
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(name)) => {
                assert!(
                    !name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
                    "{url} is let out"
                );
                return;
            }
            None => panic!("{url} is let out, and leads nowhere"),
        };
        assert!(policy.permits(address) && is_public(address), "{url} is let out");
        // What is let out to fewer ports is let out to all.
        if policy.clone().at(Ports::of_the_web()).check_url(&url).is_ok() {
            assert!(policy.check_url(&url).is_ok());
        }
    }
}

/// What the standard library knows of addresses that are nowhere on the internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_broadcast()
                || address.is_multicast()
                || address.is_documentation())
        }
        IpAddr::V6(address) => {
            let mapped = address
                .to_ipv4_mapped()
                .is_none_or(|inner| is_public(IpAddr::V4(inner)));
            mapped
                && !(address.is_loopback()
                    || address.is_unspecified()
                    || address.is_multicast()
                    || address.is_unique_local()
                    || address.is_unicast_link_local())
        }
    }
}
