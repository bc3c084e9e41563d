//! `/v1/users`: attributes, standing, preferences, roles and permissions of a user.

use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::service::Tidings;

use crate::world::{get_after, tenant, text};

/// A new user's address.
async fn user(api: &Api, body: &Value) -> anyhow::Result<(String, Reply)> {
    let made = api.post("/v1/users", body).await?;
    let path = format!("/v1/users/{}", text(&made.expect(201)?, "id")?);
    Ok((path, made))
}

/// A call that leaves nothing to tell.
async fn done(api: &Api, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Reply> {
    let reply = api.call(method, path, body, &[]).await?;
    anyhow::ensure!(reply.status == 204, "{path}: {} {:?}", reply.status, reply.body);
    Ok(reply)
}

for_each_engine! {
    /// Attributes are merged as RFC 7396 says, and bounded at their place.
    async fn attributes_are_given_merged_and_bounded(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let new = json!({ "email": "ada@example.org", "name": "Ada", "attributes": { "a": 1, "b": { "c": 2 } } });
        let (path, made) = user(&api, &new).await?;
        let shown = get_after(&api, &path, &made).await?.expect(200)?;
        assert_eq!(shown["attributes"], json!({ "a": 1, "b": { "c": 2 } }));
        assert_eq!((text(&shown, "status")?, &shown["roles"]), ("active", &json!([])));

        let patch = json!({ "attributes": { "a": null, "b": { "d": 3 } } });
        let changed = done(&api, Method::PATCH, &path, Some(&patch)).await?;
        let shown = get_after(&api, &path, &changed).await?.expect(200)?;
        assert_eq!(shown["attributes"], json!({ "b": { "c": 2, "d": 3 } }));

        let many: serde_json::Map<_, _> = (0..64).map(|number| (format!("key{number}"), json!(1))).collect();
        for (body, message) in [
            (json!({ "attributes": many }), "at most 64 keys"),
            (json!({ "attributes": { "a": "x".repeat(17_000) } }), "at most 16384 bytes"),
        ] {
            let refused = api.call(Method::PATCH, &path, Some(&body), &[]).await?;
            assert_eq!(refused.problem(422)?, "invalid_body");
            let error = &refused.json()?["errors"][0];
            assert_eq!(text(error, "path")?, "attributes");
            assert!(text(error, "message")?.contains(message), "{error}");
        }
        Ok(())
    }

    /// A user is deactivated, reactivated and removed; what it takes meanwhile follows its rules.
    async fn a_user_is_deactivated_reactivated_and_removed(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let (path, _) = user(&api, &json!({ "email": "ada@example.org", "name": "Ada" })).await?;
        let (other, _) = user(&api, &json!({ "email": "bob@example.org", "name": "Bob" })).await?;
        let preferences = format!("{path}/preferences");

        let reason = json!({ "reason": "Left the company" });
        let off = done(&api, Method::POST, &format!("{path}/deactivate"), Some(&reason)).await?;
        let shown = get_after(&api, &path, &off).await?.expect(200)?;
        assert_eq!((text(&shown, "status")?, text(&shown, "deactivated_reason")?), ("deactivated", "Left the company"));
        let refused = api.call(Method::PUT, &preferences, Some(&json!({ "theme": "dark" })), &[]).await?;
        assert_eq!(refused.problem(409)?, "not_possible");
        done(&api, Method::PATCH, &path, Some(&json!({ "name": "Ada Lovelace" }))).await?;

        let on = done(&api, Method::POST, &format!("{path}/reactivate"), None).await?;
        let shown = get_after(&api, &path, &on).await?.expect(200)?;
        assert_eq!((text(&shown, "status")?, text(&shown, "name")?), ("active", "Ada Lovelace"));
        assert!(shown.get("deactivated_reason").is_none());

        let gone = done(&api, Method::DELETE, &path, None).await?;
        for (query, expected) in [
            ("", vec!["bob@example.org"]),
            ("?status=removed", vec!["ada@example.org"]),
            ("?status=active", vec!["bob@example.org"]),
            ("?status=deactivated", vec![]),
        ] {
            let page = get_after(&api, &format!("/v1/users{query}"), &gone).await?.expect(200)?;
            let emails: Vec<_> = page["data"].as_array().expect("rows").iter().map(|row| &row["email"]).collect();
            assert_eq!(emails, expected, "{query}");
        }
        assert_eq!(api.get(&path).await?.expect(200)?["status"], "removed");
        for (method, path) in [
            (Method::DELETE, path.clone()),
            (Method::POST, format!("{path}/reactivate")),
            (Method::POST, format!("{path}/deactivate")),
        ] {
            assert_eq!(api.call(method, &path, None, &[]).await?.problem(409)?, "not_possible", "{path}");
        }
        // The address is free: for a new user, and for another to change to.
        let (again, _) = user(&api, &json!({ "email": "ADA@example.org", "name": "Another" })).await?;
        done(&api, Method::DELETE, &again, None).await?;
        done(&api, Method::PATCH, &other, Some(&json!({ "email": "ada@example.org" }))).await?;
        assert_eq!(api.get("/v1/users?status=gone").await?.problem(400)?, "invalid_query");
        Ok(())
    }

    /// Preferences are replaced as a whole.
    async fn preferences_are_set_and_shown(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let (path, made) = user(&api, &json!({ "email": "ada@example.org", "name": "Ada" })).await?;
        let preferences = format!("{path}/preferences");
        assert_eq!(get_after(&api, &preferences, &made).await?.expect(200)?, json!({}));
        for body in [json!({ "theme": "dark", "sizes": [1, 2] }), json!({ "theme": "light" })] {
            let set = done(&api, Method::PUT, &preferences, Some(&body)).await?;
            assert_eq!(get_after(&api, &preferences, &set).await?.expect(200)?, body);
        }
        let large = json!({ "a": "x".repeat(17_000) });
        let refused = api.call(Method::PUT, &preferences, Some(&large), &[]).await?;
        assert_eq!(refused.problem(422)?, "invalid_body");
        let gone = done(&api, Method::DELETE, &path, None).await?;
        assert_eq!(get_after(&api, &preferences, &gone).await?.problem(404)?, "not_found");
        Ok(())
    }

    /// Roles come at registration or later, are listed, filter the list, and go.
    async fn roles_are_granted_and_revoked(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let role = api.post("/v1/roles", &json!({ "name": "Readers", "permissions": ["users.read.tenant"] })).await?;
        let role = text(&role.expect(201)?, "id")?.to_owned();
        let new = json!({ "email": "ada@example.org", "name": "Ada", "roles": [role] });
        let (ada, _) = user(&api, &new).await?;
        let (bob, _) = user(&api, &json!({ "email": "bob@example.org", "name": "Bob" })).await?;
        let granted = done(&api, Method::PUT, &format!("{bob}/roles/{role}"), None).await?;
        let having = format!("/v1/users?role={role}");
        let page = get_after(&api, &having, &granted).await?.expect(200)?;
        assert_eq!(page["data"].as_array().expect("rows").len(), 2);
        assert_eq!(page["data"][0]["roles"], json!([role]));
        let page = api.get(&format!("{having}&email=ADA@example.org")).await?.expect(200)?;
        assert_eq!(page["data"].as_array().expect("rows").len(), 1);

        let revoked = done(&api, Method::DELETE, &format!("{ada}/roles/{role}"), None).await?;
        let page = get_after(&api, &having, &revoked).await?.expect(200)?;
        assert_eq!(page["data"].as_array().expect("rows").len(), 1);

        let unknown = "rol_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let refused = api.call(Method::PUT, &format!("{bob}/roles/{unknown}"), None, &[]).await?;
        assert_eq!(refused.problem(404)?, "not_found");
        let new = json!({ "email": "eve@example.org", "name": "Eve", "roles": [role, unknown] });
        let refused = api.post("/v1/users", &new).await?;
        assert_eq!(refused.problem(422)?, "invalid_body");
        assert_eq!(refused.json()?["errors"][0]["path"], "roles[1]");

        // Another tenant's role is no role here.
        let other = tenant(&service, "other").await?;
        let (theirs, _) = user(&other, &json!({ "email": "mal@example.org", "name": "Mal" })).await?;
        let refused = other.call(Method::PUT, &format!("{theirs}/roles/{role}"), None, &[]).await?;
        assert_eq!(refused.problem(404)?, "not_found");
        Ok(())
    }

    /// A user's rights are listed with where they come from, at once.
    async fn rights_tell_where_they_come_from(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let id = async |body: Value| -> anyhow::Result<String> {
            Ok(text(&api.post("/v1/roles", &body).await?.expect(201)?, "id")?.to_owned())
        };
        let base = id(json!({ "name": "Base", "permissions": ["users.read.tenant"] })).await?;
        let heir = id(json!({ "name": "Heir", "permissions": ["events.*.tenant"], "inherits": [base] })).await?;
        let new = json!({ "email": "ada@example.org", "name": "Ada", "roles": [heir] });
        let (ada, _) = user(&api, &new).await?;
        let single = |permission: &str| format!("{ada}/permissions/{permission}");
        done(&api, Method::PUT, &single("users.read.own"), Some(&json!({ "effect": "deny" }))).await?;
        done(&api, Method::PUT, &single("teams.read.own"), Some(&json!({ "effect": "allow" }))).await?;
        let rights = api.get(&format!("{ada}/permissions")).await?;
        assert!(!rights.header("tidings-position").is_empty());
        let expected = json!({ "active": true, "data": [
            { "permission": "teams.read.own", "effect": "allow", "through": [] },
            { "permission": "users.read.own", "effect": "deny", "through": [] },
            { "permission": "events.*.tenant", "effect": "allow", "through": [heir] },
            { "permission": "users.read.tenant", "effect": "allow", "through": [heir, base] },
        ]});
        assert_eq!(rights.expect(200)?, expected);

        let check = async |question: Value| -> anyhow::Result<(bool, String)> {
            let answer = api.post("/v1/permissions/check", &question).await?.expect(200)?;
            Ok((answer["allowed"] == true, text(&answer, "reason")?.to_owned()))
        };
        let user = ada.trim_start_matches("/v1/users/");
        let granted = format!("granted by users.read.tenant through {heir} > {base}");
        let denied = "denied by users.read.own of the user itself".to_owned();
        let stranger = "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        for (question, expected) in [
            (json!({ "user": user, "permission": "users.read.tenant" }), (true, granted)),
            (json!({ "user": user, "permission": "users.read.tenant", "resource": user }), (false, denied.clone())),
            (json!({ "user": user, "permission": "users.read.own" }), (false, denied)),
            (json!({ "user": user, "permission": "roles.read.own" }), (false, "nothing grants it".to_owned())),
            (json!({ "user": stranger, "permission": "users.read.own" }), (false, "the user is not active".to_owned())),
        ] {
            assert_eq!(check(question.clone()).await?, expected, "{question}");
        }

        done(&api, Method::DELETE, &single("users.read.own"), None).await?;
        done(&api, Method::DELETE, &format!("/v1/roles/{heir}"), None).await?;
        done(&api, Method::POST, &format!("{ada}/deactivate"), None).await?;
        let rights = api.get(&format!("{ada}/permissions")).await?.expect(200)?;
        let left = json!({ "active": false, "data": [
            { "permission": "teams.read.own", "effect": "allow", "through": [] },
        ]});
        assert_eq!(rights, left);
        for path in [single("users.read"), single("users.*.own")] {
            let refused = api.call(Method::PUT, &path, Some(&json!({ "effect": "deny" })), &[]).await?;
            assert_eq!(refused.problem(404)?, "not_found", "{path}");
        }
        Ok(())
    }
}
