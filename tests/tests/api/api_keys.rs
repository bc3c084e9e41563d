//! `/v1/api-keys`: issuing, showing, changing, rotating, revoking; limits; nobody gives more than they have.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::service::Tidings;
use tokio::time::Instant;

use crate::world::{PATIENCE, get_after, tenant, text, until};

/// Issues a key and answers calls with it.
async fn issue(service: &Tidings, owner: &Api, new: Value) -> anyhow::Result<(String, Api)> {
    let issued = owner.post("/v1/api-keys", &new).await?.expect(201)?;
    let api = service.tenant(text(&issued, "api_key")?)?;
    Ok((text(&issued, "id")?.to_owned(), api))
}

/// The answer of the first call that no longer gets this status; none but `/v1/users` is called.
async fn until_not(api: &Api, status: u16) -> anyhow::Result<Reply> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = api.get("/v1/users").await?;
        if reply.status != status {
            return Ok(reply);
        }
        anyhow::ensure!(Instant::now() < deadline, "still {status}: {:?}", reply.json());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// RFC 3339, this many milliseconds from now.
fn in_millis(millis: u64) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let at = i64::try_from(now.as_millis())?.saturating_add(i64::try_from(millis)?);
    Ok(domain::Timestamp::from_millis(at).to_string())
}

async fn patch(api: &Api, path: &str, change: Value) -> anyhow::Result<Reply> {
    api.call(Method::PATCH, path, Some(&change), &[]).await
}

for_each_engine! {
    /// A key is shown once, described for ever, and worth nothing once revoked.
    async fn a_key_is_issued_shown_changed_and_revoked(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let owner = tenant(&service, "acme").await?;
        let new = json!({
            "name": "reports", "scopes": ["users.read.tenant", "stats.*.*"],
            "rate_limit": { "requests": 1000, "per_seconds": 60 }, "expires_at": "2999-01-01T00:00:00Z",
        });
        let issued = owner.post("/v1/api-keys", &new).await?;
        let body = issued.expect(201)?;
        let key = service.tenant(text(&body, "api_key")?)?;
        assert_eq!(key.get("/v1/users").await?.status, 200, "it works with the 201");
        assert_eq!(key.get("/v1/audit").await?.problem(403)?, "forbidden");

        let path = format!("/v1/api-keys/{}", text(&body, "id")?);
        let shown = get_after(&owner, &path, &issued).await?.expect(200)?;
        assert_eq!((text(&shown, "name")?, text(&shown, "status")?), ("reports", "active"));
        assert_eq!(shown["scopes"], json!(["stats.*.tenant", "users.read.tenant"]), "{shown}");
        assert_eq!(shown["rate_limit"], json!({ "requests": 1000, "per_seconds": 60 }));
        assert_eq!(text(&shown, "expires_at")?, "2999-01-01T00:00:00.000Z");
        let secret = &text(&body, "api_key")?[56..];
        let list = owner.get("/v1/api-keys").await?.expect(200)?;
        assert_eq!(list["data"][0]["id"], body["id"], "newest first");
        assert_eq!(list["data"][1]["name"], "owner");
        assert!(!list.to_string().contains(secret) && !shown.to_string().contains(secret));

        let change = json!({ "name": "figures", "scopes": ["audit.read.tenant"], "expires_at": null, "rate_limit": null });
        let changed = patch(&owner, &path, change).await?;
        assert_eq!(changed.status, 204);
        let shown = get_after(&owner, &path, &changed).await?.expect(200)?;
        assert_eq!((text(&shown, "name")?, &shown["scopes"]), ("figures", &json!(["audit.read.tenant"])));
        assert!(shown["expires_at"].is_null() && shown["rate_limit"].is_null());
        assert_eq!(key.get("/v1/audit").await?.status, 200);
        assert_eq!(key.get("/v1/users").await?.problem(403)?, "forbidden");

        let revoked = owner.call(Method::POST, &format!("{path}/revoke"), None, &[]).await?;
        assert_eq!(revoked.status, 204);
        assert_eq!(key.get("/v1/audit").await?.problem(401)?, "unauthenticated");
        let shown = get_after(&owner, &path, &revoked).await?.expect(200)?;
        assert_eq!(text(&shown, "status")?, "revoked");
        assert_eq!(patch(&owner, &path, json!({ "name": "x" })).await?.problem(409)?, "not_possible");
        let rotated = owner.call(Method::POST, &format!("{path}/rotate"), None, &[]).await?;
        assert_eq!(rotated.problem(409)?, "not_possible");
        Ok(())
    }

    /// What is wrong with a key to issue is told with its place.
    async fn wrong_settings_of_a_key_are_refused(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let owner = tenant(&service, "acme").await?;
        let many: Vec<_> = (0..65).map(|number| format!("r{number}.read.own")).collect();
        let past = "2001-01-01T00:00:00Z";
        for (wrong, at) in [
            (json!({ "name": "x", "scopes": ["users.read.tenant", "users"] }), "scopes[1]"),
            (json!({ "name": "x", "scopes": many }), "scopes"),
            (json!({ "name": "x", "scopes": ["user.read.tenant"] }), "scopes"),
            (json!({ "name": "x", "expires_at": past }), "expires_at"),
            (json!({ "name": "x", "expires_at": "tomorrow" }), "expires_at"),
            (json!({ "name": "x", "rate_limit": { "requests": 0, "per_seconds": 1 } }), "rate_limit.requests"),
            (json!({ "name": "x", "rate_limit": { "requests": 1, "per_seconds": 86_401 } }), "rate_limit.per_seconds"),
            (json!({ "name": "x", "rate_limit": [1, 1] }), "rate_limit"),
            (json!({ "name": "" }), "name"),
        ] {
            let reply = owner.post("/v1/api-keys", &wrong).await?;
            assert_eq!(reply.problem(422)?, "invalid_body", "{wrong}");
            assert_eq!(reply.json()?["errors"][0]["path"], at, "{wrong}: {}", reply.json()?);
        }
        let issued = owner.post("/v1/api-keys", &json!({ "name": "x" })).await?.expect(201)?;
        let path = format!("/v1/api-keys/{}", text(&issued, "id")?);
        assert_eq!(patch(&owner, &path, json!({})).await?.problem(422)?, "invalid_body");
        assert_eq!(patch(&owner, &path, json!({ "expires_at": past })).await?.problem(422)?, "invalid_body");
        let long = owner.post(&format!("{path}/rotate"), &json!({ "overlap_seconds": 604_801 })).await?;
        assert_eq!(long.json()?["errors"][0]["path"], "overlap_seconds");
        Ok(())
    }

    /// Neither by issuing, nor by changing, nor by rotating comes anybody to more than they have.
    async fn nobody_gives_more_than_they_have(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let owner = tenant(&service, "acme").await?;
        let scopes = json!(["api_keys.*.tenant", "users.*.tenant"]);
        let (_, clerk) = issue(&service, &owner, json!({ "name": "clerk", "scopes": scopes })).await?;
        let refused = clerk.post("/v1/api-keys", &json!({ "name": "all", "scopes": ["*"] })).await?;
        assert_eq!(refused.problem(403)?, "forbidden");
        assert!(refused.json()?["detail"].to_string().contains("The scope * goes beyond"), "{}", refused.json()?);
        let beyond = json!({ "name": "x", "scopes": ["users.read.tenant", "*.read.tenant"] });
        let refused = clerk.post("/v1/api-keys", &beyond).await?;
        assert!(refused.json()?["detail"].to_string().contains("*.read.tenant"), "{}", refused.json()?);

        let new = json!({ "name": "reader", "scopes": ["users.read.tenant"] });
        let (reader_id, reader) = issue(&service, &clerk, new).await?;
        assert_eq!(reader.get("/v1/users").await?.status, 200);
        let path = format!("/v1/api-keys/{reader_id}");
        assert_eq!(patch(&clerk, &path, json!({ "scopes": ["audit.read.tenant"] })).await?.problem(403)?, "forbidden");
        assert_eq!(patch(&clerk, &path, json!({ "scopes": ["users.write.tenant"] })).await?.status, 204);

        let (boss_id, _) = issue(&service, &owner, json!({ "name": "boss", "scopes": ["*"] })).await?;
        let path = format!("/v1/api-keys/{boss_id}");
        let rotated = clerk.call(Method::POST, &format!("{path}/rotate"), None, &[]).await?;
        assert_eq!(rotated.problem(403)?, "forbidden", "its new text would be the clerk's");
        assert_eq!(patch(&clerk, &path, json!({ "scopes": [] })).await?.problem(403)?, "forbidden");
        let unknown = clerk.call(Method::POST, "/v1/api-keys/key_01ARZ3NDEKTSV4RRFFQ69G5FAV/rotate", None, &[]).await?;
        assert_eq!(unknown.problem(404)?, "not_found");
        Ok(())
    }

    /// The text before a rotation is good for the overlap, the one before that for nothing.
    async fn a_rotated_key_has_two_texts_for_a_while(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let owner = tenant(&service, "acme").await?;
        let (id, first) = issue(&service, &owner, json!({ "name": "x", "scopes": ["users.*.tenant"] })).await?;
        let path = format!("/v1/api-keys/{id}");
        let rotate = async |overlap: Value| -> anyhow::Result<(Value, Api, Reply)> {
            let reply = owner.post(&format!("{path}/rotate"), &overlap).await?;
            let body = reply.expect(200)?;
            let api = service.tenant(text(&body, "api_key")?)?;
            Ok((body, api, reply))
        };
        assert_eq!(first.get("/v1/users").await?.status, 200, "its hash is in memory now");
        let (body, second, reply) = rotate(json!({ "overlap_seconds": 600 })).await?;
        assert_eq!(text(&body, "id")?, id);
        assert_eq!((first.get("/v1/users").await?.status, second.get("/v1/users").await?.status), (200, 200));
        let shown = get_after(&owner, &path, &reply).await?.expect(200)?;
        assert_eq!(shown["previous_valid_until"], body["previous_valid_until"], "{shown}");
        assert!(shown["rotated_at"].is_string());

        let (_, third, _) = rotate(json!({ "overlap_seconds": 1 })).await?;
        assert_eq!(first.get("/v1/users").await?.problem(401)?, "unauthenticated", "two texts, not three");
        assert_eq!(third.get("/v1/users").await?.status, 200);
        assert_eq!(until_not(&second, 200).await?.problem(401)?, "unauthenticated");
        assert_eq!(third.get("/v1/users").await?.status, 200);

        let (_, fourth, _) = rotate(json!({ "overlap_seconds": 0 })).await?;
        assert_eq!(third.get("/v1/users").await?.problem(401)?, "unauthenticated");
        assert_eq!(fourth.get("/v1/users").await?.status, 200);
        let (body, ..) = rotate(json!({})).await?;
        let day = in_millis(23 * 60 * 60 * 1_000)?;
        assert!(text(&body, "previous_valid_until")? > day.as_str(), "a day unless the settings say otherwise: {body}");
        Ok(())
    }

    /// An expired key is refused in the words for an unknown one.
    async fn an_expired_key_is_worth_nothing(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let owner = tenant(&service, "acme").await?;
        let new = json!({ "name": "x", "scopes": ["users.*.tenant"], "expires_at": in_millis(1_500)? });
        let (id, key) = issue(&service, &owner, new).await?;
        assert_eq!(key.get("/v1/users").await?.status, 200);
        let refused = until_not(&key, 200).await?;
        assert_eq!(refused.problem(401)?, "unauthenticated");
        let unknown = service.tenant("tdk_no-such-key")?.get("/v1/users").await?;
        assert_eq!(refused.json()?["detail"], unknown.json()?["detail"]);
        let path = format!("/v1/api-keys/{id}");
        assert_eq!(owner.get(&path).await?.expect(200)?["status"], "expired");
        assert_eq!(patch(&owner, &path, json!({ "expires_at": null })).await?.problem(409)?, "not_possible");
        assert_eq!(owner.call(Method::POST, &format!("{path}/revoke"), None, &[]).await?.status, 204);
        Ok(())
    }

    /// What is over the limit is refused before anything happens, and told when to come back.
    async fn a_limited_key_is_held_to_its_limit(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let owner = tenant(&service, "acme").await?;
        let limit = json!({ "requests": 3, "per_seconds": 86_400 });
        let new = json!({ "name": "x", "scopes": ["users.*.tenant"], "rate_limit": limit });
        let (_, key) = issue(&service, &owner, new.clone()).await?;
        let user = |number: u32| json!({ "email": format!("user{number}@example.org"), "name": "User" });
        let made = key.post("/v1/users", &user(0)).await?;
        made.expect(201)?;
        assert_eq!(made.header("ratelimit-policy"), "\"key\";q=3;w=86400");
        assert_eq!(made.header("ratelimit"), "\"key\";r=2;t=28800");
        let forbidden = key.get("/v1/audit").await?;
        assert_eq!((forbidden.problem(403)?.as_str(), forbidden.header("ratelimit")), ("forbidden", "\"key\";r=1;t=57600"));
        key.post("/v1/users", &user(1)).await?.expect(201)?;
        let refused = key.post("/v1/users", &user(2)).await?;
        assert_eq!(refused.problem(429)?, "rate_limited");
        assert!(refused.header("ratelimit").starts_with("\"key\";r=0;"), "{}", refused.header("ratelimit"));
        let wait: u64 = refused.header("retry-after").parse()?;
        assert!((1..=28_800).contains(&wait), "{wait}");

        let probe = owner.post("/v1/users", &user(3)).await?;
        assert!(probe.header("ratelimit").is_empty(), "the owner has no limit");
        let list = get_after(&owner, "/v1/users", &probe).await?.expect(200)?;
        assert_eq!(list["data"].as_array().map(Vec::len), Some(3), "nothing came of the refused one");
        let (_, other) = issue(&service, &owner, new).await?;
        assert_eq!(other.get("/v1/users").await?.status, 200, "each key has its own");
        Ok(())
    }

    /// A refusal for too many requests is not the answer of the request: sent again under its key it happens.
    async fn a_request_refused_by_the_limit_can_be_sent_again(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let owner = tenant(&service, "acme").await?;
        let limit = json!({ "requests": 1, "per_seconds": 2 });
        let new = json!({ "name": "x", "scopes": ["users.*.tenant"], "rate_limit": limit });
        let (_, key) = issue(&service, &owner, new).await?;
        let user = json!({ "email": "ada@example.org", "name": "Ada" });
        let named = [("idempotency-key", "one-user")];
        assert_eq!(key.get("/v1/users").await?.status, 200);
        let deadline = Instant::now() + PATIENCE;
        let mut refused = 0;
        loop {
            let reply = key.call(Method::POST, "/v1/users", Some(&user), &named).await?;
            if reply.status == 201 {
                break;
            }
            assert_eq!(reply.problem(429)?, "rate_limited");
            refused += 1;
            anyhow::ensure!(Instant::now() < deadline, "the limit never lets it through");
            tokio::time::sleep(Duration::from_secs(reply.header("retry-after").parse()?)).await;
        }
        assert!(refused > 0);
        Ok(())
    }

    /// A tenant without any key is not lost.
    async fn the_administrator_gives_a_lost_tenant_a_new_owners_key(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let admin = service.admin()?;
        let made = admin.post("/v1/tenants", &json!({ "name": "Acme", "slug": "acme" })).await?.expect(201)?;
        let owner = service.tenant(text(&made, "api_key")?)?;
        let list = until(&owner, "/v1/api-keys", |body| body["data"][0].is_object()).await?;
        let own = format!("/v1/api-keys/{}", text(&list["data"][0], "id")?);
        assert_eq!(owner.call(Method::POST, &format!("{own}/revoke"), None, &[]).await?.status, 204);
        assert_eq!(owner.get(&own).await?.problem(401)?, "unauthenticated");

        let path = format!("/v1/tenants/{}/api-keys", text(&made, "id")?);
        let issued = admin.post(&path, &json!({ "name": "second owner" })).await?;
        let second = service.tenant(text(&issued.expect(201)?, "api_key")?)?;
        let list = get_after(&second, "/v1/api-keys", &issued).await?.expect(200)?;
        assert_eq!((&list["data"][0]["name"], &list["data"][0]["scopes"]), (&json!("second owner"), &json!(["*"])));
        let trail = "/v1/audit?action=api_key.issued&actor=platform-admin";
        let trail = get_after(&second, trail, &issued).await?.expect(200)?;
        assert_eq!(trail["data"].as_array().map(Vec::len), Some(2), "the tenant sees who issued it");
        let nobody = admin.call(Method::POST, "/v1/tenants/ten_01ARZ3NDEKTSV4RRFFQ69G5FAV/api-keys", None, &[]).await?;
        assert_eq!(nobody.problem(404)?, "not_found");
        Ok(())
    }
}

/// What one process is told of a key, every other goes by: a new text at once, what is over within seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_goes_by_a_rotation_and_a_revocation() -> anyhow::Result<()> {
    let service = Tidings::start(tests::service::Engine::Cluster).await?;
    let other = service.beside().await?;
    let owner = tenant(&service, "acme").await?;
    let new = json!({ "name": "x", "scopes": ["users.*.tenant"] });
    let issued = owner.post("/v1/api-keys", &new).await?.expect(201)?;
    let path = format!("/v1/api-keys/{}", text(&issued, "id")?);
    let old = other.tenant(text(&issued, "api_key")?)?;
    assert_eq!(old.get("/v1/users").await?.status, 200);
    let rotated = owner
        .post(&format!("{path}/rotate"), &json!({ "overlap_seconds": 0 }))
        .await?
        .expect(200)?;
    let new = other.tenant(text(&rotated, "api_key")?)?;
    assert_eq!(
        new.get("/v1/users").await?.status,
        200,
        "nobody waits for a new text"
    );
    assert_eq!(until_not(&old, 200).await?.problem(401)?, "unauthenticated");
    assert_eq!(new.get("/v1/users").await?.status, 200);
    let revoked = owner
        .call(Method::POST, &format!("{path}/revoke"), None, &[])
        .await?;
    assert_eq!(revoked.status, 204);
    assert_eq!(until_not(&new, 200).await?.problem(401)?, "unauthenticated");
    Ok(())
}
