//! A log whose disk failed: it shows its last record to whoever reads by subject, and has none of that number.

use std::time::SystemTime;

use commands::{Call, ClaimKey, Dispatcher, Draft, Error, Origin, PublishError, Publisher, Settings};
use domain::user::User;
use domain::{Actor, EventId, Timestamp};
use ulid::Ulid;

use crate::installation::{Installation, meta, register, tenant, user};
use crate::lagging;

/// The next record that is asked for by its number is not there.
const NONE_ONCE: &[Option<u64>] = &[Some(0)];

#[tokio::test]
async fn a_repetition_is_not_answered_with_a_record_that_is_not_kept() {
    let installation = Installation::new().await;
    let (tenant, user) = (tenant(), user());
    let (id, command) = (user.as_str(), meta("RegisterUser"));
    let first = installation
        .dispatcher()
        .execute::<User>(&tenant, id, register("ada@example.org"), command.clone())
        .await
        .unwrap();
    let engine = lagging::engine(&installation, &[], &[], NONE_ONCE);
    let dispatcher = Dispatcher::new(&engine, Settings::new(ClaimKey::new([7; 32])));
    let repeat = async || {
        let again = Call {
            meta: command.clone(),
            repeated: true,
        };
        dispatcher
            .execute::<User>(&tenant, id, register("ada@example.org"), again)
            .await
    };
    let refused = repeat().await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert_eq!(repeat().await.unwrap(), first);
}

#[tokio::test]
async fn a_repeated_event_is_not_answered_with_a_record_that_is_not_kept() {
    let installation = Installation::new().await;
    let (tenant, id) = (tenant(), EventId::new(Ulid::generate()));
    let origin = |repeats| Origin {
        actor: Actor::PlatformAdmin,
        request_id: None,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        at: Timestamp::from(SystemTime::now()),
        repeats,
    };
    let event = || Draft {
        id: None,
        drawn: id.clone(),
        event_type: "invoice.paid".parse().unwrap(),
        data: bytes::Bytes::from_static(b"1"),
        only_for: None,
    };
    let begun = Timestamp::from(SystemTime::now());
    let engine = lagging::engine(&installation, &[], &[], NONE_ONCE);
    let publisher = Publisher::new(&engine);
    let first = publisher
        .publish(&tenant, vec![event()], origin(None))
        .await
        .unwrap();
    let first = first.into_iter().next().unwrap().unwrap();
    let refused = publisher
        .publish(&tenant, vec![event()], origin(Some(begun)))
        .await;
    assert!(
        matches!(refused, Err(PublishError::Unavailable(_))),
        "{refused:?}"
    );
    let again = publisher
        .publish(&tenant, vec![event()], origin(Some(begun)))
        .await
        .unwrap();
    assert_eq!(again[0].as_ref().unwrap().position, first.position);
}
