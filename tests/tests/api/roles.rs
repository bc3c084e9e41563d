//! `/v1/roles`: templates, inheritance, unique names, and the audit trail of roles.

use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::Api;
use tests::service::Tidings;

use crate::world::{get_after, tenant, text};

async fn role(api: &Api, body: &Value) -> anyhow::Result<String> {
    let made = api.post("/v1/roles", body).await?;
    Ok(text(&made.expect(201)?, "id")?.to_owned())
}

for_each_engine! {
    /// Every new tenant has the templates' roles, in one commit, and keeps them.
    async fn templates_come_with_the_tenant_and_stay(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        // A write whose position is after the provisioning.
        let later = api.post("/v1/users", &json!({ "email": "ada@example.org", "name": "Ada" })).await?;
        let list = get_after(&api, "/v1/roles", &later).await?.expect(200)?;
        let rows = list["data"].as_array().expect("rows");
        let mut names: Vec<_> = rows.iter().map(|row| row["name"].as_str().expect("a name")).collect();
        names.sort_unstable();
        assert_eq!(names, ["admin", "auditor", "member", "owner"]);
        for row in rows {
            let path = format!("/v1/roles/{}", text(row, "id")?);
            assert_eq!(row["name"], row["template"]);
            assert_eq!(api.call(Method::DELETE, &path, None, &[]).await?.problem(409)?, "not_possible");
            let less = json!({ "permissions": [] });
            let changed = api.call(Method::PATCH, &path, Some(&less), &[]).await?;
            if row["name"] == "owner" {
                assert_eq!(row["permissions"], json!(["*"]));
                assert_eq!(changed.problem(409)?, "not_possible");
            } else {
                assert_eq!(changed.status, 204, "{row}");
            }
        }
        let audit = api.get("/v1/audit?action=role.defined").await?.expect(200)?;
        let positions: Vec<_> = audit["data"].as_array().expect("rows").iter().map(|row| &row["position"]).collect();
        assert_eq!(positions.len(), 4);
        assert!(positions.iter().all(|position| *position == positions[0]), "not one commit: {positions:?}");
        Ok(())
    }

    /// A role goes through its whole life; each event is audited as the role's own.
    async fn a_role_is_defined_changed_and_retired(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let base = role(&api, &json!({ "name": "Base", "permissions": ["users.read.tenant"] })).await?;
        let new = json!({
            "name": "Support", "description": "Helps", "permissions": ["events.read.tenant", "*.*.own"],
            "inherits": [base],
        });
        let made = api.post("/v1/roles", &new).await?;
        let id = text(&made.expect(201)?, "id")?.to_owned();
        let path = format!("/v1/roles/{id}");
        let shown = get_after(&api, &path, &made).await?.expect(200)?;
        assert_eq!((text(&shown, "name")?, text(&shown, "description")?), ("Support", "Helps"));
        assert_eq!(shown["permissions"], json!(["*.*.own", "events.read.tenant"]));
        assert_eq!(
            shown["effective_permissions"],
            json!(["*.*.own", "events.read.tenant", "users.read.tenant"])
        );

        let change = json!({ "name": "Second level", "description": null, "permissions": ["*"], "inherits": [] });
        let changed = api.call(Method::PATCH, &path, Some(&change), &[]).await?;
        assert_eq!(changed.status, 204);
        let shown = get_after(&api, &path, &changed).await?.expect(200)?;
        assert_eq!((text(&shown, "name")?, &shown["description"]), ("Second level", &Value::Null));
        assert_eq!((&shown["inherits"], &shown["effective_permissions"]), (&json!([]), &json!(["*"])));

        let retired = api.call(Method::DELETE, &path, None, &[]).await?;
        assert_eq!(retired.status, 204);
        assert_eq!(get_after(&api, &path, &retired).await?.problem(404)?, "not_found");
        assert_eq!(api.call(Method::DELETE, &path, None, &[]).await?.problem(404)?, "not_found");

        let audit = get_after(&api, &format!("/v1/audit?resource=role/{id}"), &retired).await?.expect(200)?;
        let actions: Vec<_> = audit["data"].as_array().expect("rows").iter().map(|row| &row["action"]).collect();
        let expected = [
            "role.retired",
            "role.inheritance_changed",
            "role.permissions_changed",
            "role.described",
            "role.renamed",
            "role.defined",
        ];
        assert_eq!(actions, expected);
        Ok(())
    }

    /// Names are unique by their letters, not their case, and free again once changed or retired.
    async fn role_names_are_unique_in_their_tenant(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, other) = (tenant(&service, "acme").await?, tenant(&service, "other").await?);
        let id = role(&api, &json!({ "name": "Ärzte" })).await?;
        let taken = api.post("/v1/roles", &json!({ "name": " ÄRZTE " })).await?;
        assert_eq!(taken.problem(409)?, "role_name_taken");
        assert_eq!(api.post("/v1/roles", &json!({ "name": "Owner" })).await?.problem(409)?, "role_name_taken");
        role(&other, &json!({ "name": "Ärzte" })).await?;
        let path = format!("/v1/roles/{id}");
        let renamed = api.call(Method::PATCH, &path, Some(&json!({ "name": "Doctors" })), &[]).await?;
        assert_eq!(renamed.status, 204);
        role(&api, &json!({ "name": "ärzte" })).await?;
        assert_eq!(api.call(Method::DELETE, &path, None, &[]).await?.status, 204);
        role(&api, &json!({ "name": "Doctors" })).await?;
        assert_eq!(other.get(&path).await?.problem(404)?, "not_found");
        Ok(())
    }

    /// Inheritance never runs in a circle, even when two changes that would close one come at once.
    async fn circles_are_refused_even_when_they_race(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let inherit = async |role: &str, from: &str| {
            let path = format!("/v1/roles/{role}");
            api.call(Method::PATCH, &path, Some(&json!({ "inherits": [from] })), &[]).await
        };
        for round in 0..8 {
            let one = role(&api, &json!({ "name": format!("one {round}") })).await?;
            let two = role(&api, &json!({ "name": format!("two {round}") })).await?;
            assert_eq!(inherit(&one, &one).await?.problem(409)?, "cycle");
            let (first, second) = tokio::join!(inherit(&one, &two), inherit(&two, &one));
            let (first, second) = (first?, second?);
            let mut statuses = [first.status, second.status];
            statuses.sort_unstable();
            assert_eq!(statuses, [204, 409], "round {round}");
            let refused = if first.status == 409 { first } else { second };
            assert_eq!(refused.problem(409)?, "cycle");
        }
        let unknown = json!({ "name": "X", "inherits": ["rol_01ARZ3NDEKTSV4RRFFQ69G5FAV"] });
        let refused = api.post("/v1/roles", &unknown).await?;
        assert_eq!(refused.problem(422)?, "invalid_body");
        assert_eq!(refused.json()?["errors"][0]["path"], "inherits");
        let malformed = json!({ "name": "X", "permissions": ["users.read.tenant", "users.read"] });
        let refused = api.post("/v1/roles", &malformed).await?;
        assert_eq!(refused.problem(422)?, "invalid_body");
        assert_eq!(refused.json()?["errors"][0]["path"], "permissions[1]");
        Ok(())
    }

    /// Nobody defines, changes, retires or gives what their own key does not cover.
    async fn a_key_gives_no_more_than_it_has(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let owner = tenant(&service, "acme").await?;
        let limited = async |scopes: Value| -> anyhow::Result<Api> {
            let new = json!({ "name": "limited", "scopes": scopes });
            let issued = owner.post("/v1/api-keys", &new).await?.expect(201)?;
            service.tenant(text(&issued, "api_key")?)
        };
        let api = limited(json!(["users.*.tenant", "roles.*.tenant"])).await?;
        let own = role(&api, &json!({ "name": "Own", "permissions": ["users.read.tenant"] })).await?;
        let large = role(&owner, &json!({ "name": "Large", "permissions": ["events.read.tenant"] })).await?;
        let heir = role(&owner, &json!({ "name": "Heir", "inherits": [large] })).await?;
        let ada = api.post("/v1/users", &json!({ "email": "ada@example.org", "name": "Ada", "roles": [own] })).await?;
        let ada = format!("/v1/users/{}", text(&ada.expect(201)?, "id")?);
        let eve = |role: &str| json!({ "email": "eve@example.org", "name": "Eve", "roles": [role] });
        let wide = format!("{ada}/permissions/events.read.own");

        let (one, two) = (format!("/v1/roles/{own}"), format!("/v1/roles/{heir}"));
        let forbidden = [
            (Method::POST, "/v1/roles".to_owned(), json!({ "name": "More", "permissions": ["events.read.tenant"] })),
            (Method::POST, "/v1/roles".to_owned(), json!({ "name": "More", "inherits": [heir] })),
            (Method::PATCH, one.clone(), json!({ "inherits": [large] })),
            (Method::PATCH, two.clone(), json!({ "name": "Mine" })),
            (Method::DELETE, two, Value::Null),
            (Method::POST, "/v1/users".to_owned(), eve(&heir)),
            (Method::PUT, format!("{ada}/roles/{heir}"), Value::Null),
            (Method::PUT, wide.clone(), json!({ "effect": "allow" })),
            (Method::DELETE, wide.clone(), Value::Null),
        ];
        for (method, path, body) in forbidden {
            let body = Some(&body).filter(|body| !body.is_null());
            let refused = api.call(method.clone(), &path, body, &[]).await?;
            assert_eq!(refused.problem(403)?, "forbidden", "{method} {path}");
            let detail = refused.json()?["detail"].to_string();
            assert!(detail.contains("events.read."), "{method} {path}: {detail}");
        }
        // To take away, or to deny, needs no more than the route does.
        for (method, path, body) in [
            (Method::PUT, wide, Some(json!({ "effect": "deny" }))),
            (Method::PATCH, one, Some(json!({ "name": "Mine" }))),
            (Method::DELETE, format!("{ada}/roles/{heir}"), None),
        ] {
            assert_eq!(api.call(method.clone(), &path, body.as_ref(), &[]).await?.status, 204, "{method} {path}");
        }
        let only_users = limited(json!(["users.*.tenant"])).await?;
        let refused = only_users.post("/v1/users", &eve(&own)).await?;
        assert_eq!(refused.problem(403)?, "forbidden");
        assert!(refused.json()?["detail"].to_string().contains("roles.grant.tenant"));
        Ok(())
    }
}
