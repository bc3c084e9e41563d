//! Delivery as a whole: on the embedded engine, against a real receiver.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod installation;
mod outage;
mod receiver;
mod trouble;

use std::time::{Duration, SystemTime};

use delivery::{EgressPolicy, HEADER_SIGNATURE, Settings};
use domain::endpoint::{EndpointEvent, Selection};
use domain::{DeliveryFact, DeliveryRecord, ErrorClass, EventId, Next, Text, Timestamp};
use ulid::Ulid;

use installation::Installation;
use receiver::Receiver;

fn ended_as(wanted: &Next) -> impl Fn(&DeliveryFact) -> bool {
    move |fact| matches!(fact, DeliveryFact::Attempted { next, .. } if next == wanted)
}

/// The class of each attempt's error, in order.
fn errors(facts: &[DeliveryRecord]) -> Vec<Option<ErrorClass>> {
    let attempts = facts.iter().filter_map(|record| match &record.fact {
        DeliveryFact::Attempted { outcome, .. } => Some(outcome.error),
        _ => None,
    });
    attempts.collect()
}

#[tokio::test]
async fn a_message_arrives_signed_and_verbatim_at_those_who_want_it() {
    let (installation, receiver) = (Installation::new().await, Receiver::start().await);
    let wants = installation
        .create_endpoint(&receiver.url("/wants"), &["invoice.*"])
        .await;
    let other = installation
        .create_endpoint(&receiver.url("/other"), &["user.*"])
        .await;
    let running = installation.start("");
    let message = installation
        .publish("invoice.paid", r#"{ "amount": 12.50 }"#)
        .await;

    let received = receiver.wait("/wants", 1).await;
    received[0].verify(&wants.secret);
    assert_eq!(received[0].id(), message.as_str());
    assert_eq!(received[0].headers["content-type"], "application/json");
    let body = std::str::from_utf8(&received[0].body).unwrap();
    assert!(
        body.starts_with(r#"{"type":"invoice.paid","timestamp":"20"#),
        "{body}"
    );
    assert!(body.ends_with(r#"Z","data":{ "amount": 12.50 }}"#), "{body}");

    let facts = installation
        .wait(
            &installation.delivery_id(&message, &wants),
            ended_as(&Next::Delivered),
        )
        .await;
    assert_eq!(facts[0].fact, DeliveryFact::Created);
    assert_eq!(facts.len(), 2);
    assert!(
        installation
            .facts(&installation.delivery_id(&message, &other))
            .await
            .is_empty()
    );
    assert_eq!(running.delivery().status().endpoints, 2);
    assert!(running.delivery().status().troubles.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_rotated_secret_signs_beside_the_one_before_until_its_time() {
    let (installation, receiver) = (Installation::new().await, Receiver::start().await);
    let first = installation.create_endpoint(&receiver.url("/hook"), &["*"]).await;
    let running = installation.start("");
    let soon = Timestamp::from(SystemTime::now()).saturating_add(Duration::from_mins(1));
    let second = installation.rotate(&first, soon).await;
    installation.publish("invoice.paid", "1").await;
    let received = receiver.wait("/hook", 1).await;
    received[0].verify(&second.secret);
    received[0].verify(&first.secret);
    let third = installation
        .rotate(&second, Timestamp::from(SystemTime::now()))
        .await;
    // It signs no more: nobody misses it.
    installation.erase_first_secret(&first).await;
    installation.publish("invoice.paid", "2").await;
    let received = receiver.wait("/hook", 2).await;
    received[1].verify(&third.secret);
    assert!(
        !received[1].headers[HEADER_SIGNATURE]
            .to_str()
            .unwrap()
            .contains(' ')
    );
    running.stop().await;
}

#[tokio::test]
async fn a_message_for_one_endpoint_reaches_no_other() {
    let (installation, receiver) = (Installation::new().await, Receiver::start().await);
    let tried = installation
        .create_endpoint(&receiver.url("/tried"), &["other.*"])
        .await;
    let all = installation.create_endpoint(&receiver.url("/all"), &["*"]).await;
    let running = installation.start("");
    let test = EventId::new(Ulid(7));
    installation
        .publish_for(Some(&tried), &test, "endpoint.test", "{}")
        .await;
    let next = installation.publish("invoice.paid", "{}").await;
    receiver.wait("/tried", 1).await[0].verify(&tried.secret);
    let received = receiver.wait("/all", 1).await;
    assert_eq!(received[0].id(), next.as_str());
    assert!(
        installation
            .facts(&installation.delivery_id(&test, &all))
            .await
            .is_empty()
    );
    running.stop().await;
}

#[tokio::test]
async fn a_failure_is_tried_again_by_the_schedule_under_the_same_id() {
    let (installation, receiver) = (Installation::new().await, Receiver::start().await);
    receiver.script("/hook", &[500, 302]);
    let endpoint = installation.create_endpoint(&receiver.url("/hook"), &["*"]).await;
    let running = installation.start("20ms,20ms,20ms");
    let message = installation.publish("invoice.paid", "{}").await;

    let delivery = installation.delivery_id(&message, &endpoint);
    let facts = installation.wait(&delivery, ended_as(&Next::Delivered)).await;
    let failed = Some(ErrorClass::Status);
    assert_eq!(errors(&facts), [failed, failed, None]);
    let received = receiver.received("/hook");
    assert_eq!(received.len(), 3);
    for request in received {
        assert_eq!(request.id(), message.as_str());
        request.verify(&endpoint.secret);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_dead_letter_is_redriven_and_arrives() {
    let (installation, receiver) = (Installation::new().await, Receiver::start().await);
    receiver.script("/hook", &[500, 500]);
    let endpoint = installation.create_endpoint(&receiver.url("/hook"), &["*"]).await;
    let running = installation.start("10ms");
    let message = installation.publish("invoice.paid", "{}").await;
    let delivery = installation.delivery_id(&message, &endpoint);
    let facts = installation.wait(&delivery, ended_as(&Next::Dead)).await;
    assert_eq!(errors(&facts).len(), 2);

    let selection = Selection::Deliveries(vec![delivery.clone()]);
    installation
        .say(
            &endpoint.id,
            &EndpointEvent::RedriveRequested {
                selection,
                rate: None,
            },
        )
        .await;
    let facts = installation.wait(&delivery, ended_as(&Next::Delivered)).await;
    let latest = facts.iter().max_by_key(|record| record.order()).unwrap();
    assert!(ended_as(&Next::Delivered)(&latest.fact));
    assert!(latest.run > 1);
    let received = receiver.received("/hook");
    assert_eq!(received.len(), 3);
    assert!(received.iter().all(|request| request.id() == message.as_str()));
    running.stop().await;
}

#[tokio::test]
async fn a_discarded_dead_letter_cannot_be_redriven_and_a_resend_arrives() {
    let (installation, receiver) = (Installation::new().await, Receiver::start().await);
    receiver.script("/hook", &[500]);
    let endpoint = installation.create_endpoint(&receiver.url("/hook"), &["*"]).await;
    let running = installation.start("");
    let message = installation.publish("invoice.paid", "{}").await;
    let delivery = installation.delivery_id(&message, &endpoint);
    let facts = installation.wait(&delivery, ended_as(&Next::Dead)).await;

    let selection = Selection::All;
    installation
        .say(
            &endpoint.id,
            &EndpointEvent::DiscardRequested {
                selection: selection.clone(),
            },
        )
        .await;
    installation
        .wait(&delivery, |fact| *fact == DeliveryFact::Discarded)
        .await;
    installation
        .say(
            &endpoint.id,
            &EndpointEvent::RedriveRequested {
                selection,
                rate: None,
            },
        )
        .await;
    let resend = EndpointEvent::ResendRequested {
        delivery: delivery.clone(),
        message: facts[0].message.clone(),
    };
    installation.say(&endpoint.id, &resend).await;
    let facts = installation.wait(&delivery, ended_as(&Next::Delivered)).await;
    // The redrive came before the resend and found nothing.
    let redriven = facts
        .iter()
        .filter(|record| record.fact == DeliveryFact::Redriven);
    assert_eq!(redriven.count(), 1);

    // A delivery that arrived a moment ago can be asked for again too.
    installation.say(&endpoint.id, &resend).await;
    assert_eq!(receiver.wait("/hook", 3).await.len(), 3);
    running.stop().await;
}

#[tokio::test]
async fn a_restart_in_between_keeps_the_id_and_loses_nothing() {
    let (mut installation, receiver) = (Installation::new().await, Receiver::start().await);
    receiver.script("/hook", &[500]);
    let endpoint = installation.create_endpoint(&receiver.url("/hook"), &["*"]).await;
    let running = installation.start("1s");
    let first = installation.publish("invoice.paid", "1").await;
    receiver.wait("/hook", 1).await;
    running.stop().await;
    installation.reopen().await;
    let second = installation.publish("invoice.paid", "2").await;

    let running = installation.start("1s");
    for message in [&first, &second] {
        let delivery = installation.delivery_id(message, &endpoint);
        installation.wait(&delivery, ended_as(&Next::Delivered)).await;
    }
    let ids: Vec<String> = receiver
        .received("/hook")
        .iter()
        .map(|request| request.id().to_owned())
        .collect();
    assert_eq!(
        ids.iter().filter(|id| *id == first.as_str()).count(),
        2,
        "{ids:?}"
    );
    assert_eq!(
        ids.iter().filter(|id| *id == second.as_str()).count(),
        1,
        "{ids:?}"
    );
    running.stop().await;
}

#[tokio::test]
async fn an_endpoint_created_before_a_publication_is_always_matched() {
    let (installation, receiver) = (Installation::new().await, Receiver::start().await);
    let running = installation.start("");
    for i in 0..30 {
        let path = format!("/hook/{i}");
        installation
            .create_endpoint(&receiver.url(&path), &[&format!("round.r{i}")])
            .await;
        installation.publish(&format!("round.r{i}"), "{}").await;
    }
    for i in 0..30 {
        receiver.wait(&format!("/hook/{i}"), 1).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_forbidden_receiver_is_never_called() {
    let (installation, receiver) = (Installation::new().await, Receiver::start().await);
    let literal = installation.create_endpoint(&receiver.url("/hook"), &["*"]).await;
    let by_name = receiver.url("/hook").replace("127.0.0.1", "localhost");
    let name = installation.create_endpoint(&by_name, &["*"]).await;
    let settings = Settings {
        egress: EgressPolicy::public(),
        ..installation.settings("")
    };
    let running = installation.start_with(&settings);
    let message = installation.publish("invoice.paid", "{}").await;
    for endpoint in [literal, name] {
        let delivery = installation.delivery_id(&message, &endpoint);
        let facts = installation.wait(&delivery, ended_as(&Next::Dead)).await;
        assert_eq!(errors(&facts), [Some(ErrorClass::Forbidden)]);
    }
    assert!(receiver.received("/hook").is_empty());
    running.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_disabled_endpoint_becomes_a_dead_letter_and_can_be_redriven() {
    let (installation, receiver) = (Installation::new().await, Receiver::start().await);
    receiver.script("/hook", &[500]);
    let endpoint = installation.create_endpoint(&receiver.url("/hook"), &["*"]).await;
    let running = installation.start("1s");
    let message = installation.publish("invoice.paid", "{}").await;
    receiver.wait("/hook", 1).await;
    let reason = Text::new("testing").unwrap();
    installation
        .say(
            &endpoint.id,
            &EndpointEvent::Disabled {
                reason,
                automatic: None,
            },
        )
        .await;
    let delivery = installation.delivery_id(&message, &endpoint);
    let facts = installation.wait(&delivery, ended_as(&Next::Dead)).await;
    assert_eq!(errors(&facts), [Some(ErrorClass::Status), Some(ErrorClass::Gone)]);

    installation.say(&endpoint.id, &EndpointEvent::Enabled {}).await;
    let selection = Selection::All;
    installation
        .say(
            &endpoint.id,
            &EndpointEvent::RedriveRequested {
                selection,
                rate: None,
            },
        )
        .await;
    installation.wait(&delivery, ended_as(&Next::Delivered)).await;
    assert_eq!(receiver.received("/hook").len(), 2);
    running.stop().await;
}

#[tokio::test]
async fn a_stop_lets_tries_under_way_end_and_records_them() {
    let (installation, receiver) = (Installation::new().await, Receiver::start().await);
    receiver.script("/hook", &[0]);
    let endpoint = installation.create_endpoint(&receiver.url("/hook"), &["*"]).await;
    let running = installation.start("1h");
    let message = installation.publish("invoice.paid", "{}").await;
    receiver.wait("/hook", 1).await;
    assert_eq!(running.delivery().status().in_flight, 1);
    running.stop().await;
    let facts = installation
        .facts(&installation.delivery_id(&message, &endpoint))
        .await;
    assert_eq!(errors(&facts), [Some(ErrorClass::Timeout)]);
}
