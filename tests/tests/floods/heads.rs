//! Heads of requests that are too long, too many, or none.

use crate::client::{Victim, refused, status};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_headers_is_refused() -> anyhow::Result<()> {
    let victim = Victim::start("500").await?;
    let many = |count: usize| "x-field: y\r\n".repeat(count);
    let head = victim.head("GET /v1/users");
    let long = |length: usize| "y".repeat(length);
    for (name, request) in [
        ("many", format!("{head}{}\r\n", many(101))),
        ("very many", format!("{head}{}\r\n", many(50_000))),
        ("one long", format!("{head}x: {}\r\n\r\n", long(400_000))),
        ("one without an end", format!("{head}x: {}", long(4_000_000))),
        ("a long name", format!("{head}{}: y\r\n\r\n", long(100_000))),
        (
            "a long address",
            format!("GET /v1/users?x={} HTTP/1.1\r\nhost: x\r\n\r\n", long(100_000)),
        ),
        (
            "a long method",
            format!("{} / HTTP/1.1\r\nhost: x\r\n\r\n", long(100_000)),
        ),
    ] {
        for _ in 0..20 {
            let mut client = victim.connect().await?;
            client.write(request.as_bytes()).await;
            let answer = client.closed().await?;
            assert!(refused(&answer), "{name}: {answer}");
        }
    }
    victim.serves_others().await?;
    victim.recovers().await
}

/// What is within the limits is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_head_is_taken() -> anyhow::Result<()> {
    let victim = Victim::start("500").await?;
    let head = victim.head("GET /v1/users");
    let mut client = victim.connect().await?;
    let request = format!("{head}x: {}\r\nconnection: close\r\n\r\n", "y".repeat(30_000));
    client.write(request.as_bytes()).await;
    assert_eq!(status(&client.closed().await?), Some(200));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_of_http_1_is_refused() -> anyhow::Result<()> {
    let victim = Victim::start("500").await?;
    let tail = b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".as_slice();
    for request in [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        vec![0; 4096],
        vec![0xff; 4096],
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        [b"GET /v1/\xff\xfe".as_slice(), tail].concat(),
        [b"GET /v1/users/%ff%fe%00".as_slice(), tail].concat(),
        [b"GET /v1/users/../../etc/passwd".as_slice(), tail].concat(),
        [b"GET //".as_slice(), tail].concat(),
        [b"GET http://elsewhere/v1/users".as_slice(), tail].concat(),
        [b"CONNECT elsewhere:443".as_slice(), tail].concat(),
        [b"TRACE /v1/users".as_slice(), tail].concat(),
        b"GET /v1/users HTTP/1.1\r\nhost: x\r\nauthorization: \xff\xfe\r\nconnection: close\r\n\r\n".to_vec(),
        b"GET /v1/users HTTP/1.1\r\nhost: x\r\nx: a\x00b\r\n\r\n".to_vec(),
        b"GET /v1/users HTTP/1.1\r\nhost : x\r\n\r\n".to_vec(),
        b"GET /v1/users HTTP/1.1\r\n folded: x\r\n\r\n".to_vec(),
    ] {
        let mut client = victim.connect().await?;
        client.write(&request).await;
        let answer = client.closed().await?;
        assert!(
            refused(&answer),
            "{}: {answer}",
            String::from_utf8_lossy(&request)
        );
    }
    victim.serves_others().await?;
    victim.recovers().await
}
