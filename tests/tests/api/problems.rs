//! Each problem that a client can bring about, and what must not crash.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;
use tests::for_each_engine;
use tests::service::Tidings;

use crate::world::tenant;

for_each_engine! {
    /// Bad input is answered with its problem, whose page is served, and leaves the service well.
    async fn bad_input_is_told_apart_and_harmless(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let mut seen = BTreeSet::new();
        let mut note = |code: String, expected: &str| {
            assert_eq!(code, expected);
            seen.insert(code);
        };
        for body in ["", "{", "nul", "{\"email\":\"a@example.org\",\"name\":\"A\"} x"] {
            note(api.post_bytes("/v1/users", body.to_owned()).await?.problem(400)?, "malformed_json");
        }
        for body in ["[]", "null", "7", "{}", "{\"email\":1,\"name\":\"A\"}", "[\"a@example.org\",\"A\"]"] {
            note(api.post_bytes("/v1/users", body.to_owned()).await?.problem(422)?, "invalid_body");
        }
        let wrong = api.post("/v1/users", &json!({ "email": "ada", "name": "Ada" })).await?;
        assert_eq!(wrong.json()?["errors"][0]["path"], "email");

        let bomb = "[".repeat(200_000);
        note(api.post_bytes("/v1/users", bomb.clone()).await?.problem(422)?, "invalid_body");
        let deep = format!(r#"{{"type":"a.b","data":{bomb}{}}}"#, "]".repeat(200_000));
        note(api.post_bytes("/v1/events", deep).await?.problem(422)?, "invalid_body");
        let huge = format!(r#"{{"type":"a.b","data":"{}"}}"#, "x".repeat(2 << 20));
        note(api.post_bytes("/v1/events", huge).await?.problem(413)?, "too_large");
        let large = format!(r#"{{"type":"a.b","data":"{}"}}"#, "x".repeat(600 << 10));
        note(api.post_bytes("/v1/events", large).await?.problem(413)?, "too_large");
        let event = json!({ "type": "a.b", "data": 1 });
        let many = json!({ "events": vec![event; 1_001] });
        note(api.post("/v1/events/bulk", &many).await?.problem(422)?, "invalid_body");
        let private = json!({ "url": "http://10.0.0.1/", "event_types": ["*"] });
        note(api.post("/v1/endpoints", &private).await?.problem(422)?, "url_refused");

        for query in ["limit=0", "limit=201", "limit=x", "cursor=x", "color=red", "limit=1&limit=2"] {
            note(api.get(&format!("/v1/users?{query}")).await?.problem(400)?, "invalid_query");
        }
        for query in ["status=king", "event=usr_01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
            note(api.get(&format!("/v1/deliveries?{query}")).await?.problem(400)?, "invalid_query");
        }
        let ahead = [("tidings-at-least", "e0-999999999")];
        let stale = api.call(Method::GET, "/v1/users", None, &ahead).await?;
        assert!(stale.header("tidings-position").starts_with("e0-"));
        note(stale.problem(412)?, "stale");
        let garbled = [("tidings-at-least", "yesterday")];
        note(api.call(Method::GET, "/v1/users", None, &garbled).await?.problem(400)?, "invalid_header");

        note(api.get("/v1/nothing").await?.problem(404)?, "not_found");
        note(api.call(Method::PUT, "/v1/users", None, &[]).await?.problem(405)?, "method_not_allowed");
        assert_eq!(api.call(Method::HEAD, "/v1/users", None, &[]).await?.status, 200);
        for key in ["", "x", "tdk_x", &format!("tdk_{}", "0".repeat(95))] {
            note(service.tenant(key)?.get("/v1/users").await?.problem(401)?, "unauthenticated");
        }

        for code in seen {
            let page = service.anyone()?.get(&format!("/docs/problems/{code}")).await?;
            assert_eq!(page.status, 200, "{code}");
        }
        let users = api.get("/v1/users").await?.expect(200)?;
        assert_eq!(users["data"], json!([]), "a refused body changed something");
        Ok(())
    }
}
