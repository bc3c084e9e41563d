//! Publishing events.

use broker::layout::Log;
use commands::{Draft, Origin, PublishError, Publisher};
use domain::{Actor, EventId, Timestamp};
use ulid::Ulid;

use crate::installation::{Installation, tenant};

fn draft(id: Option<&EventId>, data: &str) -> Draft {
    Draft {
        id: id.cloned(),
        drawn: EventId::new(Ulid::generate()),
        event_type: "invoice.paid".parse().unwrap(),
        data: bytes::Bytes::copy_from_slice(data.as_bytes()),
        only_for: None,
    }
}

fn origin() -> Origin {
    Origin {
        actor: Actor::PlatformAdmin,
        request_id: None,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        at: Timestamp::from_millis(1_614_265_330_007),
        repeats: None,
    }
}

#[tokio::test]
async fn published_events_stand_in_order_and_to_the_byte() {
    let installation = Installation::new().await;
    let (publisher, tenant) = (Publisher::new(&*installation.engine), tenant());
    let texts = [r#"{"amount": 12.50}"#, "[1, 2]", r#""x""#];
    let drafts = texts.iter().map(|text| draft(None, text)).collect();
    let published = publisher.publish(&tenant, drafts, origin()).await.unwrap();
    let mut last = 0;
    for (result, text) in published.into_iter().zip(texts) {
        let published = result.unwrap();
        assert!(published.position.sequence > last && !published.duplicate);
        last = published.position.sequence;
        let message = publisher.read(published.position).await.unwrap().unwrap();
        assert_eq!(
            (message.id, message.data.as_slice()),
            (published.id, text.as_bytes())
        );
    }
}

#[tokio::test]
async fn an_event_under_its_own_id_is_published_once() {
    let installation = Installation::new().await;
    let (publisher, tenant) = (Publisher::new(&*installation.engine), tenant());
    let id = EventId::new(Ulid::generate());
    let publish = async |drafts| publisher.publish(&tenant, drafts, origin()).await.unwrap();
    let first = publish(vec![draft(Some(&id), "1"), draft(Some(&id), "1")]).await;
    let first: Vec<_> = first.into_iter().map(Result::unwrap).collect();
    assert_eq!(first[0].position, first[1].position);
    let mut again = publish(vec![
        draft(Some(&id), "1"),
        draft(Some(&id), "2"),
        draft(None, "2"),
    ])
    .await;
    assert!(again.pop().unwrap().is_ok(), "a neighbour was refused");
    assert!(matches!(again.pop().unwrap(), Err(PublishError::IdReused(reused)) if reused == id));
    let repeated = again.pop().unwrap().unwrap();
    assert_eq!((repeated.position, repeated.duplicate), (first[0].position, true));
    let state = installation.engine.log(Log::Messages(0)).state().await.unwrap();
    assert_eq!(state.last, 2);
}

#[tokio::test]
async fn an_event_too_large_is_refused_alone() {
    let installation = Installation::new().await;
    let (publisher, tenant) = (Publisher::new(&*installation.engine), tenant());
    let large = "0".repeat(commands::MAX_DATA_BYTES + 1);
    let results = publisher
        .publish(&tenant, vec![draft(None, &large), draft(None, "1")], origin())
        .await
        .unwrap();
    assert!(
        matches!(results[0], Err(PublishError::TooLarge { .. })),
        "{results:?}"
    );
    assert!(results[1].is_ok());
    let many = vec![draft(None, "1"); commands::MAX_BULK + 1];
    let refused = publisher.publish(&tenant, many, origin()).await;
    assert!(matches!(refused, Err(PublishError::TooMany { .. })));
}
