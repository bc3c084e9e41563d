use serde_json::{Value, json};
use ulid::Ulid;

use super::*;

/// A policy that asks for everything.
pub(in crate::endpoint) fn full() -> Policy {
    serde_json::from_value(everything()).unwrap()
}

fn everything() -> Value {
    json!({
        "filter": { "all": [{ "path": "/amount", "at_least": 100 }, { "not": { "path": "/test", "equals": true } }] },
        "retry_schedule": ["5s", "5m"],
        "retry_jitter": 20,
        "timeout_ms": 5_000,
        "max_in_flight": 4,
        "rate_limit": { "per_second": 10, "burst": 50 },
        "breaker": { "failure_percent": 50, "minimum": 10, "window_seconds": 60, "open_seconds": 30 },
        "disable_after_hours": 72,
        "headers": [
            { "name": "x-source", "value": "tidings" },
            { "name": "x-key", "secret": SecretId::new(Ulid(1)) }
        ],
        "format": "cloudevents_binary",
        "method": "PUT",
        "authentication": {
            "type": "oauth2",
            "token_url": "https://login.example.org/token",
            "client_id": "tidings",
            "client_secret": SecretId::new(Ulid(2)),
            "scope": "hooks.write"
        },
        "signature": "ed25519",
        "ordering": { "key": "/customer/id", "on_failure": "park" }
    })
}

#[test]
fn a_policy_is_written_as_it_was_read() {
    assert_eq!(serde_json::to_value(full()).unwrap(), everything());
    assert_eq!(full().secrets().count(), 2);
}

#[test]
fn what_is_as_the_installation_has_it_is_not_written() {
    assert_eq!(serde_json::to_value(Policy::default()).unwrap(), json!({}));
    assert_eq!(
        serde_json::from_value::<Policy>(json!({})).unwrap(),
        Policy::default()
    );
}

#[test]
fn every_part_can_be_set_back() {
    let reset = PolicyChange {
        filter: Edit::Reset,
        retry_schedule: Edit::Reset,
        retry_jitter: Edit::Reset,
        timeout_ms: Edit::Reset,
        max_in_flight: Edit::Reset,
        rate_limit: Edit::Reset,
        breaker: Edit::Reset,
        disable_after_hours: Edit::Reset,
        headers: Edit::Reset,
        format: Edit::Reset,
        method: Edit::Reset,
        authentication: Edit::Reset,
        signature: Edit::Reset,
        ordering: Edit::Reset,
    };
    assert_eq!(reset.apply_to(full()), Policy::default());
    assert_eq!(PolicyChange::default().apply_to(full()), full());
}

#[test]
fn each_part_is_bounded() {
    for (part, wrong) in [
        ("filter", json!({ "path": "/a" })),
        ("retry_schedule", json!(["5 s"])),
        ("retry_schedule", json!(vec!["5s"; 51])),
        ("retry_jitter", json!(51)),
        ("timeout_ms", json!(99)),
        ("timeout_ms", json!(30_001)),
        ("max_in_flight", json!(0)),
        ("rate_limit", json!({ "per_second": 0 })),
        ("rate_limit", json!({ "burst": 5 })),
        ("breaker", json!(true)),
        ("breaker", json!({ "failure_percent": 0 })),
        ("breaker", json!({ "percent": 1 })),
        ("disable_after_hours", json!(721)),
        ("headers", json!([{ "name": "x y", "value": "z" }])),
        ("headers", json!([{ "name": "x" }])),
        ("format", json!("xml")),
        ("method", json!("GET")),
        ("authentication", json!({ "type": "basic" })),
        ("signature", json!("rsa")),
        ("ordering", json!({ "key": "/a~" })),
        ("ordering", json!({ "key": "/a", "on_failure": "panic" })),
    ] {
        let policy = serde_json::from_value::<Policy>(json!({ part: wrong }));
        assert!(policy.is_err(), "{part}: {wrong} was accepted");
    }
}

#[test]
fn small_forms_stand_for_whole_ones() {
    let policy: Policy = serde_json::from_value(json!({
        "rate_limit": { "per_second": 7 },
        "breaker": {},
        "ordering": { "key": "everything" }
    }))
    .unwrap();
    assert_eq!(policy.lane.rate_limit.unwrap().burst(), 7);
    assert_eq!(policy.breaker, Some(BreakerPolicy::On(BreakerRule::default())));
    assert_eq!(policy.ordering.unwrap().on_failure, OnFailure::Block);
    let off: Policy = serde_json::from_value(json!({ "breaker": false })).unwrap();
    assert_eq!(off.breaker, Some(BreakerPolicy::Off));
    assert_eq!(serde_json::to_value(off).unwrap(), json!({ "breaker": false }));
}

#[test]
fn a_chain_holds_certificates_and_nothing_else() {
    let chain = |text: &str| CertificateChain::try_from(text.to_owned());
    let certificate = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
    assert!(chain(&certificate.repeat(2)).is_ok());
    let with_key = format!("{certificate}-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n");
    for bad in ["", "certificate", &with_key, &certificate.repeat(400)] {
        assert_eq!(chain(bad), Err(InvalidChain));
    }
    let username = |text: &str| serde_json::from_value::<Username>(json!(text));
    assert!(username("ada").is_ok() && username("a:b").is_err());
}
