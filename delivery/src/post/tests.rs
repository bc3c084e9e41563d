//! Against receivers that are plain sockets, so that they can misbehave in every way.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const TIMEOUT: Duration = Duration::from_millis(500);

fn poster() -> Poster {
    Poster::new(EgressPolicy::public().with_loopback(), TIMEOUT, "Tidings/test").unwrap()
}

async fn post(poster: &Poster, url: &str) -> Tried {
    post_under(poster, url, &domain::endpoint::Policy::default()).await
}

async fn post_under(poster: &Poster, url: &str, policy: &domain::endpoint::Policy) -> Tried {
    let body = crate::body::Body {
        content_type: "application/json",
        attributes: Vec::new(),
        bytes: b"{}".to_vec(),
    };
    let stamp = Stamp {
        id: "evt_1",
        timestamp: 1_700_000_000,
        signature: "v1,abc",
    };
    let request = Request::new(policy, Vec::new(), Proof::None, body, stamp).unwrap();
    poster.post(&url.parse().unwrap(), request).await
}

/// Reads one request and answers what is given, then leaves the connection open for as long as the test runs.
async fn receiver(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open: Vec<TcpStream> = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer).await;
            open.push(stream);
        }
    });
    url
}

#[tokio::test]
async fn only_2xx_is_a_success_and_the_answer_is_kept() {
    let ok = receiver(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()).await;
    let tried = post(&poster(), &ok).await.outcome;
    assert_eq!((tried.status, tried.error), (Some(204), None));

    let busy = b"HTTP/1.1 503 Busy\r\nretry-after: 120\r\ncontent-length: 5\r\n\r\nlater".to_vec();
    let tried = post(&poster(), &receiver(busy).await).await;
    assert_eq!(tried.retry_after, Some(Duration::from_mins(2)));
    let outcome = tried.outcome;
    assert_eq!(
        (outcome.status, outcome.error),
        (Some(503), Some(ErrorClass::Status))
    );
    assert_eq!(outcome.response_body.as_deref(), Some("later"));
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = target.local_addr().unwrap();
    let answer = format!("HTTP/1.1 307 Moved\r\nlocation: http://{location}/\r\ncontent-length: 0\r\n\r\n");
    let outcome = post(&poster(), &receiver(answer.into_bytes()).await)
        .await
        .outcome;
    assert_eq!(
        (outcome.status, outcome.error),
        (Some(307), Some(ErrorClass::Status))
    );
    let visit = tokio::time::timeout(Duration::from_millis(50), target.accept()).await;
    assert!(visit.is_err(), "the redirect was followed");
}

#[tokio::test]
async fn a_huge_answer_is_cut() {
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n".to_vec();
    answer.extend(vec![b'x'; 2 * READ]);
    let outcome = post(&poster(), &receiver(answer).await).await.outcome;
    assert_eq!((outcome.status, outcome.error), (Some(200), None));
    assert_eq!(outcome.response_body.unwrap().len(), KEPT);
}

#[tokio::test]
async fn the_deadline_covers_silence_and_an_answer_that_never_ends() {
    let started = Instant::now();
    let silent = post(&poster(), &receiver(Vec::new()).await).await.outcome;
    assert_eq!((silent.status, silent.error), (None, Some(ErrorClass::Timeout)));

    let endless = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec();
    let endless = post(&poster(), &receiver(endless).await).await.outcome;
    assert_eq!(
        (endless.status, endless.error),
        (Some(200), Some(ErrorClass::Timeout))
    );
    assert_eq!(endless.response_body.as_deref(), Some("abc"));
    assert!(started.elapsed() < 10 * TIMEOUT);
}

#[tokio::test]
async fn an_endpoint_can_have_a_deadline_of_its_own() {
    let policy = serde_json::from_value(serde_json::json!({ "timeout_ms": 100 })).unwrap();
    let patient = Poster::new(
        EgressPolicy::public().with_loopback(),
        Duration::from_mins(1),
        "Tidings/test",
    )
    .unwrap();
    let started = Instant::now();
    let outcome = post_under(&patient, &receiver(Vec::new()).await, &policy)
        .await
        .outcome;
    assert_eq!(outcome.error, Some(ErrorClass::Timeout));
    assert_eq!(outcome.detail.as_deref(), Some("no answer within 0.1 s"));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn failures_are_classified() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let plain = receiver(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()).await;
    for (url, class) in [
        (format!("http://{closed}/"), ErrorClass::Refused),
        ("http://receiver.invalid/".to_owned(), ErrorClass::Dns),
        (plain.replace("http:", "https:"), ErrorClass::Tls),
        ("http://10.0.0.1/".to_owned(), ErrorClass::Forbidden),
        ("http://[::ffff:10.0.0.1]/".to_owned(), ErrorClass::Forbidden),
    ] {
        let outcome = post(&poster(), &url).await.outcome;
        assert_eq!(outcome.error, Some(class), "{url}: {outcome:?}");
        assert_eq!(outcome.status, None);
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 16]).await;
        }
    });
    let outcome = post(&poster(), &url).await.outcome;
    assert_eq!(outcome.error, Some(ErrorClass::Reset), "{outcome:?}");
}

#[tokio::test]
async fn a_name_of_this_machine_is_refused_in_production() {
    let url = receiver(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()).await;
    let production = Poster::new(EgressPolicy::public(), TIMEOUT, "Tidings/test").unwrap();
    let outcome = post(&production, &url.replace("127.0.0.1", "localhost"))
        .await
        .outcome;
    assert_eq!(outcome.error, Some(ErrorClass::Forbidden));
    let outcome = post(&poster(), &url.replace("127.0.0.1", "localhost"))
        .await
        .outcome;
    assert_eq!(outcome.error, None, "{outcome:?}");
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let parse = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, text.parse().unwrap());
        retry_after(&headers, now)
    };
    assert_eq!(parse("120"), Some(Duration::from_mins(2)));
    assert_eq!(
        parse("Sun, 06 Nov 1994 08:50:37 GMT"),
        Some(Duration::from_mins(1))
    );
    assert_eq!(parse("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
    assert_eq!(parse("soon"), None);
    assert_eq!(parse("-1"), None);
}
