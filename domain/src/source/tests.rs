use serde_json::json;
use ulid::Ulid;

use super::*;
use crate::aggregate::testing::{check_golden_files, decide, folded};

fn settings(name: &str) -> SourceSettings {
    serde_json::from_value(json!({
        "name": name,
        "verification": { "scheme": "hmac", "header": "x-signature", "prefix": "sha256=", "hash": "sha256",
            "encoding": "hex", "key": "text", "id": "/id" },
        "event_type": { "from": "header", "header": "x-topic", "prefix": "shop" },
        "tolerance_seconds": 300,
        "rate_limit": { "requests": 100, "per_seconds": 1 },
    }))
    .unwrap()
}

fn created() -> SourceEvent {
    SourceEvent::Created {
        settings: settings("Shop"),
    }
}

fn disabled() -> SourceEvent {
    SourceEvent::Disabled {
        reason: Text::new("asked for").unwrap(),
    }
}

fn rotated(number: u128, until: i64) -> SourceEvent {
    SourceEvent::SecretRotated {
        secret: SecretId::new(Ulid(number)),
        previous_valid_until: Timestamp::from_millis(until),
    }
}

fn rename(name: &str) -> SourceCommand {
    SourceCommand::Change(SourceChange {
        name: Some(Text::new(name).unwrap()),
        ..SourceChange::default()
    })
}

fn rotate(number: u128, at: i64, hours: u32) -> SourceCommand {
    SourceCommand::RotateSecret {
        secret: SecretId::new(Ulid(number)),
        at: Timestamp::from_millis(at),
        overlap: hours.try_into().unwrap(),
    }
}

async fn when(given: &[SourceEvent], command: SourceCommand) -> Result<Vec<SourceEvent>, SourceRejection> {
    decide::<Source>(given, command).await
}

#[tokio::test]
async fn a_source_is_created_once_and_removed_for_ever() {
    let create = || SourceCommand::Create(settings("Shop"));
    assert_eq!(when(&[], create()).await, Ok(vec![created()]));
    assert_eq!(
        when(&[created()], create()).await,
        Err(SourceRejection::AlreadyCreated)
    );
    let gone = [created(), SourceEvent::Removed {}];
    assert_eq!(when(&gone, create()).await, Err(SourceRejection::AlreadyCreated));
    for command in [
        rename("X"),
        SourceCommand::Enable,
        SourceCommand::Remove,
        rotate(1, 0, 1),
    ] {
        assert_eq!(when(&[], command.clone()).await, Err(SourceRejection::NotFound));
        assert_eq!(when(&gone, command).await, Err(SourceRejection::NotFound));
    }
}

#[tokio::test]
async fn what_is_so_already_happens_no_more() {
    assert_eq!(when(&[created()], rename("Shop")).await, Ok(vec![]));
    assert_eq!(when(&[created()], SourceCommand::Enable).await, Ok(vec![]));
    let reason = Text::new("asked for").unwrap();
    let disable = SourceCommand::Disable { reason };
    assert_eq!(when(&[created()], disable.clone()).await, Ok(vec![disabled()]));
    assert_eq!(when(&[created(), disabled()], disable).await, Ok(vec![]));
    assert_eq!(
        when(&[created(), disabled()], SourceCommand::Enable).await,
        Ok(vec![SourceEvent::Enabled {}])
    );
    assert_eq!(
        when(&[created(), rotated(1, 3_600_000)], rotate(1, 7, 1)).await,
        Ok(vec![])
    );
}

#[tokio::test]
async fn a_change_tells_both_and_never_touches_how_requests_prove_themselves() {
    let to = SourceSettings {
        rate_limit: None,
        ..settings("Store")
    };
    let change = SourceCommand::Change(SourceChange {
        name: Some(Text::new("Store").unwrap()),
        rate_limit: Some(None),
        ..SourceChange::default()
    });
    let from = settings("Shop");
    assert_eq!(
        when(&[created()], change).await,
        Ok(vec![SourceEvent::Changed { from, to }])
    );
}

#[tokio::test]
async fn the_secret_before_counts_until_its_overlap_is_over() {
    assert_eq!(
        when(&[created()], rotate(1, 7, 1)).await,
        Ok(vec![rotated(1, 3_600_007)])
    );
    let mut source = Source::default();
    for event in [created(), rotated(1, 10)] {
        cqrs_es::Aggregate::apply(&mut source, event);
    }
    let secrets = source.secrets().unwrap();
    assert_eq!(secrets.signing_at(Timestamp::from_millis(9)).count(), 2);
    assert_eq!(secrets.signing_at(Timestamp::from_millis(10)).count(), 1);
    cqrs_es::Aggregate::apply(&mut source, SourceEvent::Removed {});
    assert!(source.settings().is_none() && !source.is_enabled());
    assert_eq!(source.secrets().unwrap().all().count(), 2);
}

#[test]
fn stored_events_decode_for_ever() {
    check_golden_files(
        SourceEvent::WIRE,
        &[
            created(),
            SourceEvent::Changed {
                from: settings("Shop"),
                to: settings("Store"),
            },
            disabled(),
            SourceEvent::Enabled {},
            rotated(1, 1_614_265_330_007),
            SourceEvent::Removed {},
        ],
    );
}

#[test]
fn a_source_tells_its_settings_and_whether_what_it_sends_is_taken() {
    let state = |events: &[SourceEvent]| {
        let source = folded::<Source>(events);
        (source.settings().cloned(), source.is_enabled())
    };
    let shop = || Some(settings("Shop"));
    assert_eq!(state(&[]), (None, false));
    assert_eq!(state(&[created()]), (shop(), true));
    assert_eq!(state(&[created(), disabled()]), (shop(), false));
    let enabled = [created(), disabled(), SourceEvent::Enabled {}];
    assert_eq!(state(&enabled), (shop(), true));
    assert_eq!(state(&[created(), SourceEvent::Removed {}]), (None, false));
}
