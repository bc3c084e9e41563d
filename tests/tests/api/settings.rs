//! `/v1/settings`: what a tenant decides about itself, and what it does.

use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::service::Tidings;

use crate::world::{get_after, tenant, text};

async fn change(api: &Api, change: &Value) -> anyhow::Result<Reply> {
    api.call(Method::PATCH, "/v1/settings", Some(change), &[]).await
}

for_each_engine! {
    /// Settings begin as defaults; each change is a version with who made it, and earlier ones can be restored.
    async fn settings_are_changed_told_and_restored(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, other) = (tenant(&service, "acme").await?, tenant(&service, "other").await?);
        let shown = api.get("/v1/settings").await?.expect(200)?;
        assert_eq!((&shown["version"], &shown["values"]), (&json!(0), &shown["defaults"]));
        let defaults = json!({
            "strict_event_types": false, "invitation_lifetime_hours": 168, "team_max_depth": 8,
            "secret_rotation_overlap_hours": 24, "api_key_max_lifetime_days": null, "allowed_email_domains": [],
            "audit_retention_days": null,
        });
        assert_eq!(shown["defaults"], defaults);

        let first = json!({ "team_max_depth": 3, "allowed_email_domains": ["Example.org"] });
        assert_eq!(change(&api, &first).await?.status, 204);
        let second = change(&api, &json!({ "team_max_depth": null, "api_key_max_lifetime_days": 90 })).await?;
        let shown = get_after(&api, "/v1/settings", &second).await?.expect(200)?;
        assert_eq!((&shown["version"], &shown["values"]["team_max_depth"]), (&json!(2), &json!(8)));
        assert_eq!(shown["values"]["allowed_email_domains"], json!(["example.org"]));

        let restore = api.post("/v1/settings/restore", &json!({ "version": 1 })).await?;
        assert_eq!(restore.status, 204);
        let page = get_after(&api, "/v1/settings/history?limit=2", &restore).await?.expect(200)?;
        let newest = &page["data"][0];
        assert_eq!((&newest["version"], &newest["restored"]), (&json!(3), &json!(1)));
        assert_eq!((&newest["values"]["team_max_depth"], &newest["values"]["api_key_max_lifetime_days"]), (&json!(3), &Value::Null));
        assert!(text(newest, "actor")?.starts_with("key_"));
        let next = format!("/v1/settings/history?cursor={}", text(&page, "next_cursor")?);
        let rest = api.get(&next).await?.expect(200)?;
        assert_eq!((rest["data"].as_array().map(Vec::len), &rest["data"][0]["version"]), (Some(1), &json!(1)));

        let unknown = api.post("/v1/settings/restore", &json!({ "version": 9 })).await?;
        assert_eq!(unknown.problem(409)?, "not_possible");
        for (bad, path) in [
            (json!({}), "."),
            (json!({ "team_max_depth": 21 }), "team_max_depth"),
            (json!({ "allowed_email_domains": ["*"] }), "allowed_email_domains[0]"),
            (json!({ "no_such": 1 }), "no_such"),
        ] {
            let refused = change(&api, &bad).await?.expect(422)?;
            assert_eq!(refused["errors"][0]["path"], path, "{bad}: {refused}");
        }
        assert_eq!(other.get("/v1/settings").await?.expect(200)?["version"], 0);
        Ok(())
    }

    /// Users may have addresses in the domains allowed only; who is there already stays.
    async fn addresses_outside_the_allowed_domains_are_refused(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let ada = json!({ "email": "ada@example.net", "name": "Ada" });
        let id = api.post("/v1/users", &ada).await?.expect(201)?;
        assert_eq!(change(&api, &json!({ "allowed_email_domains": ["example.org"] })).await?.status, 204);
        let bob = json!({ "email": "bob@example.net", "name": "Bob" });
        let refused = api.post("/v1/users", &bob).await?.expect(422)?;
        assert_eq!(refused["errors"][0]["path"], "email");
        let path = format!("/v1/users/{}", text(&id, "id")?);
        let away = api.call(Method::PATCH, &path, Some(&json!({ "email": "ada@sub.example.org" })), &[]).await?;
        assert_eq!(away.problem(422)?, "invalid_body");
        let into = api.call(Method::PATCH, &path, Some(&json!({ "email": "ada@EXAMPLE.org" })), &[]).await?;
        assert_eq!(into.status, 204);
        assert_eq!(change(&api, &json!({ "allowed_email_domains": null })).await?.status, 204);
        api.post("/v1/users", &bob).await?.expect(201)?;
        Ok(())
    }

    /// Nobody comes in from outside by an invitation or a list of commands; what was sent before the domains were
    /// narrowed is worth nothing until they are widened again.
    async fn no_way_leads_past_the_allowed_domains(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, anyone) = (tenant(&service, "acme").await?, service.anyone()?);
        let early = api.post("/v1/invitations", &json!({ "email": "early@example.net", "name": "E" })).await?.expect(201)?;
        let domains = json!({ "allowed_email_domains": ["example.org"] });
        assert_eq!(change(&api, &domains).await?.status, 204);
        let (inside, outside) = (json!({ "email": "in@example.org" }), json!({ "email": "out@example.net" }));
        let bulk = json!({ "invitations": [inside, outside] });
        for (path, body, place) in [
            ("/v1/invitations", &outside, "email"),
            ("/v1/invitations/bulk", &bulk, "invitations[1].email"),
        ] {
            let refused = api.post(path, body).await?.expect(422)?;
            assert_eq!(refused["errors"][0]["path"], place, "{refused}");
        }
        let commands = json!({ "commands": [
            { "command": "InviteUser", "data": outside },
            { "command": "RegisterUser", "data": { "email": "out@example.net", "name": "O" } },
            // The list before invited nobody, or this address would be taken.
            { "command": "InviteUser", "data": inside },
        ] });
        let results = api.post("/v1/commands", &commands).await?.expect(200)?["results"].take();
        for refused in [&results[0], &results[1]] {
            assert_eq!((&refused["status"], &refused["problem"]["errors"][0]["path"]), (&json!(422), &json!("data.email")));
        }
        assert_eq!(results[2]["status"], 201, "{results}");

        let resend = format!("/v1/invitations/{}/resend", text(&early, "id")?);
        let token = json!({ "token": text(&early, "token")? });
        assert_eq!(api.post(&resend, &json!({})).await?.problem(409)?, "not_possible");
        assert_eq!(anyone.post("/v1/invitations/accept", &token).await?.problem(409)?, "not_possible");
        assert_eq!(change(&api, &json!({ "allowed_email_domains": null })).await?.status, 204);
        anyone.post("/v1/invitations/accept", &token).await?.expect(201)?;
        Ok(())
    }
}
