//! The same key: the same answer, or a refusal that says why.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use broker::layout::Log;
use futures::future::try_join_all;
use reqwest::Method;
use serde_json::json;
use tests::for_each_engine;
use tests::service::Tidings;

use crate::world::{keyed, post, same, tenant};

for_each_engine! {
    /// Ids, keys and secrets that are shown once are shown again under the key, also after a restart.
    async fn a_repeated_request_gets_the_same_answer(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let key = tenant(&service, "acme").await?;
        let requests = [
            (true, "/v1/tenants", json!({ "name": "Other", "slug": "other" })),
            (false, "/v1/users", json!({ "email": "ada@example.org", "name": "Ada" })),
            (false, "/v1/endpoints", json!({ "url": "http://127.0.0.1:1/", "event_types": ["*"] })),
            (false, "/v1/events", json!({ "type": "a.b", "data": { "n": 1 } })),
            (false, "/v1/events/bulk", json!({ "events": [
                { "type": "a.b", "data": 1 }, { "type": "a.b", "data": 2 }] })),
            (false, "/v1/users", json!({ "email": "no address", "name": "" })),
        ];
        let mut first = Vec::new();
        for round in 0..3 {
            if round == 2 {
                service.restart().await?;
            }
            for (number, (platform, path, body)) in requests.iter().enumerate() {
                let api = if *platform { service.admin()? } else { service.tenant(&key)? };
                let reply = post(&api, &format!("key-{number}"), path, body).await?;
                let replayed = reply.header("idempotent-replayed").to_owned();
                if round == 0 {
                    ensure!(replayed.is_empty(), "{path} was never asked before");
                    ensure!(reply.status < 300 || number == 5, "{path}: {}", reply.status);
                    first.push(reply);
                } else {
                    ensure!(replayed == "true", "{path} is not marked as replayed");
                    same(&first[number], &reply).context(*path)?;
                }
            }
        }
        let listed = service.tenant(&key)?.get("/v1/users").await?.expect(200)?;
        assert_eq!(listed["data"].as_array().context("users")?.len(), 1);
        Ok(())
    }

    /// A key belongs to its caller, method and address; there, it belongs to one request.
    async fn a_key_is_one_requests_name(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let ours = service.tenant(&tenant(&service, "acme").await?)?;
        let theirs = service.tenant(&tenant(&service, "other").await?)?;
        let ada = json!({ "email": "ada@example.org", "name": "Ada" });
        let user = post(&ours, "k", "/v1/users", &ada).await?.expect(201)?;
        for body in [json!({ "email": "bob@example.org", "name": "Bob" }), json!({})] {
            let refused = post(&ours, "k", "/v1/users", &body).await?;
            assert_eq!(refused.problem(422)?, "idempotency_key_reused");
        }
        let refused = post(&ours, "k", "/v1/users?x=1", &ada).await?;
        assert_eq!(refused.problem(422)?, "idempotency_key_reused");
        // Another tenant's request, another address, another method: other requests.
        let others = post(&theirs, "k", "/v1/users", &ada).await?.expect(201)?;
        ensure!(others["id"] != user["id"]);
        let path = format!("/v1/users/{}", user["id"].as_str().context("id")?);
        let renamed = keyed(&ours, "k", Method::PATCH, &path, Some(&json!({ "name": "Ada L" }))).await?;
        assert_eq!(renamed.status, 204);
        let listed = keyed(&ours, "k", Method::GET, "/v1/users", None).await?;
        assert_eq!((listed.status, listed.header("idempotent-replayed")), (200, ""));
        for bad in ["", "a b", &"k".repeat(256)] {
            let refused = post(&ours, bad, "/v1/users", &ada).await?;
            assert_eq!(refused.problem(400)?, "invalid_header", "{bad:?}");
        }
        Ok(())
    }

    /// What the guard refuses is not kept: the same request may be allowed another time.
    async fn a_refused_caller_leaves_no_answer(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = service.tenant(&tenant(&service, "acme").await?)?;
        let body = json!({ "email": "ada@example.org", "name": "Ada" });
        let wrong = service.tenant("tdk_wrong")?;
        for _ in 0..2 {
            let refused = post(&wrong, "k", "/v1/users", &body).await?;
            assert_eq!(refused.problem(401)?, "unauthenticated");
            assert_eq!(refused.header("idempotent-replayed"), "");
        }
        post(&api, "k", "/v1/users", &body).await?.expect(201)?;
        Ok(())
    }

    /// Fifty at once: one happens; the others hear its answer, or that it is running.
    async fn concurrent_duplicates_happen_once(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let key = tenant(&service, "acme").await?;
        let api = service.tenant(&key)?;
        for (path, body) in [
            ("/v1/users", json!({ "email": "ada@example.org", "name": "Ada" })),
            ("/v1/events", json!({ "type": "a.b", "data": {} })),
        ] {
            let calls = (0..50).map(|_| post(&api, "k", path, &body));
            let replies = try_join_all(calls).await?;
            let mut ids = BTreeSet::new();
            for reply in &replies {
                if reply.status == 409 {
                    assert_eq!(reply.problem(409)?, "request_running");
                    ensure!(!reply.header("retry-after").is_empty(), "no Retry-After");
                } else {
                    ensure!(reply.status < 300, "{path}: {}", reply.status);
                    ids.insert(reply.json()?["id"].to_string());
                }
            }
            assert_eq!(ids.len(), 1, "{path}: {ids:?}");
        }
        service.terminate().await?;
        let registered = service.events().await?;
        let registered = registered.iter().filter(|record| record.subject.as_str().contains(".user."));
        assert_eq!(registered.count(), 1);
        assert_eq!(service.records(Log::Messages(0)).await?.len(), 1);
        Ok(())
    }
}
