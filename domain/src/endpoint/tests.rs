use ulid::Ulid;

use super::*;
use crate::aggregate::testing::{check_earlier_golden_file, check_golden_files, decide, folded};
use crate::{Edit, EndpointId, EventId, Position, Source, TenantId};

fn settings(url: &str) -> EndpointSettings {
    EndpointSettings {
        url: TargetUrl::try_from(url.to_owned()).unwrap(),
        event_types: vec![EventTypeFilter::try_from("invoice.*".to_owned()).unwrap()],
        description: Some(Text::new("bookkeeping").unwrap()),
        policy: Box::default(),
    }
}

fn change_to(url: &str) -> EndpointChange {
    EndpointChange {
        url: Some(TargetUrl::try_from(url.to_owned()).unwrap()),
        ..EndpointChange::default()
    }
}

fn created() -> EndpointEvent {
    EndpointEvent::Created {
        settings: settings("https://example.org/a"),
    }
}

fn disabled() -> EndpointEvent {
    EndpointEvent::Disabled {
        reason: Text::new("asked for").unwrap(),
        automatic: None,
    }
}

fn delivery() -> (DeliveryId, MessageRef) {
    let message = MessageRef {
        id: EventId::new(Ulid(8)),
        event_type: "invoice.paid".parse().unwrap(),
        position: Position {
            source: Source::Messages,
            shard: 0,
            sequence: 42,
        },
        published_at: None,
    };
    (
        DeliveryId::derive(&TenantId::new(Ulid(7)), &message.id, &EndpointId::new(Ulid(9))),
        message,
    )
}

async fn when(
    given: &[EndpointEvent],
    command: EndpointCommand,
) -> Result<Vec<EndpointEvent>, EndpointRejection> {
    decide::<Endpoint>(given, command).await
}

#[tokio::test]
async fn an_endpoint_is_created_once_and_wants_something() {
    let create = EndpointCommand::Create(settings("https://example.org/a"));
    assert_eq!(when(&[], create.clone()).await, Ok(vec![created()]));
    assert_eq!(
        when(&[created()], create.clone()).await,
        Err(EndpointRejection::AlreadyCreated)
    );
    let removed = [created(), EndpointEvent::Removed {}];
    assert_eq!(
        when(&removed, create).await,
        Err(EndpointRejection::AlreadyCreated)
    );
    let nothing = EndpointSettings {
        event_types: vec![],
        ..settings("https://example.org/a")
    };
    assert_eq!(
        when(&[], EndpointCommand::Create(nothing)).await,
        Err(EndpointRejection::NoEventTypes)
    );
}

#[tokio::test]
async fn a_change_tells_old_and_new() {
    let change = EndpointCommand::Change(change_to("https://example.org/b"));
    let changed = EndpointEvent::Changed {
        from: settings("https://example.org/a"),
        to: settings("https://example.org/b"),
    };
    assert_eq!(
        when(&[created()], change.clone()).await,
        Ok(vec![changed.clone()])
    );
    assert_eq!(when(&[created(), changed], change).await, Ok(vec![]));
}

#[tokio::test]
async fn a_change_leaves_alone_what_it_does_not_name() {
    let undescribed = EndpointSettings {
        description: None,
        ..settings("https://example.org/a")
    };
    let change = EndpointChange {
        description: Some(None),
        ..EndpointChange::default()
    };
    let changed = EndpointEvent::Changed {
        from: settings("https://example.org/a"),
        to: undescribed,
    };
    assert_eq!(
        when(&[created()], EndpointCommand::Change(change)).await,
        Ok(vec![changed])
    );
    let nothing = EndpointChange {
        event_types: Some(vec![]),
        ..EndpointChange::default()
    };
    let refused = when(&[created()], EndpointCommand::Change(nothing)).await;
    assert_eq!(refused, Err(EndpointRejection::NoEventTypes));
}

/// A policy with two secrets of these numbers.
fn policy(header: u128, password: u128) -> Policy {
    serde_json::from_value(serde_json::json!({
        "timeout_ms": 5_000,
        "headers": [
            { "name": "x-source", "value": "tidings" },
            { "name": "x-key", "secret": SecretId::new(Ulid(header)) }
        ],
        "authentication": { "type": "basic", "username": "ada", "password": SecretId::new(Ulid(password)) }
    }))
    .unwrap()
}

fn with(policy: Policy) -> EndpointSettings {
    EndpointSettings {
        policy: Box::new(policy),
        ..settings("https://example.org/a")
    }
}

#[tokio::test]
async fn a_policy_is_changed_part_by_part() {
    let created = EndpointEvent::Created {
        settings: with(policy(1, 2)),
    };
    let change = |policy: PolicyChange| {
        EndpointCommand::Change(EndpointChange {
            policy: Box::new(policy),
            ..EndpointChange::default()
        })
    };
    assert_eq!(
        when(std::slice::from_ref(&created), change(PolicyChange::default())).await,
        Ok(vec![])
    );
    let reset = change(PolicyChange {
        timeout_ms: Edit::Reset,
        method: Edit::Set(policy::Method::Put),
        ..PolicyChange::default()
    });
    let to = with(Policy {
        timeout_ms: None,
        method: policy::Method::Put,
        ..policy(1, 2)
    });
    let changed = EndpointEvent::Changed {
        from: with(policy(1, 2)),
        to,
    };
    assert_eq!(when(&[created], reset).await, Ok(vec![changed]));
}

#[tokio::test]
async fn what_a_policy_cannot_ask_for_is_refused() {
    let refused = async |json: serde_json::Value, url: &str| {
        let settings = EndpointSettings {
            policy: serde_json::from_value(json).unwrap(),
            ..settings(url)
        };
        when(&[], EndpointCommand::Create(settings)).await
    };
    let no = |policy| Err(EndpointRejection::Policy(policy));
    let headers = |names: &[&str]| -> serde_json::Value {
        let headers = names
            .iter()
            .map(|name| serde_json::json!({ "name": name, "value": "x" }));
        serde_json::json!({ "headers": headers.collect::<Vec<_>>() })
    };
    let url = "https://example.org/";
    for name in [
        "host",
        "Content-Length",
        "connection",
        "webhook-id",
        "ce-id",
        "proxy-authorization",
    ] {
        let policy = headers(&["x-a", name]);
        assert_eq!(
            refused(policy, url).await,
            no(InvalidPolicy::ReservedHeader(1)),
            "{name}"
        );
    }
    assert_eq!(
        refused(headers(&["x-a", "X-A"]), url).await,
        no(InvalidPolicy::HeaderTwice(1))
    );
    let many: Vec<String> = (0..17).map(|number| format!("x-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(
        refused(headers(&many), url).await,
        no(InvalidPolicy::TooManyHeaders)
    );
    assert!(refused(headers(&many[1..]), url).await.is_ok());
    assert!(refused(headers(&["authorization"]), url).await.is_ok());
    let mut twice = headers(&["authorization"]);
    twice["authentication"] = serde_json::json!({ "type": "bearer", "token": SecretId::new(Ulid(1)) });
    assert_eq!(
        refused(twice, url).await,
        no(InvalidPolicy::AuthorizationTwice(0))
    );
    let mtls = serde_json::json!({ "authentication": {
        "type": "mtls", "certificate": "-----BEGIN CERTIFICATE-----", "key": SecretId::new(Ulid(1))
    }});
    assert!(refused(mtls.clone(), url).await.is_ok());
    assert_eq!(
        refused(mtls, "http://example.org/").await,
        no(InvalidPolicy::NoTls)
    );
}

#[test]
fn secrets_that_a_policy_no_longer_names_are_remembered_to_be_erased() {
    use cqrs_es::Aggregate;

    let mut endpoint = Endpoint::default();
    let ended = |endpoint: &Endpoint| -> Vec<SecretId> {
        endpoint.secrets().unwrap().ended().flatten().cloned().collect()
    };
    endpoint.apply(EndpointEvent::Created {
        settings: with(policy(1, 2)),
    });
    endpoint.apply(EndpointEvent::Changed {
        from: with(policy(1, 2)),
        to: with(policy(3, 2)),
    });
    assert_eq!(ended(&endpoint), [SecretId::new(Ulid(1))]);
    endpoint.apply(EndpointEvent::Removed {});
    assert_eq!(ended(&endpoint), [1, 3, 2].map(|n| SecretId::new(Ulid(n))));
}

#[tokio::test]
async fn disabled_by_tidings_itself_it_says_why() {
    let gone = Automatic::Gone {
        delivery: delivery().0,
    };
    let by_itself = EndpointEvent::Disabled {
        reason: Text::new("the receiver answered 410 Gone").unwrap(),
        automatic: Some(gone.clone()),
    };
    let disable = EndpointCommand::DisableItself(gone);
    assert_eq!(when(&[created()], disable.clone()).await, Ok(vec![by_itself]));
    assert_eq!(when(&[created(), disabled()], disable.clone()).await, Ok(vec![]));
    let removed = [created(), EndpointEvent::Removed {}];
    assert_eq!(when(&removed, disable).await, Err(EndpointRejection::NotFound));
    let failing = Automatic::Failing {
        since: Timestamp::from_millis(1_614_265_330_007),
    };
    assert_eq!(
        failing.reason().as_str(),
        "no attempt since 2021-02-25T15:02:10.007Z was a success"
    );
}

#[tokio::test]
async fn disabling_and_enabling_are_told_once() {
    let disable = EndpointCommand::Disable {
        reason: Text::new("asked for").unwrap(),
    };
    assert_eq!(when(&[created()], disable.clone()).await, Ok(vec![disabled()]));
    assert_eq!(when(&[created(), disabled()], disable).await, Ok(vec![]));
    let enabled = EndpointEvent::Enabled {};
    assert_eq!(
        when(&[created(), disabled()], EndpointCommand::Enable).await,
        Ok(vec![enabled])
    );
    assert_eq!(when(&[created()], EndpointCommand::Enable).await, Ok(vec![]));
}

fn rotated(secret: u128, until: i64) -> EndpointEvent {
    EndpointEvent::SecretRotated {
        secret: SecretId::new(Ulid(secret)),
        previous_valid_until: Timestamp::from_millis(until),
    }
}

#[tokio::test]
async fn a_secret_is_rotated_with_an_overlap_and_once() {
    let rotate = |overlap: u32| EndpointCommand::RotateSecret {
        secret: SecretId::new(Ulid(1)),
        at: Timestamp::from_millis(1_000),
        overlap: OverlapHours::try_from(overlap).unwrap(),
    };
    assert_eq!(
        when(&[created()], rotate(2)).await,
        Ok(vec![rotated(1, 7_201_000)])
    );
    assert_eq!(
        when(&[created(), disabled()], rotate(0)).await,
        Ok(vec![rotated(1, 1_000)])
    );
    let repeated = [created(), rotated(1, 7_201_000)];
    assert_eq!(when(&repeated, rotate(2)).await, Ok(vec![]));
    let since = [created(), rotated(1, 7_201_000), rotated(2, 8_000_000)];
    assert_eq!(when(&since, rotate(2)).await, Ok(vec![rotated(1, 7_201_000)]));
    assert_eq!(when(&[], rotate(2)).await, Err(EndpointRejection::NotFound));
}

#[test]
fn a_removed_endpoint_remembers_which_secrets_to_erase() {
    use cqrs_es::Aggregate;

    let mut endpoint = Endpoint::default();
    assert!(endpoint.secrets().is_none());
    for event in [created(), rotated(1, 5), EndpointEvent::Removed {}] {
        endpoint.apply(event);
    }
    let names: Vec<_> = endpoint
        .secrets()
        .unwrap()
        .all()
        .map(Option::<&SecretId>::cloned)
        .collect();
    assert_eq!(names, [None, Some(SecretId::new(Ulid(1)))]);
}

#[tokio::test]
async fn a_url_that_no_receiver_can_have_is_refused_when_it_is_new() {
    let nowhere = settings("https://example.org:0/");
    assert_eq!(
        when(&[], EndpointCommand::Create(nowhere.clone())).await,
        Err(EndpointRejection::Url(InvalidHost::Port))
    );
    let change = EndpointCommand::Change(change_to("https://a..b/"));
    assert_eq!(
        when(&[created()], change).await,
        Err(EndpointRejection::Url(InvalidHost::Name))
    );
    // One from before the rule is left alone.
    let old = EndpointEvent::Created { settings: nowhere };
    let described = EndpointChange {
        description: Some(None),
        ..change_to("https://example.org:0/")
    };
    assert_eq!(
        when(&[old], EndpointCommand::Change(described))
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn nothing_can_be_asked_of_an_endpoint_that_is_not_there() {
    for history in [vec![], vec![created(), EndpointEvent::Removed {}]] {
        for command in [
            EndpointCommand::Change(change_to("https://example.org/b")),
            EndpointCommand::Enable,
            EndpointCommand::Remove,
            redrive(Selection::All),
        ] {
            assert_eq!(when(&history, command).await, Err(EndpointRejection::NotFound));
        }
    }
}

#[tokio::test]
async fn dead_letters_can_be_discarded_even_after_the_endpoint_is_removed() {
    let discard = EndpointCommand::Discard(Selection::All);
    let requested = EndpointEvent::DiscardRequested {
        selection: Selection::All,
    };
    let removed = [created(), EndpointEvent::Removed {}];
    assert_eq!(when(&removed, discard.clone()).await, Ok(vec![requested]));
    assert_eq!(when(&[], discard).await, Err(EndpointRejection::NotFound));
}

fn redrive(selection: Selection) -> EndpointCommand {
    let rate = Rate::try_from(20).ok();
    EndpointCommand::Redrive { selection, rate }
}

fn redrive_requested(selection: Selection, rate: Option<u32>) -> EndpointEvent {
    let rate = rate.map(|rate| rate.try_into().unwrap());
    EndpointEvent::RedriveRequested { selection, rate }
}

fn matching() -> Matching {
    Matching {
        event_types: vec!["invoice.paid".parse().unwrap()],
        since: Some(Timestamp::from_millis(1_614_265_330_007)),
        until: None,
        errors: vec![crate::ErrorClass::Timeout],
    }
}

#[test]
fn requests_of_before_there_were_rates_are_read() {
    let (id, _) = delivery();
    let some = Selection::Deliveries(vec![id]);
    check_earlier_golden_file("endpoint.redrive_requested", 1, &redrive_requested(some, None));
    let selection = Selection::All;
    let discard = EndpointEvent::DiscardRequested { selection };
    check_earlier_golden_file("endpoint.discard_requested", 1, &discard);
}

#[tokio::test]
async fn requests_are_told_and_bounded() {
    let (id, message) = delivery();
    let some = Selection::Deliveries(vec![id.clone()]);
    assert_eq!(
        when(&[created()], redrive(some.clone())).await,
        Ok(vec![redrive_requested(some.clone(), Some(20))])
    );
    assert_eq!(
        when(&[created(), disabled()], redrive(some)).await,
        Err(EndpointRejection::Disabled)
    );
    assert_eq!(
        when(
            &[created(), disabled()],
            EndpointCommand::Resend {
                delivery: id.clone(),
                message: message.clone()
            }
        )
        .await,
        Ok(vec![EndpointEvent::ResendRequested {
            delivery: id.clone(),
            message
        }])
    );
    let many = Selection::Deliveries(vec![id; MAX_LIST + 1]);
    assert_eq!(
        when(&[created()], EndpointCommand::Discard(many)).await,
        Err(EndpointRejection::ListTooLong)
    );
}

#[test]
fn events_from_before_there_were_policies_decode_for_ever() {
    let changed = EndpointEvent::Changed {
        from: settings("https://example.org/a"),
        to: settings("https://example.org/b"),
    };
    check_earlier_golden_file("endpoint.created", 1, &created());
    check_earlier_golden_file("endpoint.changed", 1, &changed);
    check_earlier_golden_file("endpoint.disabled", 1, &disabled());
}

#[test]
fn stored_events_decode_for_ever() {
    let (id, message) = delivery();
    let created = EndpointEvent::Created {
        settings: with(policy::tests::full()),
    };
    let why = Automatic::Gone { delivery: id.clone() };
    let gone = EndpointEvent::Disabled {
        reason: why.reason(),
        automatic: Some(why),
    };
    let changed = EndpointEvent::Changed {
        from: with(policy(1, 2)),
        to: settings("https://example.org/a"),
    };
    check_golden_files(
        EndpointEvent::WIRE,
        &[
            created,
            changed,
            gone,
            EndpointEvent::Enabled {},
            rotated(1, 1_614_265_330_007),
            EndpointEvent::Removed {},
            redrive_requested(Selection::Deliveries(vec![id.clone()]), Some(20)),
            EndpointEvent::DiscardRequested {
                selection: Selection::Matching(matching()),
            },
            EndpointEvent::ResendRequested {
                delivery: id,
                message,
            },
        ],
    );
}

#[test]
fn an_endpoint_tells_its_settings_and_whether_it_gets_messages() {
    let state = |events: &[EndpointEvent]| {
        let endpoint = folded::<Endpoint>(events);
        (endpoint.settings().cloned(), endpoint.is_enabled())
    };
    let here = || Some(settings("https://example.org/a"));
    assert_eq!(state(&[]), (None, false));
    assert_eq!(state(&[created()]), (here(), true));
    assert_eq!(state(&[created(), disabled()]), (here(), false));
    let enabled = [created(), disabled(), EndpointEvent::Enabled {}];
    assert_eq!(state(&enabled), (here(), true));
    assert_eq!(state(&[created(), EndpointEvent::Removed {}]), (None, false));
}
