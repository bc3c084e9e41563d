//! Each problem that a client can bring about, and what must not crash.

use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde_json::json;
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::service::Tidings;

use tokio::time::Instant;

use crate::world::{PATIENCE, get_after, tenant, text};

/// Bodies that are no JSON, not what is asked for, too deep, too large, or not allowed: each with its problem.
async fn bad_bodies(api: &Api) -> anyhow::Result<Vec<(Reply, u16, &'static str)>> {
    let mut replies = Vec::new();
    for body in ["", "{", "nul", "{\"email\":\"a@example.org\",\"name\":\"A\"} x"] {
        replies.push((
            api.post_bytes("/v1/users", body.to_owned()).await?,
            400,
            "malformed_json",
        ));
    }
    for body in [
        "[]",
        "null",
        "7",
        "{}",
        "{\"email\":1,\"name\":\"A\"}",
        "[\"a@example.org\",\"A\"]",
    ] {
        replies.push((
            api.post_bytes("/v1/users", body.to_owned()).await?,
            422,
            "invalid_body",
        ));
    }
    let bomb = "[".repeat(200_000);
    let deep = format!(r#"{{"type":"a.b","data":{bomb}{}}}"#, "]".repeat(200_000));
    replies.push((api.post_bytes("/v1/users", bomb).await?, 422, "invalid_body"));
    replies.push((api.post_bytes("/v1/events", deep).await?, 422, "invalid_body"));
    for size in [600 << 10, 2 << 20] {
        let large = format!(r#"{{"type":"a.b","data":"{}"}}"#, "x".repeat(size));
        replies.push((api.post_bytes("/v1/events", large).await?, 413, "too_large"));
    }
    let many = json!({ "events": vec![json!({ "type": "a.b", "data": 1 }); 1_001] });
    replies.push((api.post("/v1/events/bulk", &many).await?, 422, "invalid_body"));
    let private = json!({ "url": "http://10.0.0.1/", "event_types": ["*"] });
    replies.push((api.post("/v1/endpoints", &private).await?, 422, "url_refused"));
    Ok(replies)
}

/// Addresses, methods, parameters and headers that are wrong.
async fn bad_questions(api: &Api) -> anyhow::Result<Vec<(Reply, u16, &'static str)>> {
    let mut replies = Vec::new();
    for query in [
        "limit=0",
        "limit=201",
        "limit=x",
        "cursor=x",
        "color=red",
        "limit=1&limit=2",
    ] {
        replies.push((
            api.get(&format!("/v1/users?{query}")).await?,
            400,
            "invalid_query",
        ));
    }
    for query in ["status=king", "event=usr_01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
        replies.push((
            api.get(&format!("/v1/deliveries?{query}")).await?,
            400,
            "invalid_query",
        ));
    }
    let garbled = [("tidings-at-least", "yesterday")];
    replies.push((
        api.call(Method::GET, "/v1/users", None, &garbled).await?,
        400,
        "invalid_header",
    ));
    replies.push((api.get("/v1/nothing").await?, 404, "not_found"));
    replies.push((
        api.call(Method::PUT, "/v1/users", None, &[]).await?,
        405,
        "method_not_allowed",
    ));
    for key in ["", "x", "tdk_x", &format!("tdk_{}", "0".repeat(95))] {
        replies.push((api.with_key(key).get("/v1/users").await?, 401, "unauthenticated"));
    }
    Ok(replies)
}

for_each_engine! {
    /// Bad input is answered with its problem, whose page is served, and leaves the service well.
    async fn bad_input_is_told_apart_and_harmless(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let mut replies = bad_bodies(&api).await?;
        replies.extend(bad_questions(&api).await?);
        for (reply, status, code) in replies {
            assert_eq!(reply.problem(status)?, code);
            assert_eq!(service.anyone()?.get(&format!("/docs/problems/{code}")).await?.status, 200, "{code}");
        }
        let wrong = api.post("/v1/users", &json!({ "email": "ada", "name": "Ada" })).await?;
        assert_eq!(wrong.json()?["errors"][0]["path"], "email");
        let ahead = [("tidings-at-least", "e0-999999999")];
        let stale = api.call(Method::GET, "/v1/users", None, &ahead).await?;
        assert_eq!(stale.problem(412)?, "stale");
        assert!(stale.header("tidings-position").starts_with("e0-"));
        assert_eq!(api.call(Method::HEAD, "/v1/users", None, &[]).await?.status, 200);
        let users = api.get("/v1/users").await?.expect(200)?;
        assert_eq!(users["data"], json!([]), "a refused body changed something");
        Ok(())
    }
}

/// A request that takes too long is answered all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_over_its_time_is_told_so() -> anyhow::Result<()> {
    let settings = [("TIDINGS_REQUEST_TIMEOUT", "1s")];
    let service = Tidings::start_with(tests::service::Engine::Embedded, &settings).await?;
    let api = tenant(&service, "acme").await?;
    let ahead = [("tidings-at-least", "e0-999999999")];
    let late = api.call(Method::GET, "/v1/users", None, &ahead).await?;
    assert_eq!(
        (late.problem(503)?.as_str(), late.header("retry-after")),
        ("timeout", "1")
    );
    Ok(())
}

/// While the log is away, writes are refused with a promise kept: what was not acknowledged can be sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_away_is_told_and_comes_back() -> anyhow::Result<()> {
    let mut service = Tidings::start(tests::service::Engine::Cluster).await?;
    let api = tenant(&service, "acme").await?;
    let user = json!({ "email": "ada@example.org", "name": "Ada" });
    service
        .nats()
        .context("a cluster has a NATS server")?
        .kill()
        .await?;
    let refused = api.post("/v1/users", &user).await?;
    let code = refused.problem(503)?;
    assert!(
        ["unavailable", "outcome_unknown"].contains(&code.as_str()),
        "{code}"
    );
    assert!(!refused.header("retry-after").is_empty());
    assert!(
        !String::from_utf8_lossy(&refused.body).contains("nats"),
        "a problem tells nothing internal"
    );
    assert_eq!(service.anyone()?.get("/health/ready").await?.status, 503);
    assert_eq!(service.anyone()?.get("/health/live").await?.status, 200);

    service
        .nats()
        .context("a cluster has a NATS server")?
        .restart()
        .await?;
    let deadline = Instant::now() + PATIENCE;
    let mut may_be_stored = code == "outcome_unknown";
    loop {
        let reply = api.post("/v1/users", &user).await?;
        match reply.status {
            201 => return Ok(()),
            409 => {
                assert!(
                    may_be_stored,
                    "a change that was refused for certain has happened"
                );
                return Ok(());
            }
            _ => may_be_stored |= reply.problem(503)? == "outcome_unknown",
        }
        anyhow::ensure!(Instant::now() < deadline, "it never came back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Data that retention has removed is told apart from an event that never was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_data_is_gone_says_so() -> anyhow::Result<()> {
    let mut service = Tidings::start(tests::service::Engine::Cluster).await?;
    let api = tenant(&service, "acme").await?;
    let published = api
        .post("/v1/events", &json!({ "type": "a.b", "data": 1 }))
        .await?;
    let path = format!("/v1/events/{}", text(&published.expect(202)?, "id")?);
    get_after(&api, &path, &published).await?.expect(200)?;
    // Retention counts in days; the server is asked to forget at once.
    let nats = async_nats::connect(service.nats().context("a cluster has a NATS server")?.url()).await?;
    let messages = async_nats::jetstream::new(nats)
        .get_stream("TIDINGS_MESSAGES-0")
        .await?;
    messages.purge().await?;
    assert_eq!(api.get(&path).await?.problem(410)?, "event_expired");
    assert_eq!(
        api.get("/v1/events").await?.expect(200)?["data"][0]["type"],
        "a.b"
    );
    Ok(())
}
