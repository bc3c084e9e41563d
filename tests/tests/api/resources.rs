//! `/v1/tenants`, `/v1/users`, `/v1/endpoints`, `/v1/audit`, `/v1/stats`.

use reqwest::Method;
use serde_json::json;
use tests::for_each_engine;
use tests::service::Tidings;

use crate::world::{get_after, tenant, text};

for_each_engine! {
    /// A tenant's key works as soon as it is given out, and the administrator sees the tenant.
    async fn a_tenant_is_provisioned_listed_and_renamed(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let admin = service.admin()?;
        let made = admin.post("/v1/tenants", &json!({ "name": "Acme", "slug": "acme", "plan": "team" })).await?;
        let body = made.expect(201)?;
        let path = format!("/v1/tenants/{}", text(&body, "id")?);
        assert!(text(&body, "api_key")?.starts_with("tdk_"));
        assert_eq!(service.tenant(text(&body, "api_key")?)?.get("/v1/users").await?.status, 200);

        let shown = get_after(&admin, &path, &made).await?.expect(200)?;
        assert_eq!((text(&shown, "name")?, text(&shown, "slug")?, text(&shown, "plan")?), ("Acme", "acme", "team"));
        let renamed = admin.call(Method::PATCH, &path, Some(&json!({ "name": "Acme 2" })), &[]).await?;
        assert_eq!(renamed.status, 204);
        let list = get_after(&admin, "/v1/tenants", &renamed).await?.expect(200)?;
        assert_eq!(list["data"][0]["name"], "Acme 2");
        assert!(list["next_cursor"].is_null());

        let again = admin.post("/v1/tenants", &json!({ "name": "Other", "slug": "acme" })).await?;
        assert_eq!(again.problem(409)?, "slug_taken");
        Ok(())
    }

    /// Users are read back by whoever wrote them, addresses are unique by person, not by case, and free again
    /// once changed.
    async fn users_are_registered_changed_and_paged(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let mut last = None;
        for number in 0..5 {
            let user = json!({ "email": format!("user{number}@example.org"), "name": format!("User {number}") });
            let reply = api.post("/v1/users", &user).await?;
            reply.expect(201)?;
            last = Some(reply);
        }
        let last = last.expect("five were made");
        let id = text(&last.json()?, "id")?.to_owned();
        let path = format!("/v1/users/{id}");
        assert_eq!(get_after(&api, &path, &last).await?.expect(200)?["email"], "user4@example.org");

        let (mut seen, mut cursor) = (Vec::new(), String::new());
        for _ in 0..3 {
            let page = api.get(&format!("/v1/users?limit=2{cursor}")).await?.expect(200)?;
            seen.extend(page["data"].as_array().expect("rows").iter().map(|row| row["id"].to_string()));
            cursor = page["next_cursor"].as_str().map(|next| format!("&cursor={next}")).unwrap_or_default();
        }
        assert!(cursor.is_empty(), "the third page is the last");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 5);

        let taken = api.post("/v1/users", &json!({ "email": "USER4@example.org", "name": "X" })).await?;
        assert_eq!(taken.problem(409)?, "email_taken");
        let change = json!({ "email": "ada@example.org" });
        let changed = api.call(Method::PATCH, &path, Some(&change), &[]).await?;
        assert_eq!(changed.status, 204);
        assert_eq!(get_after(&api, &path, &changed).await?.expect(200)?["email"], "ada@example.org");
        api.post("/v1/users", &json!({ "email": "user4@example.org", "name": "X" })).await?.expect(201)?;

        let other = tenant(&service, "other").await?;
        other.post("/v1/users", &json!({ "email": "ada@example.org", "name": "Ada" })).await?.expect(201)?;
        assert_eq!(other.get(&path).await?.problem(404)?, "not_found");
        Ok(())
    }

    /// An endpoint goes through its whole life.
    async fn an_endpoint_is_created_changed_disabled_enabled_and_removed(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let new = json!({ "url": "https://example.org/hooks", "event_types": ["invoice.*"], "description": "Books" });
        let made = api.post("/v1/endpoints", &new).await?;
        let body = made.expect(201)?;
        assert!(text(&body, "secret")?.starts_with("whsec_"));
        let path = format!("/v1/endpoints/{}", text(&body, "id")?);
        let shown = get_after(&api, &path, &made).await?.expect(200)?;
        assert_eq!((text(&shown, "status")?, text(&shown, "description")?), ("enabled", "Books"));
        assert!(shown.get("secret").is_none(), "the secret is shown once");

        let change = json!({ "event_types": ["*"], "description": null });
        let changed = api.call(Method::PATCH, &path, Some(&change), &[]).await?;
        assert_eq!(changed.status, 204);
        let shown = get_after(&api, &path, &changed).await?.expect(200)?;
        assert_eq!(shown["event_types"], json!(["*"]));
        assert!(shown["description"].is_null());
        assert_eq!(text(&shown, "url")?, "https://example.org/hooks", "what is not named stays");

        let disabled = api.call(Method::POST, &format!("{path}/disable"), None, &[]).await?;
        assert_eq!(disabled.status, 204);
        assert_eq!(get_after(&api, &path, &disabled).await?.expect(200)?["status"], "disabled");
        let enabled = api.call(Method::POST, &format!("{path}/enable"), None, &[]).await?;
        assert_eq!(get_after(&api, &path, &enabled).await?.expect(200)?["status"], "enabled");

        let removed = api.call(Method::DELETE, &path, None, &[]).await?;
        assert_eq!(removed.status, 204);
        assert_eq!(get_after(&api, &path, &removed).await?.problem(404)?, "not_found");
        assert_eq!(api.call(Method::DELETE, &path, None, &[]).await?.problem(404)?, "not_found");
        Ok(())
    }

    /// Every change is on record with who made it, can be looked for, and exported.
    async fn the_audit_trail_tells_who_did_what(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let user = json!({ "email": "ada@example.org", "name": "Ada 100%" });
        let named = [("x-request-id", "my-request-1")];
        let made = api.call(Method::POST, "/v1/users", Some(&user), &named).await?;
        made.expect(201)?;
        assert_eq!(made.header("x-request-id"), "my-request-1");

        let found = get_after(&api, "/v1/audit?action=user.registered", &made).await?.expect(200)?;
        let entry = &found["data"][0];
        assert_eq!((text(entry, "command")?, text(entry, "request_id")?), ("RegisterUser", "my-request-1"));
        assert!(text(entry, "actor")?.starts_with("key_"));
        assert_eq!(text(entry, "origin")?, "127.0.0.1");
        assert_eq!(entry["data"]["email"], "ada@example.org");

        let count = async |query: &str| -> anyhow::Result<usize> {
            let page = api.get(&format!("/v1/audit?{query}")).await?.expect(200)?;
            Ok(page["data"].as_array().map_or(0, Vec::len))
        };
        assert_eq!(count("resource=user").await?, 1);
        assert_eq!(count("q=100%25").await?, 1);
        assert_eq!(count("q=100_").await?, 0, "a pattern of SQL is taken literally");
        assert_eq!(count("until=2020-01-01T00:00:00Z").await?, 0);
        assert_eq!(count("actor=platform-admin&action=api_key.issued").await?, 1, "the owner's key");
        assert_eq!(count("actor=platform-admin&resource=role").await?, 4, "the templates' roles");

        let csv = api.get("/v1/audit/export?format=csv").await?;
        let text = String::from_utf8(csv.body.to_vec())?;
        assert!(csv.header("content-type").starts_with("text/csv"));
        assert_eq!(text.lines().count(), 8, "a head, the key, that it was shown, four roles, the user: {text}");
        let lines = api.get("/v1/audit/export?format=jsonl&action=user.registered").await?;
        let line: serde_json::Value = serde_json::from_slice(&lines.body)?;
        assert_eq!(line["resource_type"], "user");
        Ok(())
    }
}
