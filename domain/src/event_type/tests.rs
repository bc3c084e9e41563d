use serde_json::json;

use super::*;
use crate::aggregate::testing::{check_golden_files, decide};

fn schema(wanted: &str) -> Schema {
    Schema::try_from(json!({ "type": wanted })).unwrap()
}

fn registered(version: u32) -> EventTypeEvent {
    EventTypeEvent::Registered {
        name: "invoice.paid".parse().unwrap(),
        description: Some(Text::new("A customer has paid.").unwrap()),
        version,
        schema: schema("object"),
    }
}

fn register() -> EventTypeCommand {
    EventTypeCommand::Register {
        name: "invoice.paid".parse().unwrap(),
        description: Some(Text::new("A customer has paid.").unwrap()),
        schema: schema("object"),
    }
}

fn added(version: u32, wanted: &str) -> EventTypeEvent {
    EventTypeEvent::VersionAdded {
        version,
        schema: schema(wanted),
    }
}

fn add(number: u32, wanted: &str) -> EventTypeCommand {
    EventTypeCommand::AddVersion {
        number,
        schema: schema(wanted),
    }
}

async fn when(
    given: &[EventTypeEvent],
    command: EventTypeCommand,
) -> Result<Vec<EventTypeEvent>, EventTypeRejection> {
    decide::<EventTypeRegistration>(given, command).await
}

#[tokio::test]
async fn a_type_is_registered_once_and_again_after_it_was_retired() {
    assert_eq!(when(&[], register()).await, Ok(vec![registered(1)]));
    assert_eq!(
        when(&[registered(1)], register()).await,
        Err(EventTypeRejection::AlreadyRegistered)
    );
    let retired = [registered(1), added(2, "array"), EventTypeEvent::Retired {}];
    assert_eq!(when(&retired, register()).await, Ok(vec![registered(3)]));
}

#[tokio::test]
async fn versions_count_and_the_latest_is_the_one() {
    assert_eq!(
        when(&[registered(1)], add(2, "array")).await,
        Ok(vec![added(2, "array")])
    );
    let history = [registered(1), added(2, "array")];
    assert_eq!(
        when(&history, add(2, "string")).await,
        Err(EventTypeRejection::OtherNumber)
    );
    assert_eq!(
        when(&history, add(2, "array")).await,
        Ok(vec![]),
        "it is so already"
    );
    // A schema that was once is a new version all the same.
    assert_eq!(
        when(&history, add(3, "object")).await,
        Ok(vec![added(3, "object")])
    );
    let full = [registered(MAX_VERSIONS)];
    assert_eq!(
        when(&full, add(MAX_VERSIONS + 1, "array")).await,
        Err(EventTypeRejection::TooManyVersions)
    );
}

#[test]
fn what_is_retired_has_no_latest_schema() {
    use cqrs_es::Aggregate;

    let mut event_type = EventTypeRegistration::default();
    assert_eq!((event_type.latest(), event_type.last_version()), (None, 0));
    for event in [registered(1), added(2, "array")] {
        event_type.apply(event);
    }
    assert_eq!(event_type.latest(), Some((2, &schema("array"))));
    event_type.apply(EventTypeEvent::Retired {});
    assert_eq!((event_type.latest(), event_type.last_version()), (None, 2));
}

#[tokio::test]
async fn what_people_say_changes_when_it_differs() {
    let describe = |description: Option<Option<&str>>, deprecated| EventTypeCommand::Describe {
        description: description.map(|text| text.map(|text| Text::new(text).unwrap())),
        deprecated,
    };
    let described = EventTypeEvent::Described {
        from: Some(Text::new("A customer has paid.").unwrap()),
        to: None,
    };
    assert_eq!(
        when(&[registered(1)], describe(Some(None), Some(true))).await,
        Ok(vec![described, EventTypeEvent::Deprecated {}])
    );
    let deprecated = [registered(1), EventTypeEvent::Deprecated {}];
    assert_eq!(
        when(
            &deprecated,
            describe(Some(Some("A customer has paid.")), Some(true))
        )
        .await,
        Ok(vec![])
    );
    assert_eq!(
        when(&deprecated, describe(None, Some(false))).await,
        Ok(vec![EventTypeEvent::Reinstated {}])
    );
}

#[tokio::test]
async fn nothing_but_registering_can_be_asked_of_a_type_that_is_not_there() {
    for history in [vec![], vec![registered(1), EventTypeEvent::Retired {}]] {
        let nothing = EventTypeCommand::Describe {
            description: None,
            deprecated: None,
        };
        for command in [add(2, "array"), nothing, EventTypeCommand::Retire] {
            assert_eq!(when(&history, command).await, Err(EventTypeRejection::NotFound));
        }
    }
    assert_eq!(
        when(&[registered(1)], EventTypeCommand::Retire).await,
        Ok(vec![EventTypeEvent::Retired {}])
    );
}

#[test]
fn stored_events_decode_for_ever() {
    check_golden_files(
        EventTypeEvent::WIRE,
        &[
            registered(1),
            added(2, "array"),
            EventTypeEvent::Described {
                from: None,
                to: Some(Text::new("A customer has paid.").unwrap()),
            },
            EventTypeEvent::Deprecated {},
            EventTypeEvent::Reinstated {},
            EventTypeEvent::Retired {},
        ],
    );
}
