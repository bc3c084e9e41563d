//! Opening the JetStream engine, and what `doctor` is told: no server, no rights, drift, lax syncing.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::time::{Duration, Instant};

use broker::jetstream::{JetStream, Settings};
use broker::layout::{Layout, Log};
use broker::{Engine, NewRecord, OpenError, Severity, Subject, Token};
use tests::nats::{NatsServer, Options, Sync};

const EVENTS: Log = Log::Events(0);

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

fn settings(server: &NatsServer) -> Settings {
    Settings::new(server.url(), token("test"), Layout::default())
}

fn record(subject: &str, id: &str, expect: Option<u64>) -> NewRecord {
    NewRecord {
        subject: Subject::new(subject).unwrap(),
        message_id: format!("t:{id}"),
        expect,
        payload: bytes::Bytes::from(id.to_owned()),
    }
}

#[tokio::test]
async fn nothing_listening_is_told_at_once_with_the_address_and_without_the_password() {
    let port = tests::tools::free_port().unwrap();
    let url = format!("nats://tidings:secret@127.0.0.1:{port}");
    let started = Instant::now();
    let error = JetStream::connect(Settings::new(url, token("test"), Layout::default()))
        .await
        .unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains(&format!("127.0.0.1:{port}")) && !text.contains("secret"),
        "{text}"
    );
}

#[tokio::test]
async fn an_account_that_may_not_create_streams_needs_them_to_be_there() {
    let server = NatsServer::start().await.unwrap();
    let mut unmanaged = settings(&server);
    unmanaged.manage = false;
    let error = JetStream::connect(unmanaged.clone()).await.unwrap_err();
    assert!(matches!(error, OpenError::Unfit { .. }), "{error:?}");
    JetStream::connect(settings(&server)).await.unwrap();
    let engine = JetStream::connect(unmanaged).await.unwrap();
    engine
        .log(EVENTS)
        .append(vec![record("ev.t.user.u", "c", Some(0))])
        .await
        .unwrap();
}

#[tokio::test]
async fn examination_finds_a_good_server_fine_and_names_drift_and_lax_syncing() {
    let server = NatsServer::start().await.unwrap();
    let mut good = settings(&server);
    good.monitors = vec![server.monitor_url()];
    let engine = JetStream::connect(good.clone()).await.unwrap();
    let findings = engine.examine().await;
    assert!(
        findings.iter().all(|finding| finding.severity == Severity::Fine),
        "{findings:#?}"
    );

    let client = async_nats::connect(server.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let mut stream = context.get_stream("TEST_EVENTS-0").await.unwrap();
    let mut config = stream.info().await.unwrap().config.clone();
    config.max_messages = 3;
    context.update_stream(config).await.unwrap();
    let findings = engine.examine().await;
    let drifted = findings
        .iter()
        .find(|finding| finding.subject == "TEST_EVENTS-0")
        .unwrap();
    assert_eq!(drifted.severity, Severity::Failure);
    assert!(
        drifted.message.contains("max_msgs should be -1 and is 3"),
        "{}",
        drifted.message
    );
    let refused = JetStream::connect(good).await.unwrap_err();
    assert!(matches!(refused, OpenError::Unfit { .. }), "{refused:?}");

    let lax = Options::default().sync(Sync::Default).start().await.unwrap();
    let mut lax_settings = settings(&lax);
    lax_settings.monitors = vec![lax.monitor_url()];
    let findings = JetStream::connect(lax_settings).await.unwrap().examine().await;
    let sync = findings
        .iter()
        .find(|finding| finding.subject == "sync_interval")
        .unwrap();
    assert_eq!(sync.severity, Severity::Failure);
}
