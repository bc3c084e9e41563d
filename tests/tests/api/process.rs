//! The process around the API: health, measures, documentation, and the subcommands beside `serve`.

use serde_json::json;
use tests::for_each_engine;
use tests::service::Tidings;

use crate::world::tenant;

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
    let ended = tokio::time::timeout(crate::world::PATIENCE, command.kill_on_drop(true).output()).await??;
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
