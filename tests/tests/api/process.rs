//! The process around the API: health, measures, documentation, and the subcommands beside `serve`.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tests::for_each_engine;
use tests::service::Tidings;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::world::{PATIENCE, tenant};

for_each_engine! {
    /// Operators see every part, and the pages for people are there.
    async fn the_operator_addresses_answer(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let anyone = service.anyone()?;
        assert_eq!(anyone.get("/health/live").await?.expect(200)?["status"], "live");
        let ready = anyone.get("/health/ready").await?.expect(200)?;
        for part in ["log", "read_models", "projections", "delivery"] {
            assert_eq!(ready["parts"][part]["ready"], true, "{part}: {ready}");
        }
        anyone.get("/v1/users").await?.problem(401)?;
        let measures = String::from_utf8(anyone.get("/metrics").await?.body.to_vec())?;
        let counted = r#"tidings_http_requests_total{method="GET",route="/v1/users",status="401"} 1"#;
        assert!(measures.contains(counted), "{measures}");
        let page = anyone.get("/docs/").await?;
        assert!(page.status == 200 && page.body.windows(10).any(|part| part == b"swagger-ui"));
        assert_eq!(anyone.get("/docs").await?.status, 303);
        Ok(())
    }

    /// Asked to stop, it ends well; started again, it has everything; the other subcommands run on its data.
    async fn it_stops_in_order_and_comes_back(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let made = service.admin()?.post("/v1/tenants", &json!({ "name": "Acme", "slug": "acme" })).await?;
        let key = made.expect(201)?["api_key"].as_str().unwrap_or_default().to_owned();
        let user = json!({ "email": "ada@example.org", "name": "Ada" });
        let registered = service.tenant(&key)?.post("/v1/users", &user).await?;
        registered.expect(201)?;
        let status = service.terminate().await?;
        assert!(status.success(), "{status}: {}", service.output());

        let (status, output) = service.run(&["doctor"]).await?;
        assert!(status.success() && output.contains("0 failures"), "{output}");
        let (status, output) = service.run(&["migrate"]).await?;
        assert!(status.success(), "{output}");
        let (status, output) = service.run(&["config"]).await?;
        assert!(status.success() && output.contains("admin_key = \"********\"  # environment"), "{output}");

        service.restart().await?;
        let api = service.tenant(&key)?;
        let users = crate::world::get_after(&api, "/v1/users", &registered).await?.expect(200)?;
        assert_eq!(users["data"][0]["email"], "ada@example.org");
        Ok(())
    }
}

/// Wrong settings and missing servers are told in words, with the way out, and an exit code.
#[tokio::test]
async fn what_cannot_start_says_why() -> anyhow::Result<()> {
    let service = Tidings::start(tests::service::Engine::Embedded).await?;
    tenant(&service, "acme").await?;
    let (status, output) = service.run(&["serve"]).await?;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(
        output.contains("error: ") && output.contains("another tidings process is using it"),
        "{output}"
    );

    let (status, output) = service
        .run(&["serve", "--listen", "nowhere", "--roles", "king"])
        .await?;
    assert_eq!(status.code(), Some(2), "{output}");
    assert!(
        output.contains("listen (flag)") && output.contains("roles (flag)"),
        "{output}"
    );

    let mut command = tokio::process::Command::new(tests::service::binary()?);
    command.args(["serve", "--listen", "127.0.0.1:0", "--profile", "development"]);
    command.args([
        "--nats-url",
        "nats://127.0.0.1:9",
        "--database-url",
        "postgres://a@127.0.0.1:9/b",
    ]);
    let ended = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await??;
    let output = String::from_utf8(ended.stderr)?;
    assert_eq!(ended.status.code(), Some(1), "{output}");
    assert!(
        output.contains("127.0.0.1:9") && output.contains("help: "),
        "{output}"
    );
    assert!(
        !output.contains("panicked") && !output.contains("stack backtrace"),
        "{output}"
    );
    Ok(())
}

/// Production allows nothing unsafe: no receiver on the machine itself, no made-up master key on a cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn production_is_strict() -> anyhow::Result<()> {
    let service = Tidings::start_with(
        tests::service::Engine::Embedded,
        &[("TIDINGS_PROFILE", "production")],
    )
    .await?;
    let api = tenant(&service, "acme").await?;
    let local = json!({ "url": "http://127.0.0.1:9/", "event_types": ["*"] });
    assert_eq!(
        api.post("/v1/endpoints", &local).await?.problem(422)?,
        "url_refused"
    );

    let cluster = Tidings::start(tests::service::Engine::Cluster).await?;
    let (status, output) = cluster.run(&["serve", "--profile", "production"]).await?;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("TIDINGS_MASTER_KEY"), "{output}");
    Ok(())
}

/// A request under way when the service is asked to stop is finished, while new ones are no longer taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_is_finished() -> anyhow::Result<()> {
    let mut service = Tidings::start(tests::service::Engine::Embedded).await?;
    let made = service
        .admin()?
        .post("/v1/tenants", &json!({ "name": "Acme", "slug": "acme" }))
        .await?
        .expect(201)?;
    let address = service.url().trim_start_matches("http://").to_owned();
    let body = r#"{"email":"ada@example.org","name":"Ada"}"#;
    let head = format!(
        "POST /v1/users HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        crate::world::text(&made, "api_key")?,
        body.len(),
    );
    let mut connection = TcpStream::connect(&address).await?;
    connection.write_all(head.as_bytes()).await?;
    // The service asks for the body once the handler waits for it.
    let mut begun = [0; 25];
    tokio::time::timeout(PATIENCE, connection.read_exact(&mut begun)).await??;
    assert_eq!(&begun, b"HTTP/1.1 100 Continue\r\n\r\n");

    service.signal("TERM")?;
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(&address).await.is_ok() {
        anyhow::ensure!(Instant::now() < deadline, "it still takes new connections");
    }
    connection.write_all(body.as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, connection.read_to_string(&mut answer)).await??;
    assert!(answer.starts_with("HTTP/1.1 201 Created"), "{answer}");
    while !service.output().contains("serve: stopped") {
        anyhow::ensure!(Instant::now() < deadline, "it did not end: {}", service.output());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Clients in the middle of their requests lose none of them to the stop: each is answered, or its connection refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_clients_lose_no_request_to_the_stop() -> anyhow::Result<()> {
    let mut service = Tidings::start(tests::service::Engine::Embedded).await?;
    let address = service.url().trim_start_matches("http://").to_owned();
    let clients: Vec<_> = (0..8)
        .map(|_| tokio::spawn(ask_until_refused(address.clone())))
        .collect();
    tokio::time::timeout(PATIENCE, answered(&address)).await??;
    let status = service.terminate().await?;
    assert!(status.success(), "{status}: {}", service.output());
    let mut answers = 0;
    for client in clients {
        answers += tokio::time::timeout(PATIENCE, client).await???;
    }
    assert!(answers > 0, "nobody asked anything");
    Ok(())
}

/// Waits until the service answers a connection of its own.
async fn answered(address: &str) -> anyhow::Result<()> {
    let mut connection = BufReader::new(TcpStream::connect(address).await?);
    ask(&mut connection).await.map(drop)
}

/// Asks again and again, on one connection as long as it is kept; the number of answers when it is refused. A connection
/// that ends before its first answer counts as refused: it can cross with the closing of the listener.
async fn ask_until_refused(address: String) -> anyhow::Result<u32> {
    let mut answers = 0;
    loop {
        let Ok(stream) = TcpStream::connect(&address).await else {
            return Ok(answers);
        };
        let mut connection = BufReader::new(stream);
        let Ok(mut kept) = ask(&mut connection).await else {
            return Ok(answers);
        };
        answers += 1;
        while kept {
            kept = ask(&mut connection).await.context("a request was lost")?;
            answers += 1;
        }
    }
}

/// One request and its answer; whether the connection is kept.
async fn ask(connection: &mut BufReader<TcpStream>) -> anyhow::Result<bool> {
    connection
        .write_all(b"GET /docs/problems/not_found HTTP/1.1\r\nHost: x\r\n\r\n")
        .await?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        anyhow::ensure!(
            connection.read_line(&mut head).await? > 0,
            "closed after {head:?}"
        );
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.context("no length")?.parse()?];
    connection.read_exact(&mut body).await?;
    Ok(!head.contains("connection: close"))
}
