//! What holds delivery up, and what must not: slow receivers, repeated ids, logs that are away or lost their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use delivery::{LaneRules, Settings};
use domain::{DeliveryFact, ErrorClass, Next};

use crate::installation::Installation;
use crate::receiver::Receiver;
use crate::{ended_as, errors};

#[tokio::test]
async fn an_id_used_twice_is_one_delivery_and_holds_up_nothing() {
    let (installation, receiver) = (Installation::new().await, Receiver::start().await);
    installation.create_endpoint(&receiver.url("/hook"), &["*"]).await;
    let twice = installation.publish("invoice.paid", "1").await;
    installation.publish_as(&twice, "invoice.paid", "1").await;
    let other = installation.publish("invoice.paid", "2").await;
    // All three are matched together.
    let running = installation.start("");
    let received = receiver.wait("/hook", 2).await;
    let mut ids: Vec<_> = received.iter().map(|request| request.id().to_owned()).collect();
    ids.sort();
    assert_eq!(ids, [twice.to_string(), other.to_string()]);
    running.stop().await;
}

#[tokio::test]
async fn a_log_that_has_gone_backwards_is_not_followed_in_silence() {
    for (key, part) in [
        ("matcher.MESSAGES-0", "matcher of MESSAGES-0"),
        ("requests.EVENTS-0", "requests in EVENTS-0"),
    ] {
        let installation = Installation::new().await;
        installation.set_cursor(key, 7).await;
        let running = installation.start("");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        let told = |trouble: &String| trouble.starts_with(part) && trouble.contains("gone backwards");
        while !running.delivery().status().troubles.iter().any(told) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{:?}",
                running.delivery().status()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn many_slow_receivers_are_no_trouble_of_ours() {
    const ENDPOINTS: usize = 9;
    let (installation, receiver) = (Installation::new().await, Receiver::start().await);
    receiver.script("/hangs", &[0; ENDPOINTS]);
    let mut endpoints = Vec::new();
    for _ in 0..ENDPOINTS {
        endpoints.push(
            installation
                .create_endpoint(&receiver.url("/hangs"), &["*"])
                .await,
        );
    }
    let message = installation.publish("invoice.paid", "{}").await;
    let settings = Settings {
        concurrency: 1,
        slow_concurrency: 1,
        ..installation.settings("1h")
    };
    // One at a time, each to its deadline, they take longer than a lease.
    let running = installation.start_with(&settings);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while receiver.received("/hangs").len() < ENDPOINTS {
        assert!(tokio::time::Instant::now() < deadline, "some were never tried");
        let troubles = running.delivery().status().troubles;
        assert!(troubles.is_empty(), "{troubles:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for endpoint in &endpoints {
        let delivery = installation.delivery_id(&message, endpoint);
        let tried = |fact: &DeliveryFact| matches!(fact, DeliveryFact::Attempted { .. });
        let facts = installation.wait(&delivery, tried).await;
        assert_eq!(errors(&facts), [Some(ErrorClass::Timeout)]);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_nobody_else() {
    let (installation, receiver) = (Installation::new().await, Receiver::start().await);
    receiver.script("/hangs", &[0; 100]);
    let hangs = installation
        .create_endpoint(&receiver.url("/hangs"), &["*"])
        .await;
    installation
        .create_endpoint(&receiver.url("/healthy"), &["*"])
        .await;
    let settings = Settings {
        concurrency: 8,
        lanes: LaneRules {
            in_flight: 2,
            ..LaneRules::default()
        },
        ..installation.settings("1h")
    };
    let running = installation.start_with(&settings);
    let mut messages = Vec::new();
    for _ in 0..30 {
        messages.push(installation.publish("invoice.paid", "{}").await);
    }
    receiver.wait("/healthy", 30).await;
    // Two at a time, each to its deadline: the hanging receiver can't have had many by then.
    assert!(
        receiver.received("/hangs").len() < 15,
        "{}",
        receiver.received("/hangs").len()
    );
    let first = receiver.received("/hangs")[0].id().to_owned();
    let delivery = installation.delivery_id(&first.parse().unwrap(), &hangs);
    let again = |fact: &DeliveryFact| {
        matches!(
            fact,
            DeliveryFact::Attempted {
                next: Next::Again { .. },
                ..
            }
        )
    };
    assert_eq!(
        errors(&installation.wait(&delivery, again).await),
        [Some(ErrorClass::Timeout)]
    );
    running.stop().await;
}

#[tokio::test]
async fn an_attempt_that_could_not_be_recorded_is_made_again_under_the_same_id() {
    let (installation, receiver) = (Installation::new().await, Receiver::start().await);
    let endpoint = installation.create_endpoint(&receiver.url("/hook"), &["*"]).await;
    let down = Arc::new(AtomicBool::new(true));
    let running = installation.start_with_outage("", down.clone());
    let message = installation.publish("invoice.paid", "{}").await;
    receiver.wait("/hook", 1).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while running.delivery().status().troubles.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "the trouble is not shown");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The lease ends unsettled, and the job comes again.
    let received = receiver.wait("/hook", 2).await;
    assert!(received.iter().all(|request| request.id() == message.as_str()));
    down.store(false, Ordering::Relaxed);
    let delivery = installation.delivery_id(&message, &endpoint);
    installation.wait(&delivery, ended_as(&Next::Delivered)).await;
    assert!(running.delivery().status().troubles.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let installation = Installation::new().await;
    let too_long = Settings {
        timeout: Duration::from_secs(3),
        ..installation.settings("")
    };
    let none = Settings {
        concurrency: 0,
        ..installation.settings("")
    };
    for (settings, text) in [(too_long, "too long"), (none, "at least 1")] {
        let error = installation.try_start(&settings).err().unwrap();
        assert!(error.to_string().contains(text), "{error}");
    }
}
