//! What entries tell, and how they are found.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::Api;
use tests::service::Tidings;

use crate::world::{entries, tenant, text};

fn changes(row: &Value) -> Value {
    row["changes"].clone()
}

/// All entries of a query, page by page; each page holds at most `limit`.
async fn pages(api: &Api, query: &str, limit: usize) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api
            .get(&format!("/v1/audit?{query}&limit={limit}{cursor}"))
            .await?
            .expect(200)?;
        let rows = page["data"].as_array().context("data")?;
        ensure!(rows.len() <= limit, "a page of {}", rows.len());
        all.extend(rows.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(all),
        }
    }
}

fn names(rows: &[Value]) -> Vec<String> {
    rows.iter()
        .map(|row| format!("{}.{}", row["position"], row["version"]))
        .collect()
}

for_each_engine! {
    /// Who, what, when, where from, on what, old and new values, and what came of it.
    async fn an_entry_tells_everything(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (_, api) = tenant(&service, "acme").await?;
        let user = api.post("/v1/users", &json!({ "email": "ada@example.org", "name": "Ada" })).await?.expect(201)?;
        let path = format!("/v1/users/{}", text(&user, "id")?);
        let patch = async |path: &str, body: Value| -> anyhow::Result<u16> {
            let headers = [("x-request-id", "req-7"), ("correlation-id", "order-7")];
            Ok(api.call(Method::PATCH, path, Some(&body), &headers).await?.status)
        };
        assert_eq!(patch(&path, json!({ "name": "Ada L.", "attributes": { "a": 1 } })).await?, 204);
        assert_eq!(patch(&path, json!({ "attributes": { "a": 2 } })).await?, 204);
        let preferences = format!("{path}/preferences");
        for theme in ["dark", "light"] {
            assert_eq!(api.call(Method::PUT, &preferences, Some(&json!({ "theme": theme })), &[]).await?.status, 204);
        }
        let permission = format!("{path}/permissions/users.read.tenant");
        for effect in ["allow", "deny"] {
            assert_eq!(api.call(Method::PUT, &permission, Some(&json!({ "effect": effect })), &[]).await?.status, 204);
        }
        assert_eq!(patch("/v1/settings", json!({ "team_max_depth": 3 })).await?, 204);
        assert_eq!(api.post(&format!("{path}/deactivate"), &json!({ "reason": "Left" })).await?.status, 204);

        let rows = entries(&api, &format!("resource={}&limit=200", text(&user, "id")?), 9).await?;
        let of = |action: &str| rows.iter().filter(|row| row["action"] == action).collect::<Vec<_>>();
        let renamed = of("user.renamed")[0];
        assert_eq!(changes(renamed), json!([{ "field": "name", "from": "Ada", "to": "Ada L." }]));
        assert_eq!((&renamed["outcome"], &renamed["request_id"]), (&json!("success"), &json!("req-7")));
        assert_eq!((&renamed["correlation_id"], &renamed["origin"]), (&json!("order-7"), &json!("127.0.0.1")));
        assert_eq!((&renamed["command"], &renamed["resource_type"]), (&json!("UpdateUser"), &json!("user")));
        ensure!(text(renamed, "actor")?.starts_with("key_") && text(renamed, "at")?.ends_with('Z'), "{renamed}");
        let registered = changes(of("user.registered")[0]);
        assert_eq!(registered, json!([
            { "field": "email", "from": null, "to": "ada@example.org" }, { "field": "name", "from": null, "to": "Ada" },
        ]));
        assert_eq!(changes(of("user.attributes_changed")[0]), json!([{ "field": "attributes.a", "from": 1, "to": 2 }]));
        assert_eq!(changes(of("user.preferences_changed")[0]), json!([{ "field": "preferences.theme", "from": "dark", "to": "light" }]));
        assert_eq!(
            changes(of("user.permission_set")[0]),
            json!([{ "field": "permissions.users.read.tenant", "from": "allow", "to": "deny" }])
        );
        assert_eq!(changes(of("user.deactivated")[0])[0], json!({ "field": "active", "from": true, "to": false }));
        let settings = entries(&api, "action=settings.changed", 1).await?;
        assert_eq!(changes(&settings[0]), json!([{ "field": "team_max_depth", "from": null, "to": 3 }]));
        Ok(())
    }

    /// Entries are found by actor, action, resource, outcome, time and text, alone and together, and by nobody else.
    async fn entries_are_found_by_everything(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (_, api) = tenant(&service, "acme").await?;
        let (_, other) = tenant(&service, "other").await?;
        let mut users = Vec::new();
        for number in 0..7 {
            let new = json!({ "email": format!("user{number}@example.org"), "name": format!("User {number}") });
            users.push(text(&api.post("/v1/users", &new).await?.expect(201)?, "id")?.to_owned());
        }
        let key = api.post("/v1/api-keys", &json!({ "name": "second", "scopes": ["users.*.tenant"] })).await?.expect(201)?;
        let second = service.tenant(text(&key, "api_key")?)?;
        let middle = entries(&api, &format!("action=user.registered&resource={}", users[3]), 1).await?;
        for user in &users[..3] {
            let renamed = second.call(Method::PATCH, &format!("/v1/users/{user}"), Some(&json!({ "name": "Zoë" })), &[]).await?;
            assert_eq!(renamed.status, 204);
        }
        assert_eq!(second.call(Method::PATCH, &format!("/v1/users/{}", users[0]), Some(&json!({ "name": "" })), &[]).await?.status, 422);
        let key = text(&key, "id")?;
        entries(&api, "outcome=refused", 1).await?;
        let at = text(&middle[0], "at")?;
        let (first, none) = (&users[0], 0);
        for (query, count) in [
            (format!("actor={key}"), 4),
            (format!("actor={key}&action=user.renamed"), 3),
            (format!("actor={key}&outcome=refused"), 1),
            ("outcome=refused".to_owned(), 1),
            (format!("resource={first}"), 3),
            (format!("resource=user/{first}"), 3),
            (format!("resource=role/{first}"), none),
            (format!("resource={first}&actor={key}&action=user.renamed"), 1),
            ("resource=user".to_owned(), 11),
            ("action=user.registered".to_owned(), 7),
            (format!("action=user.registered&since={at}"), 4),
            (format!("action=user.registered&until={at}"), 3),
            (format!("action=user.registered&since={at}&until={at}"), none),
            ("q=Zo%C3%AB".to_owned(), 3),
            ("q=USER5@EXAMPLE".to_owned(), 1),
            ("q=100%25".to_owned(), none),
            ("actor=key_nobody".to_owned(), none),
        ] {
            let found = pages(&api, &query, 2).await?;
            assert_eq!(found.len(), count, "{query}: {:?}", names(&found));
            let unique: BTreeSet<_> = names(&found).into_iter().collect();
            assert_eq!(unique.len(), count, "{query}");
        }
        assert_eq!(pages(&other, &format!("resource={first}"), 50).await?.len(), 0);
        assert_eq!(pages(&other, &format!("actor={key}"), 50).await?.len(), 0);
        assert_eq!(api.get("/v1/audit?outcome=maybe").await?.problem(400)?, "invalid_query");
        Ok(())
    }

    /// A list that is read page by page while entries come in has each entry that was there when it began, once, from
    /// the newest on.
    async fn pages_stay_while_entries_come(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (_, api) = tenant(&service, "acme").await?;
        let register = async |number: usize| -> anyhow::Result<()> {
            let new = json!({ "email": format!("user{number}@example.org"), "name": "U" });
            api.post("/v1/users", &new).await?.expect(201)?;
            Ok(())
        };
        for number in 0..20 {
            register(number).await?;
        }
        let before = entries(&api, "limit=200&action=user.registered", 20).await?;
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        for round in 20.. {
            let page = api.get(&format!("/v1/audit?action=user.registered&limit=3{cursor}")).await?.expect(200)?;
            seen.extend(page["data"].as_array().context("data")?.iter().cloned());
            register(round).await?;
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let times: Vec<_> = seen.iter().map(|row| row["at"].to_string()).collect();
        ensure!(times.is_sorted_by(|later, earlier| later >= earlier), "{times:?}");
        assert_eq!(names(&seen), names(&before));
        Ok(())
    }
}
