//! Bodies that cost more to read than to send.

use anyhow::ensure;
use reqwest::Method;
use tests::http::Reply;

use crate::client::{Victim, refused, status};

/// As long as bodies may be, and longer than any single thing in them may.
const LONG: usize = 1_000_000;

/// Bodies by what is wrong with them; `$` stands where a bomb goes off.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let around = |inner: &[u8]| [br#"{"type":"a.b","data":"#, inner, b"}"].concat();
    let keys: Vec<_> = (0..60_000).map(|number| format!("\"k{number}\":0")).collect();
    let same: Vec<_> = (0..100_000).map(|_| "\"k\":0").collect();
    let mut bombs = vec![
        ("lists in lists", around(&b"[".repeat(LONG))),
        (
            "closed lists in lists",
            around(&[b"[".repeat(LONG / 2), b"]".repeat(LONG / 2)].concat()),
        ),
        ("objects in objects", around(&br#"{"a":"#.repeat(LONG / 5))),
        ("a long number", around(&b"9".repeat(LONG))),
        (
            "a long fraction",
            around(&[b"0.".as_slice(), &b"1".repeat(LONG)].concat()),
        ),
        ("a large exponent", around(b"1e999999999")),
        ("a large negative exponent", around(b"1e-999999999")),
        ("many keys", around(format!("{{{}}}", keys.join(",")).as_bytes())),
        (
            "one key many times",
            around(format!("{{{}}}", same.join(",")).as_bytes()),
        ),
        (
            "many small things",
            around(format!("[{}0]", "0,".repeat(400_000)).as_bytes()),
        ),
        (
            "a long text",
            around(format!("\"{}\"", "x".repeat(LONG)).as_bytes()),
        ),
        (
            "many escapes",
            around(format!("\"{}\"", "\\u0000".repeat(150_000)).as_bytes()),
        ),
        ("half a surrogate", around(br#""\ud800""#)),
        ("bytes that are no text", around(b"\"\xff\xfe\xf8\"")),
        ("a text over its end", around(b"\"\xf0\x9f\"")),
        ("white space", [b" ".repeat(LONG).as_slice(), b"{}"].concat()),
        ("nothing but nulls", vec![0; LONG]),
        ("a byte order mark", [b"\xef\xbb\xbf".as_slice(), b"{}"].concat()),
    ];
    // A thousand zeros for each byte sent, if anybody unpacked it.
    bombs.push(("something packed", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]));
    bombs
}

async fn send(victim: &Victim, path: &str, body: Vec<u8>, coding: Option<&str>) -> anyhow::Result<Reply> {
    let request = victim.api.request(Method::POST, path).body(body);
    let request = request.header("content-type", "application/json");
    let request = match coding {
        Some(coding) => request.header("content-encoding", coding),
        None => request,
    };
    Reply::of(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_blows_up_is_refused_and_costs_nothing() -> anyhow::Result<()> {
    let victim = Victim::start("500").await?;
    let paths = [
        "/v1/events",
        "/v1/events/bulk",
        "/v1/commands",
        "/v1/users",
        "/v1/event-types",
        "/v1/endpoints",
    ];
    for (name, bomb) in bombs() {
        for path in paths {
            let reply = send(&victim, path, bomb.clone(), None).await?;
            ensure!(reply.status < 500, "{name} to {path}: {}", reply.status);
            if reply.status >= 400 {
                reply.problem(reply.status)?;
            }
        }
        victim.serves_others().await?;
    }
    victim.recovers().await
}

/// No coding is unpacked: what is packed is refused by its name, whatever is in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_packed_is_refused_unopened() -> anyhow::Result<()> {
    let victim = Victim::start("500").await?;
    for coding in ["gzip", "deflate", "br", "zstd", "gzip, gzip"] {
        let reply = send(&victim, "/v1/users", b"{}".to_vec(), Some(coding)).await?;
        assert_eq!(reply.problem(415)?, "unsupported_media_type", "{coding}");
    }
    let plain = send(&victim, "/v1/users", b"{}".to_vec(), Some("identity")).await?;
    assert_eq!(plain.problem(422)?, "invalid_body");
    Ok(())
}

/// What is said of a body's length, and is not so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_length_is_refused_and_smuggles_nothing() -> anyhow::Result<()> {
    let victim = Victim::start("500").await?;
    let head = victim.head("POST /v1/users");
    for (lengths, body) in [
        ("content-length: 5\r\ncontent-length: 6\r\n", "hello!"),
        ("content-length: -1\r\n", ""),
        ("content-length: 99999999999999999999999\r\n", ""),
        ("content-length: 1e3\r\n", ""),
        ("content-length: 99999999999\r\n", "{"),
        ("content-length: 100\r\n", "{}"),
        ("transfer-encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"),
        ("transfer-encoding: chunked\r\n", "ffffffffffffffffff\r\n{}"),
        ("transfer-encoding: chunked\r\n", "2\r\n{}"),
        ("transfer-encoding: gzip\r\n", "{}"),
    ] {
        let mut client = victim.connect().await?;
        client
            .write(format!("{head}{lengths}\r\n{body}").as_bytes())
            .await;
        let answer = client.closed().await?;
        assert!(refused(&answer), "{lengths:?}: {answer}");
    }
    // Both are given: the length counts for nothing.
    let mut client = victim.connect().await?;
    let both = "transfer-encoding: chunked\r\ncontent-length: 40\r\n\r\n0\r\n\r\nGET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    client.write(format!("{head}{both}").as_bytes()).await;
    let answer = client.closed().await?;
    assert!(status(&answer).is_none_or(|status| status >= 400), "{answer}");
    victim.serves_others().await?;
    victim.recovers().await
}
